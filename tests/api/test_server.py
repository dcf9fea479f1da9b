import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from pregao.api.schemas import CLOSES
from tests.api.conftest import LONG, training
from tests.api.test_train import begin, idle, mlflow_run
from tests.conftest import run

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


def port_of(pid, port):
    """Whether this is the process that answers: the one with an event loop."""
    return any("eventpoll" in os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir())


def test_the_inference_process_imports_no_pandas():
    code = "import sys; import pregao.api.inference_worker, pregao.models.trained; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def port_is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
    return True


def test_health_needs_a_model_that_answers(client):
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert "VALE3" in answer.json()["stocks"]
    assert answer.json()["problems"] == []


def test_models_tells_what_is_served(client):
    [model] = [model for model in client.get("/models").json()["models"] if model["stock"] == "VALE3"]
    assert {"stock", "version", "run_id", "metrics", "trained_at"} <= set(model)
    assert model["metrics"]["final_mape"] > 0


def test_metrics_count_requests_by_route_and_status(client):
    client.get("/nothing-of-the-kind")
    client.post("/predict", json={"stock": "VALE3"})
    text = client.get("/metrics").text
    counted = re.findall(r'pregao_requests_total\{method="POST",route="/predict",status="200"\} (\S+)', text)
    assert float(counted[0]) >= 1
    assert 'route="none",status="404"' in text
    assert "nothing-of-the-kind" not in text
    assert 'pregao_request_seconds_bucket{le="0.005",method="POST",route="/predict"' in text


def test_a_job_is_one_route_of_the_metrics(client):
    client.get("/train/" + "0" * 32)
    assert 'route="/train/{job}",status="404"' in client.get("/metrics").text


def test_info_and_documentation_answer(client):
    assert client.get("/info").json()["versions"]["litserve"]
    assert "swagger" in client.get("/docs").text.lower()
    assert {"/predict", "/train", "/statistics", "/models", "/health"} <= set(
        client.get("/openapi.json").json()["paths"]
    )


def test_every_example_of_the_documentation_works_when_it_is_pasted(client):
    paths = client.get("/openapi.json").json()["paths"]
    examples = paths["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert len(examples) == 3
    for example in examples.values():
        assert client.post("/predict", json=example["value"]).status_code == 200
    for example in paths["/train"]["post"]["requestBody"]["content"]["application/json"]["examples"].values():
        started = client.post("/train?wait=false", json=example["value"])
        assert started.status_code == 202
        client.delete(started.json()["status_url"])


def test_the_documentation_has_the_names_of_every_field_that_may_be_sent(client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert set(schemas["PredictRequest"]["properties"]) == {"stock", "historical_data"}
    assert set(schemas["TrainRequest"]["properties"]) == {"stock", "inicio", "fim", "overrides"}
    assert {"model.hidden_size", "trainer.max_epochs", "seed", "experiment"} <= set(schemas["Overrides"]["properties"])


@pytest.mark.slow
def test_only_who_has_the_key_comes_in(start):
    server = start(PREGAO_API_KEY="a key")
    client, key = server.client, {"X-API-Key": "a key"}
    for path in ("/models", "/statistics", "/metrics", "/info", "/train", "/train/x", "/nothing"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"X-API-Key": "another"}).status_code == 401
    assert client.post("/predict", json={"stock": "VALE3"}).status_code == 401
    assert client.post("/train", json=training()).status_code == 401
    assert client.delete("/train/x").status_code == 401
    for path in ("/health", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 200
    assert client.post("/predict", json={"stock": "VALE3"}, headers=key).status_code == 200
    assert client.get("/models", headers=key).status_code == 200
    assert "detail" in client.get("/models").json()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_every_process_and_frees_the_port(start, number):
    server = start()
    server.client.post("/predict", json={"stock": "VALE3"})
    assert server.stop(number) < 10
    assert server.process.returncode == 0
    assert port_is_free(server.port)
    assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_a_training_cancels_it(start, number, tmp_path):
    server = start()
    job = begin(server)
    assert server.stop(number) < 10
    assert port_is_free(server.port)
    assert "Traceback" not in server.log.read_text()
    again = start(home=server.home)
    told = again.job(job)
    assert told["state"] == "cancelled"
    assert "server ended" in told["error"]
    assert mlflow_run(again, told).info.status == "KILLED"


@pytest.mark.slow
def test_a_signal_while_it_starts_ends_every_process(start):
    for seconds in (0.5, 1.5, 3, 5):
        server = start(wait=False)
        time.sleep(seconds)
        assert server.stop() < 10
        assert port_is_free(server.port)


@pytest.mark.slow
def test_a_server_that_is_killed_ends_its_training_and_says_so_later(start):
    server = start()
    job = begin(server)
    processes = server.family()
    for pid in processes:  # all but the training, which is to find out by itself
        if b"pregao.training.worker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    server.process.wait()
    again = start(home=server.home)
    told = again.until(job, lambda job: job["state"] not in ("queued", "running"))
    assert told["state"] == "failed"
    assert "server ended" in told["error"]
    assert again.client.post("/predict", json={"stock": "VALE3"}).json()["model"]["version"] == 1
    assert again.client.post("/train?wait=false", json=training(overrides=LONG)).status_code == 202


@pytest.mark.slow
def test_a_killed_training_fails_and_leaves_the_served_model(server):
    idle(server)
    before = server.client.post("/predict", json={"stock": "VALE3"}).json()["model"]
    job = begin(server)
    [pid] = [pid for pid, line in server.command_lines().items() if "pregao.training.worker" in line]
    os.kill(pid, signal.SIGKILL)
    told = server.until(job, lambda job: job["state"] == "failed")
    assert "killed" in told["error"]
    assert mlflow_run(server, told).info.status == "FAILED"
    assert server.client.post("/predict", json={"stock": "VALE3"}).json()["model"] == before


@pytest.mark.slow
def test_a_killed_inference_process_is_replaced(start):
    server = start()
    [pid] = [pid for pid, line in server.command_lines().items() if "spawn_main" in line]
    os.kill(pid, signal.SIGKILL)
    answer = server.client.post("/predict", json={"historical_data": CLOSES}, timeout=30)
    assert answer.status_code == 200
    assert server.client.post("/predict", json={"stock": "VALE3"}, timeout=30).status_code == 200


@pytest.mark.slow
def test_a_killed_http_process_ends_the_server(start):
    server = start()
    [pid] = [pid for pid in server.family() if port_of(pid, server.port)]
    os.kill(pid, signal.SIGKILL)
    assert server.process.wait(10) == 1
    assert port_is_free(server.port)
    assert server.family() == []


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["removed", "corrupted"])
def test_a_lost_registry_leaves_the_model_in_memory(start, damage):
    server = start()
    assert server.client.post("/predict", json={"stock": "VALE3"}).status_code == 200
    database = server.home / "mlruns/mlflow.db"
    if damage == "removed":
        shutil.rmtree(database.parent)
    else:
        database.write_bytes(b"this is no database" * 1000)
    end = time.monotonic() + 20
    while not (problems := server.client.get("/health").json()["problems"]):
        assert time.monotonic() < end
        time.sleep(0.2)
    assert "memory" in problems[0]
    assert str(server.home) not in problems[0]
    assert server.client.get("/health").status_code == 200
    for body in ({"stock": "VALE3"}, {"historical_data": CLOSES}):
        assert server.client.post("/predict", json=body).status_code == 200
    assert server.client.get("/statistics").status_code in (200, 503)


@pytest.mark.slow
def test_a_model_that_is_promoted_elsewhere_is_followed(start, folder_of_prices):
    server = start()
    assert server.client.post("/predict", json={"stock": "VALE3"}).json()["model"]["version"] == 1
    overrides = ["start=2015-01-01", "end=2024-12-30", "model.hidden_size=4", "trainer.max_epochs=2"]
    source = ["source=csv", f"source.path={folder_of_prices}"]
    found = run("train.py", "stock=VALE3", "promote=always", *overrides, *source, home=server.home)
    assert found.returncode == 0, found.stderr
    assert server.client.post("/predict", json={"stock": "VALE3"}).json()["model"]["version"] == 2


@pytest.mark.slow
def test_a_slow_client_does_not_hold_a_connection_for_ever(start):
    server = start("deadline=2")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        connection.settimeout(10)
        assert b"504" in connection.recv(1000)


def test_a_taken_port_is_refused_without_a_trace(server, folder_of_prices, tmp_path):
    found = run("serve.py", f"port={server.port}", home=tmp_path, timeout=60)
    assert found.returncode == 2
    assert "Traceback" not in found.stderr
    assert str(server.port) in found.stderr


@pytest.mark.parametrize("choice", ["port=80", "port=x", "host=example.org", "stock=../x", "deadline=0", "source=csv"])
def test_a_choice_that_is_not_allowed_is_refused(choice, tmp_path):
    found = run("serve.py", choice, home=tmp_path, timeout=60)
    assert found.returncode == 2
    assert "Traceback" not in found.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_schemathesis_finds_no_fault_and_no_undocumented_answer(start):
    server = start()
    documented = schemathesis.openapi.from_url(f"{server.client.base_url}/openapi.json")
    for found in documented.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=50, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
        )
        def check(case):
            if case.operation.label == "POST /train":
                case.query = {**(case.query or {}), "wait": "false"}
            case.validate_response(case.call(timeout=60), checks=CHECKS)

        check()


@pytest.mark.slow
def test_the_first_answer_waits_for_what_ships_rather_than_deny_it(start):
    server = start(wait=False)
    answer = None
    while answer is None:
        with contextlib.suppress(httpx.ConnectError):
            answer = server.client.post("/predict", json={"stock": "VALE3"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"]["stock"] == "VALE3"
