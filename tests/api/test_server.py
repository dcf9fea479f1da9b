import json
import signal
import socket
import time
from pathlib import Path

import mlflow
import psutil
import pytest

from pregao.api import healthcheck
from pregao.api.schemas import CLOSES
from pregao.api.server import serve
from pregao.errors import InvalidChoice, PregaoError
from tests.api.conftest import SMALL, begin, free_port, port_is_free, serve_config, training, until


@pytest.mark.slow
def test_a_signal_ends_every_process_and_cancels_the_training(start):
    server = start()
    job = begin(server.client)
    server.stop()
    assert server.process.returncode == 0
    assert port_is_free(server.port)
    assert "Traceback" not in server.log.read_text()
    ended = json.loads((server.home / f"outputs/jobs/{job}/job.json").read_text())
    assert (ended["state"], "server ended" in ended["error"]) == ("cancelled", True)
    client = mlflow.MlflowClient(f"sqlite:///{server.home}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("VALE3").experiment_id
    assert client.search_runs([experiment], order_by=["start_time DESC"])[0].info.status == "KILLED"


@pytest.mark.slow
def test_a_signal_during_the_start_ends_every_process(start):
    for seconds, number in ((1.5, signal.SIGTERM), (4, signal.SIGINT)):
        server = start(wait=False)
        time.sleep(seconds)
        server.stop(number)
        assert port_is_free(server.port)


@pytest.mark.slow
def test_a_killed_inference_process_is_replaced_and_a_killed_http_process_ends_the_server(start):
    server = start()
    assert server.kill("inference")
    for body in ({"historical_data": CLOSES}, {"stock": "VALE3"}):
        assert server.client.post("/predict", json=body, timeout=30).status_code == 200
    processes = server.processes()
    assert server.kill("HTTP")
    assert server.process.wait(15) == 1
    assert port_is_free(server.port)
    assert not psutil.wait_procs(processes, 15)[1]


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_server_for_other_machines_needs_a_key_or_a_choice(host, monkeypatch):
    monkeypatch.delenv("PREGAO_API_KEY", raising=False)
    with pytest.raises(InvalidChoice, match=f"host={host} lets every machine.*PREGAO_API_KEY.*insecure=true"):
        serve_config(f"host='{host}'")
    assert serve_config(f"host='{host}'", "insecure=true").insecure
    monkeypatch.setenv("PREGAO_API_KEY", "a key")
    assert not serve_config(f"host='{host}'").insecure


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("python serve.py host=0.0.0.0 insecure=true", 5000),
        ("python serve.py host=0.0.0.0 port=8080", 8080),
        ("/sbin/docker-init -- pregao serve ++port=8080 source.path=/port=1", 8080),
    ],
)
def test_the_healthcheck_asks_the_port_of_the_command(words, expected):
    assert healthcheck.port("".join(f"{word}\0" for word in words.split()).encode()) == expected


def test_the_healthcheck_succeeds_for_a_ready_server_alone(client, tmp_path, monkeypatch):
    monkeypatch.setattr(healthcheck, "COMMAND", tmp_path / "cmdline")
    healthcheck.COMMAND.write_text(f"python\0serve.py\0port={client.base_url.port}\0")
    assert healthcheck.main() == 0
    monkeypatch.setattr(client.service.forecasts, "ready", False)
    assert healthcheck.main() == 1
    healthcheck.COMMAND.write_text(f"python\0serve.py\0port={free_port()}\0")
    assert healthcheck.main() == 1


def test_a_port_that_is_taken_is_refused(home):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PregaoError, match=f"port={port} on host=127.0.0.1"):
            serve(serve_config(f"port={port}"))


@pytest.mark.slow
def test_a_moved_home_answers_and_trains_at_its_new_place(start, tmp_path):
    def predicted(server):
        answer = server.client.post("/predict", json={"stock": "VALE3"}).json()
        return answer["model"], answer["forecast"]

    server = start()
    admin = {**SMALL, "promote": "never"}
    assert server.client.post("/train", json=training(overrides=admin)).status_code == 200
    before = predicted(server)
    server.stop()
    new = (tmp_path / "home").rename(tmp_path / "another place")
    again = start(home=new)
    assert predicted(again) == before
    assert again.client.post("/train", json=training(overrides=admin)).status_code == 200
    assert not (tmp_path / "home").exists()
    runs = again.client.get("/statistics?stock=VALE3").json()["experiments"][0]["runs"]
    assert len({run["artifact_uri"].rpartition("/mlruns/")[0] for run in runs}) == 1


@pytest.mark.slow
def test_no_process_of_the_server_imports_pytorch_lightning_or_mlflow(start, tmp_path):
    """Only the processes that train or change the registry do, and they end."""
    first = start()
    until(lambda: {one["version"] for one in first.client.get("/models").json()["models"]}, lambda found: found == {1})
    first.stop()
    server = start(home=first.home, log=tmp_path / "imports", PYTHONPROFILEIMPORTTIME="1")
    for body in ({"stock": "VALE3"}, {"historical_data": CLOSES}, {"stock": "VALE3", "version": 1}):
        assert server.client.post("/predict", json=body).status_code == 200
    for path in ("/statistics", "/accuracy", "/models", "/metrics", "/info", "/models/VALE3/export"):
        assert server.client.get(path).status_code == 200
    lines = server.log.read_text().splitlines()
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in lines if line.startswith("import time:")}
    assert {"litserve", "onnxruntime", "pandas"} <= imported
    assert not {"torch", "pytorch_lightning", "mlflow", "scipy"} & imported
    answer = server.client.post("/train", json=training(), timeout=120).json()
    assert answer["version"] == 2, answer
    assert server.client.post("/predict", json={"stock": "VALE3"}).status_code == 200
    for role in ("HTTP", "inference", "starter"):
        assert "libtorch" not in Path(f"/proc/{server.process_of(role).pid}/maps").read_text()
