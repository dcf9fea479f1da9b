import json
import os
import signal
import subprocess
import sys
import time

import mlflow
import pytest

from pregao.config import SourceChoices
from pregao.errors import InvalidChoice, NoModel, NoSuchJob, TrainingRuns
from pregao.settings import settings
from pregao.tracking import registry
from pregao.training import jobs, worker
from pregao.training.compose import train_config
from pregao.training.jobs import Jobs

SMALL = {"model.hidden_size": 4, "trainer.max_epochs": 2}
LONG = {"model.hidden_size": 4, "trainer.max_epochs": 1000, "trainer.patience": 1000}


@pytest.fixture
def here(home):
    made = Jobs()
    yield made
    made.cancel_own("The test is over.")


@pytest.fixture
def configure(vale3, prices):
    def made(overrides=SMALL, start="2015-01-01", end="2024-12-30"):
        return train_config(vale3, start, end, SourceChoices(name="csv", path=prices), overrides)

    return made


def begin(here, config):
    with here.lock() as lock:
        return here.start(lock, config)


def until(here, job, condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition(found := here.read(job.id)):
        assert time.monotonic() < end, found
        time.sleep(0.05)
    return found


def status_of_the_run():
    client = mlflow.MlflowClient(settings().tracking_uri)
    [run] = client.search_runs([client.get_experiment_by_name("VALE3").experiment_id])
    return run.info.status


def test_a_job_trains_registers_and_remembers(here, configure, vale3):
    job = begin(here, configure())
    assert job.state == "queued"
    found = until(here, job, lambda job: job.ended)
    assert (found.state, found.progress, found.error) == ("done", 1.0, None)
    assert found.result["version"] == registry.champion(vale3).version
    assert found.result["promoted"] is True
    assert Jobs().read(job.id) == found
    assert Jobs().all() == [found]


def test_one_training_at_a_time(here, configure):
    with here.lock(), pytest.raises(TrainingRuns, match="just starting"), Jobs().lock():
        pass
    job = begin(here, configure(LONG))
    with pytest.raises(TrainingRuns, match=job.id), Jobs().lock():
        pass
    assert here.running().id == job.id
    here.cancel(job.id)
    with here.lock():
        pass
    assert here.running() is None


def test_a_cancelled_job_leaves_no_model(here, configure, vale3):
    job = begin(here, configure(LONG))
    until(here, job, lambda job: job.epoch >= 1)
    cancelled = Jobs().cancel(job.id, "Enough.")
    assert (cancelled.state, cancelled.error) == ("cancelled", "Enough.")
    assert status_of_the_run() == "KILLED"
    with pytest.raises(NoModel):
        registry.champion(vale3)


def test_a_job_that_is_cancelled_while_it_starts_is_cancelled(here, configure):
    job = begin(here, configure(LONG))
    assert here.cancel(job.id).state == "cancelled"
    assert here.read(job.id).state == "cancelled"


def test_a_killed_job_has_failed(here, configure):
    job = begin(here, configure(LONG))
    until(here, job, lambda job: job.epoch >= 1)
    here._children[job.id].kill()
    found = until(here, job, lambda job: job.ended)
    assert found.state == "failed"
    assert "killed" in found.error
    assert status_of_the_run() == "FAILED"


def test_a_refused_job_has_failed_with_the_sentence(here, configure):
    job = begin(here, configure(start="2024-10-01"))
    found = until(here, job, lambda job: job.ended)
    assert (found.state, found.refusal) == ("failed", "TooFewSessions")
    assert "needed" in found.error
    assert not (settings().outputs / "VALE3").exists()


@pytest.mark.slow
def test_a_job_whose_starter_is_killed_ends_and_says_so(here, configure, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(configure(LONG).model_dump_json())
    code = (
        "import sys, json, time; from pathlib import Path; from pregao.training.jobs import Jobs; "
        "from pregao.config import parse; from pregao.training.config import TrainConfig\n"
        "jobs = Jobs(); config = parse(TrainConfig, json.loads(Path(sys.argv[1]).read_text()))\n"
        "with jobs.lock() as lock: print(jobs.start(lock, config).id, flush=True)\n"
        "time.sleep(600)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, text=True)
    job = here.read(starter.stdout.readline().strip())
    until(here, job, lambda job: job.epoch >= 1)
    starter.kill()
    starter.communicate()
    with pytest.raises(TrainingRuns), here.lock():
        pass
    found = until(here, job, lambda job: job.ended)
    assert (found.state, found.error) == ("failed", "The server ended while this training ran.")
    assert status_of_the_run() == "KILLED"


def test_unknown_jobs_are_refused(here):
    for id in ("x", "0" * 32, "../../etc", ""):
        with pytest.raises(NoSuchJob):
            here.read(id)
    assert here.all() == []


def test_a_job_of_the_previous_version_is_read(here):
    id = "0123456789abcdef" * 2
    folder = settings().jobs / id
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(
        json.dumps(
            {"id": id, "stock": "VALE3", "state": "done", "created": "2025-07-28T12:00:00.123+00:00"}
            | {"finished": "2025-07-28T12:00:09.456+00:00", "progress": 1.0, "epoch": 9, "epochs": 9}
            | {"train_loss": None, "val_loss": 0.15, "result": {"version": 1}, "error": None, "refusal": None}
        )
    )
    (settings().jobs / "latest").write_text(id)
    assert here.all() == [here.read(id)]
    assert (here.read(id).val_loss, here.read(id).result, here.running()) == (0.15, {"version": 1}, None)


def test_a_configuration_is_what_train_py_would_make(configure):
    config = configure({"model": "absolute", "seed": 3, "trainer.patience": None})
    assert config.model["_target_"] == "pregao.models.absolute.AbsoluteModel"
    assert (config.seed, config.trainer.patience) == (3, None)
    assert (config.stock, config.start, config.end) == ("VALE3", "2015-01-01", "2024-12-30")


def test_choices_that_do_not_go_together_are_refused(configure):
    with pytest.raises(InvalidChoice, match="shrinkage"):
        configure({"model": "absolute", "model.shrinkage": 0.5})


def test_a_path_with_signs_of_hydras_grammar_is_read_as_it_is(vale3, tmp_path):
    folder = tmp_path / "a {b}, 'c' ${d}=e"
    folder.mkdir()
    source = SourceChoices(name="csv", path=folder)
    assert train_config(vale3, "2020-01-01", None, source, {}).source.path == folder


def test_old_jobs_are_forgotten(here, configure, monkeypatch):
    monkeypatch.setattr(jobs, "KEPT", 2)
    made = []
    for _ in range(3):
        made.append(begin(here, configure(LONG)))
        here.cancel(made[-1].id)
    assert [job.id for job in here.all()] == [job.id for job in made[:0:-1]]


def test_a_training_is_nice(here, configure):
    job = begin(here, configure(LONG))
    until(here, job, lambda job: job.state == "running")
    assert os.getpriority(os.PRIO_PROCESS, here._children[job.id].pid) == worker.NICENESS
    os.kill(here._children[job.id].pid, signal.SIGTERM)
    assert until(here, job, lambda job: job.ended).state == "cancelled"
