import asyncio
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from types import SimpleNamespace

import pandas as pd
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pregao.api import collectors
from pregao.api.collectors import ServedStocks, ServerProcesses
from pregao.api.middleware import RequestMiddleware
from pregao.api.monitoring import OUTCOMES, Monitoring
from pregao.prices.calendar import last_finished_session, sessions
from pregao.training.job import Job
from tests.api.conftest import training
from tests.api.test_train import idle

HOSTILE_STOCKS = [
    'VALE3"} 1\npregao_ready 0',
    "../../etc/passwd",
    "A" * 5000,
    "${jndi:ldap://x}",
    "VALE3\\",
    "É",
    "ABCD11",
]
HOSTILE_PATHS = [
    "/%22%7D%201",
    "/train/" + "9" * 3000,
    "/predict/VALE3",
    "/..%2f..%2fetc/passwd",
    "/metrics%0Aevil",
    "/a/b?c",
]


def samples(text):
    """Each sample's value by its name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(client):
    return samples(client.get("/metrics").text)


def value(found, name, **labels):
    return found[name, tuple(sorted(labels.items()))]


def test_every_name_ends_in_what_its_kind_and_unit_ask_for(client):
    for family in text_string_to_metric_families(client.get("/metrics").text):
        assert re.fullmatch(r"(pregao|process)_[a-z_]+(_90_ratio)?", family.name)
        assert family.documentation
        names = {sample.name for sample in family.samples}
        if family.type == "counter":
            assert all(name.endswith(("_total", "_created")) for name in names)
        else:
            assert not any(name.endswith("_total") for name in names)
        assert not re.search(r"(milliseconds|_ms|minutes|megabytes|percent)(_|$)", family.name)


def test_a_scrape_tells_what_is_served_and_how_old_it_is(client):
    client.post("/predict", json={"stock": "VALE3"})
    found = scraped(client)
    [model] = [model for model in client.get("/models").json()["models"] if model["stock"] == "VALE3"]
    assert value(found, "pregao_ready") == 1
    assert value(found, "pregao_problems") == 0
    assert value(found, "pregao_model_version", stock="VALE3") == model["version"]
    trained = value(found, "pregao_model_trained_timestamp_seconds", stock="VALE3")
    assert datetime.fromtimestamp(trained, UTC) == datetime.fromisoformat(model["trained_at"])


def test_the_newest_close_is_told_with_the_sessions_that_it_lacks(client):
    as_of = client.post("/predict", json={"stock": "VALE3"}).json()["as_of"]
    found = scraped(client)
    day = datetime.fromtimestamp(value(found, "pregao_newest_close_timestamp_seconds", stock="VALE3"), UTC).date()
    assert day.isoformat() == as_of
    missed = sessions("BVMF", day, last_finished_session("BVMF"))[1:]
    assert value(found, "pregao_newest_close_behind_sessions", stock="VALE3") == len(missed) > 0


def test_forecasts_from_memory_are_told_from_those_that_were_computed(client):
    client.post("/predict", json={"stock": "VALE3"})
    before = scraped(client)
    for _ in range(5):
        client.post("/predict", json={"stock": "VALE3"})
    client.post("/predict", json={"historical_data": [50.0 + day for day in range(20)]})
    after = scraped(client)
    remembered, computed = (f"pregao_forecasts_{name}_total" for name in ("remembered", "computed"))
    assert 4 <= value(after, remembered) - value(before, remembered) <= 5  # the source is behind: one may look again
    assert 1 <= value(after, computed) - value(before, computed) <= 2


def test_hostile_stocks_and_paths_and_methods_add_no_label(client, server):
    def labels():
        return {key for key in scraped(client) if key[0].startswith("pregao_")}

    def ask():
        for stock in HOSTILE_STOCKS:
            client.post("/predict", json={"stock": stock})
            client.get("/statistics", params={"stock": stock})
        for path in HOSTILE_PATHS:
            client.get(path)
        for number in range(20):
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(f"EVIL{number} /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".encode())
                connection.recv(1000)
        for method in ("PROPFIND", "TRACE", "LOCK", "MKCOL", "REPORT", "M-SEARCH"):
            connection = http.client.HTTPConnection("127.0.0.1", server.port)
            connection.request(method, "/predict")
            connection.getresponse().read()
            connection.close()

    ask()
    known = labels()
    ask()
    assert labels() == known
    shown = {value for _, pairs in known for name, value in pairs if name != "le"}
    assert not [text for text in shown if "9999" in text or "EVIL" in text or "etc" in text or "jndi" in text]
    assert not {value for _, pairs in known for name, value in pairs if name == "stock"} & set(HOSTILE_STOCKS)
    methods = {value for _, pairs in known for name, value in pairs if name == "method"}
    assert methods <= {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "other"}


def test_stocks_beyond_the_limit_are_not_labelled(monkeypatch):
    monkeypatch.setattr(collectors, "MAX_STOCKS", 3)
    closes = {f"ABCD{number}": date(2024, 12, 30) for number in range(1, 10)}
    registry, prices = SimpleNamespace(problems={}, served={}), SimpleNamespace(newest_closes=lambda: closes)
    forecasts = SimpleNamespace(ready=True, registry=registry, prices=prices)
    [family] = [
        each for each in ServedStocks(forecasts).collect() if each.name == "pregao_newest_close_behind_sessions"
    ]
    assert {sample.labels["stock"] for sample in family.samples} == {"ABCD7", "ABCD8", "ABCD9"}


def finished(seconds, **changes):
    begun = pd.Timestamp("2024-12-30T12:00:00Z")
    ended = begun + pd.Timedelta(seconds=seconds)
    return Job("0" * 32, "VALE3", "done", begun.isoformat(), ended.isoformat(), **changes)


@pytest.mark.parametrize(
    ("job", "outcome"),
    [
        (finished(7, result={"promoted": True}), "promoted"),
        (finished(7, result={"promoted": False}), "kept"),
        (finished(7, refusal="TooFewSessions"), "refused"),
        (Job("0" * 32, "VALE3", "failed", "2024-12-30T12:00:00Z", "2024-12-30T12:00:07Z"), "failed"),
        (Job("0" * 32, "VALE3", "cancelled", "2024-12-30T12:00:00Z", "2024-12-30T12:00:07Z"), "cancelled"),
    ],
)
def test_a_training_is_counted_by_its_outcome_with_its_seconds(job, outcome):
    monitoring = Monitoring()
    monitoring.trained(job)
    found = samples(monitoring.text().decode())
    for name in OUTCOMES:
        assert value(found, "pregao_training_seconds_count", outcome=name) == (name == outcome)
    assert value(found, "pregao_training_seconds_sum", outcome=outcome) == pytest.approx(7)
    assert value(found, "pregao_training_seconds_bucket", outcome=outcome, le="5.0") == 0
    assert value(found, "pregao_training_seconds_bucket", outcome=outcome, le="10.0") == 1


@pytest.mark.slow
def test_a_training_of_the_server_is_seen_while_it_runs_and_when_it_ends(server):
    idle(server)
    before = scraped(server.client)
    job = server.client.post("/train?wait=false", json=training()).json()["job"]
    server.until(job, lambda job: job["state"] != "queued")
    during = scraped(server.client)
    assert value(during, "pregao_training_running") == 1
    assert value(during, "pregao_memory_bytes", part="training") > 10e6
    state = server.until(job, lambda job: job["state"] in ("done", "failed"))
    assert state["state"] == "done", state
    idle(server)
    end = time.monotonic() + 10
    while value(after := scraped(server.client), "pregao_training_running"):
        assert time.monotonic() < end
    outcome = "promoted" if state["result"]["promoted"] else "kept"
    name = "pregao_training_seconds_count"
    assert value(after, name, outcome=outcome) == value(before, name, outcome=outcome) + 1
    cpu = "pregao_cpu_seconds_total"
    assert value(after, cpu, part="training") > value(before, cpu, part="training") + 1
    assert value(after, "pregao_memory_bytes", part="training") == 0


def test_memory_and_processor_time_are_of_all_processes_of_the_server(client, server):
    found = scraped(client)
    alone = value(found, "process_resident_memory_bytes")
    processes = [psutil.Process(pid) for pid in server.family()]
    assert len(processes) > 2
    assert value(found, "pregao_memory_bytes", part="server") > 1.2 * alone
    spent = sum(sum(process.cpu_times()[:2]) for process in processes)
    assert value(found, "pregao_cpu_seconds_total", part="server") == pytest.approx(spent, abs=2)


def test_processor_time_of_a_process_that_ended_is_kept():
    def spent(part):
        [cpu, _] = ServerProcesses(os.getpid()).collect()
        return next(sample.value for sample in cpu.samples if sample.labels["part"] == part)

    before = spent("training")
    busy = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\ninput()"
    child = subprocess.Popen([sys.executable, "-c", busy], stdin=subprocess.PIPE)
    while spent("training") < before + 0.2:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdin.close()
    assert spent("training") >= before + 0.2


@pytest.mark.parametrize(
    ("path", "header", "given", "status"),
    [
        ("/metrics", "authorization", b"Bearer a key", 200),
        ("/metrics", "x-api-key", b"a key", 200),
        ("/metrics", "authorization", b"Bearer another", 401),
        ("/metrics", "authorization", b"Bearer ", 401),
        ("/metrics", "authorization", b"", 401),
        ("/models", "authorization", b"Bearer a key", 401),
        ("/models", "x-api-key", b"a key", 200),
    ],
)
def test_prometheus_comes_in_with_the_key_as_it_sends_it(path, header, given, status):
    async def behind(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    sent = []
    middleware = RequestMiddleware(behind, api_key="a key", max_body=1, deadline=5, monitoring=Monitoring())
    scope = {"type": "http", "method": "GET", "path": path, "headers": [(header.encode(), given)]}
    asyncio.run(middleware(scope, receive, send))
    assert sent[0]["status"] == status
