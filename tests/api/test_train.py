import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

import mlflow
import pytest

from pregao.api.routes import _ended
from pregao.api.trainings import STOPPED
from pregao.training.job import Job
from tests.api.conftest import LONG, SMALL, cancel_all, client_of, training, until
from tests.conftest import random_walk
from tests.test_readme import lines

ADMIN = {"X-Admin-Key": "an operator's key"}


def version(client):
    return client.post("/predict", json={"stock": "VALE3"}).json()["model"]["version"]


@pytest.fixture
def idle(client):
    cancel_all(client)
    yield client
    cancel_all(client)


def test_a_training_is_followed_to_its_end_and_its_model_is_served(idle, monkeypatch):
    monkeypatch.setenv("PREGAO_ADMIN_KEY", ADMIN["X-Admin-Key"])
    before = version(idle)
    overrides = {**SMALL, "promote": "always"}
    started = idle.post("/train?wait=false", json=training(overrides=overrides), headers=ADMIN).json()
    with idle.stream("GET", started["events_url"]) as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        states = [json.loads(line[6:]) for line in events.iter_lines() if line.startswith("data: ")]
    assert [job["progress"] for job in states] == sorted(job["progress"] for job in states)
    assert (states[-1]["state"], states[-1]["progress"]) == ("done", 1)
    result = states[-1]["result"]
    assert result["message"] == "Treino concluido com sucesso! O modelo foi atualizado!"
    assert {"stock", "version", "run_id", "metrics", "training_time"} <= set(result)
    days = random_walk(400)["date"].dt.date.astype(str)
    assert (result["inicio"], result["fim"]) == (days.iloc[0], days.iloc[-1]), (
        "the range that was used, not the wider one asked for"
    )
    assert result["version"] > before
    assert {version(idle) for _ in range(5)} == {result["version"]}
    run = mlflow.MlflowClient(f"sqlite:///{idle.home}/mlruns/mlflow.db").get_run(result["run_id"])
    assert run.data.params["hidden_size"] == "4"
    assert (idle.home / "outputs/VALE3" / run.info.run_name / ".hydra/config.yaml").is_file()


@pytest.mark.parametrize(
    ("key", "given", "why"),
    [
        (None, ADMIN, "this server accepts none, because PREGAO_ADMIN_KEY is not set"),
        ("chave de operação", {}, "its header X-Admin-Key is missing or wrong"),
        ("chave de operação", ADMIN, "its header X-Admin-Key is missing or wrong"),
    ],
)
def test_promote_always_needs_the_key_of_the_operator(idle, monkeypatch, caplog, key, given, why):
    if key is not None:
        monkeypatch.setenv("PREGAO_ADMIN_KEY", key)
    jobs = idle.get("/train").json()
    answer = idle.post("/train", json=training(overrides={**SMALL, "promote": "always"}), headers=given)
    assert answer.status_code == 403
    assert why in answer.json()["detail"]
    assert ("wrong X-Admin-Key" in caplog.text) == bool(given)
    assert idle.get("/train").json() == jobs
    assert not any(secret in answer.text + caplog.text for secret in (ADMIN["X-Admin-Key"], "chave de"))


@pytest.mark.slow
def test_one_of_many_trainings_starts_reports_its_progress_and_can_be_cancelled(idle):
    before = version(idle)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: idle.post("/train?wait=false", json=training(overrides=LONG)), range(8)))
    [started] = [answer.json() for answer in answers if answer.status_code == 202]
    refused = [answer for answer in answers if answer.status_code == 409]
    assert len(refused) == 7
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
    url = f"/train/{started['job']}"
    assert (started["status_url"], started["events_url"]) == (url, f"{url}/events")
    job = until(lambda: idle.get(url).json(), lambda job: job["epoch"] >= 2)
    assert (job["state"], 0 < job["progress"] < 1) == ("running", True)
    assert min(job["train_loss"], job["val_loss"]) > 0
    metrics = idle.get("/metrics").text
    assert "pregao_training_running 1.0" in metrics
    assert version(idle) == before
    for _ in range(2):
        assert idle.delete(url).json()["state"] == "cancelled"
    with idle.stream("GET", started["events_url"]) as events:
        assert [line for line in events.iter_lines() if line.startswith("event")] == ["event: cancelled"]
    until(lambda: idle.get("/metrics").text, lambda text: "pregao_training_running 0.0" in text)


@pytest.mark.parametrize(
    ("job", "status", "sentence"),
    [
        ({"state": "done", "result": {"promoted": False, "promotion": "no"}}, 200, "anterior continua em uso: no."),
        ({"state": "failed", "error": "/home/me/x is full."}, 500, "x is full."),
        ({"state": "failed", "error": "Too few.", "refusal": "TooFewSessions"}, 422, "Too few."),
        ({"state": "failed", "error": "Offline.", "refusal": "PricesUnavailable"}, 503, "Offline."),
        ({"state": "cancelled", "error": "It was cancelled."}, 409, "The training was cancelled. It was cancelled."),
        ({"state": "cancelled", "error": STOPPED}, 503, f"The training was cancelled. {STOPPED}"),
    ],
)
def test_the_response_depends_on_how_the_training_ended(job, status, sentence):
    answer = _ended(Job(id="0" * 32, stock="VALE3", created="2024-12-30T12:00:00Z", **job))
    body = json.loads(answer.body)
    detail = body.get("message") or body["detail"]
    assert answer.status_code == status
    assert (detail[0]["msg"] if status == 422 else detail).endswith(sentence)
    assert "/home" not in answer.body.decode()


@pytest.mark.slow
def test_a_training_without_enough_prices_is_refused_without_a_path_of_the_host(idle):
    answer = idle.post("/train", json={"stock": "SHRT3", "start": "2015-01-01", "end": "2024-12-30"})
    assert answer.status_code == 422
    assert "60 sessions" in answer.json()["detail"][0]["msg"]
    assert str(idle.home.parent) not in answer.text
    assert not (idle.home / "outputs/SHRT3").exists()


@pytest.mark.slow
def test_the_curl_calls_of_the_readme_work(tmp_path, monkeypatch):
    monkeypatch.setenv("PREGAO_HOME", str(tmp_path / "home"))
    random_walk(1500, last="2025-07-30").to_csv(tmp_path / "VALE3.csv", index=False)
    with client_of(tmp_path) as client:
        calls = [line.replace("localhost:5000", client.base_url.netloc.decode()) for line in lines("sh api")]
        predicted, trained, statistics = [json.loads(subprocess.check_output(["bash", "-c", call])) for call in calls]
    assert len(json.loads(predicted["preco"])) == 10
    assert predicted["model"]["version"] == 1
    assert trained["message"].startswith("Treino concluido com sucesso!")
    assert {run["run_id"] for e in statistics["experiments"] for run in e["runs"]} >= {trained["run_id"]}


def test_a_training_that_is_too_large_is_refused_with_the_figure(idle):
    before = idle.get("/train").json()["jobs"]
    large = {"model.hidden_size": 512, "model.num_layers": 8, "data.batch_size": 4096}
    for overrides, figure in (large, "MB of memory"), (large | {"trainer.max_epochs": 1000}, "windows × 1,000 epochs"):
        answer = idle.post("/train", json=training(overrides=overrides))
        [detail] = answer.json()["detail"]
        assert (answer.status_code, detail["type"], detail["loc"]) == (422, "TrainingTooLarge", ["body", "overrides"])
        assert figure in detail["msg"]
    assert idle.get("/train").json()["jobs"] == before
