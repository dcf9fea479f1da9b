import json
import os
import signal
import subprocess
import sys
import time
from operator import attrgetter

import mlflow
import pytest

from pregao.config import SourceChoices
from pregao.errors import NoModel, NoSuchJob, TrainingRuns
from pregao.settings import settings
from pregao.tracking import registry
from pregao.training import jobs, worker
from pregao.training.compose import train_config
from pregao.training.jobs import Jobs

SMALL = {"model.hidden_size": 4, "trainer.max_epochs": 2, "promote": "always"}
LONG = SMALL | {"trainer.max_epochs": 1000, "trainer.patience": 1000}


def config_of(vale3, prices, overrides):
    return train_config(vale3, "2015-01-01", "2024-12-30", SourceChoices(name="csv", path=prices), overrides)


@pytest.fixture
def here(home):
    made = Jobs()
    yield made
    made.cancel_own("The test is over.")


@pytest.fixture
def start(here, vale3, prices):
    """Start a job, wait until a condition on its state holds, and return that state."""

    def run(overrides=LONG, until=None):
        with here.lock() as lock:
            job = here.start(lock, config_of(vale3, prices, overrides))
        return wait(here, job, until) if until else job

    return run


def wait(here, job, until):
    end = time.monotonic() + 60
    while not until(found := here.read(job.id)):
        assert time.monotonic() < end, found
        time.sleep(0.05)
    return found


ENDED, TRAINS = attrgetter("ended"), attrgetter("epoch")


def status_of_the_run():
    client = mlflow.MlflowClient(settings().tracking_uri)
    [run] = client.search_runs([client.get_experiment_by_name("VALE3").experiment_id])
    return run.info.status


def test_a_job_trains_registers_and_is_kept(here, start, vale3):
    found = start(SMALL, until=ENDED)
    assert (found.state, found.progress, found.error) == ("done", 1.0, None)
    assert (found.epoch, found.epochs) == (2, 2)
    assert found.result["version"] == registry.champion(vale3).version
    assert found.result["promoted"] is True
    assert Jobs().read(found.id) == found
    assert Jobs().all() == [found]


def test_only_one_training_runs_at_a_time_and_a_cancelled_one_leaves_no_model(here, start, vale3, monkeypatch):
    with here.lock(), pytest.raises(TrainingRuns, match="just starting"), Jobs().lock():
        pass
    job = start(until=TRAINS)
    with pytest.raises(TrainingRuns, match=job.id), Jobs().lock():
        pass
    assert here.running().id == job.id
    assert os.getpriority(os.PRIO_PROCESS, here._children[job.id].pid) == worker.NICENESS
    # SIGINT comes before SIGKILL: a training that records its end is not marked by its parent.
    monkeypatch.setattr(jobs, "mark_dead", lambda *_: pytest.fail("the training was killed"))
    monkeypatch.setattr(jobs, "SECONDS_TO_STOP", 30)
    cancelled = Jobs().cancel(job.id, "Enough.")
    assert (cancelled.state, cancelled.error) == ("cancelled", "Enough.")
    assert status_of_the_run() == "KILLED"
    with pytest.raises(NoModel):
        registry.champion(vale3)
    with here.lock():
        assert here.running() is None


@pytest.mark.parametrize(
    ("sent", "state", "run"),
    [
        (signal.SIGKILL, "failed", "FAILED"),
        pytest.param(signal.SIGTERM, "cancelled", "KILLED", marks=pytest.mark.slow),
    ],
)
def test_a_signal_from_outside_ends_a_job(here, start, sent, state, run):
    job = start(until=TRAINS)
    os.kill(here._children[job.id].pid, sent)
    found = wait(here, job, ENDED)
    assert found.state == state
    assert found.error
    assert status_of_the_run() == run


STARTER = """
import json, sys, time
from pathlib import Path
from pregao.config import parse
from pregao.training.config import TrainConfig
from pregao.training.jobs import Jobs
jobs, config = Jobs(), parse(TrainConfig, json.loads(Path(sys.argv[1]).read_text()))
with jobs.lock() as lock:
    print(jobs.start(lock, config).id, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_job_whose_starter_is_killed_ends(here, vale3, prices, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(config_of(vale3, prices, LONG).model_dump_json())
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(file)], stdout=subprocess.PIPE, text=True)
    job = here.read(starter.stdout.readline().strip())
    wait(here, job, TRAINS)
    starter.kill()
    starter.communicate()
    with pytest.raises(TrainingRuns), here.lock():
        pass
    found = wait(here, job, ENDED)
    assert (found.state, found.error) == ("failed", "The server ended while this training ran.")
    assert status_of_the_run() == "KILLED"


def written(number, **changed):
    """A finished job in the folder, as a previous version wrote it."""
    id = f"{number:032x}"
    folder = settings().jobs / id
    folder.mkdir(parents=True)
    times = {"created": f"2025-07-28T12:00:0{number}.123+00:00", "finished": "2025-07-28T12:00:09.456+00:00"}
    job = {"id": id, "stock": "VALE3", "state": "done", "progress": 1.0, "epoch": 9, "epochs": 9} | times
    job |= dict.fromkeys(["train_loss", "error", "refusal"]) | {"val_loss": 0.15, "result": {"version": 1}} | changed
    (folder / "job.json").write_text(json.dumps(job))
    os.utime(folder, (number, number))
    return id


def test_an_unknown_or_damaged_job_is_refused_and_not_listed(here):
    (settings().jobs / written(1) / "job.json").write_text("{")
    for id in ("x", "0" * 32, "../../etc", "", f"{1:032x}"):
        with pytest.raises(NoSuchJob):
            here.read(id)
    assert here.all() == []


def test_jobs_of_the_previous_version_are_listed_newest_first_and_without_a_process_have_failed(here):
    one, two = written(1), written(2, state="running", finished=None)
    (settings().jobs / "latest").write_text(one)
    assert [(job.id, job.state) for job in here.all()] == [(two, "failed"), (one, "done")]
    assert (here.read(one).val_loss, here.read(one).result, here.running()) == (0.15, {"version": 1}, None)
    assert here.read(two).finished is not None


def test_a_job_can_be_cancelled_while_it_starts_and_the_oldest_ones_are_deleted(here, start, monkeypatch):
    monkeypatch.setattr(jobs, "KEPT", 2)
    _, two = written(1), written(2)
    job = start()
    assert (job.state, here.cancel(job.id).state) == ("queued", "cancelled")
    assert [found.id for found in here.all()] == [job.id, two]
