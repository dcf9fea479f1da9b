import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import asdict
from operator import attrgetter

import mlflow
import pytest

from pregao.config import SourceChoices
from pregao.errors import NoModel, NoSuchJob, StorageError, TrainingRuns, TrainingTooLarge
from pregao.settings import settings
from pregao.tracking import registry
from pregao.training import jobs, worker
from pregao.training.checked import CheckedTraining
from pregao.training.compose import train_config
from pregao.training.config import LimitChoices
from pregao.training.job import RESERVE, Job, now
from pregao.training.jobs import Jobs
from tests.conftest import settle
from tests.disks import disk, fill, remount  # noqa: F401 - a fixture

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

    def run(overrides=LONG, until=None, **bounds):
        limits = LimitChoices(**{"operations": None, "memory": None, "minutes": None} | bounds)
        config = config_of(vale3, prices, overrides).model_copy(update={"limits": limits})
        with here.lock() as lock:
            job = here.start(lock, CheckedTraining.of(config))
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


def test_a_training_that_is_too_large_makes_no_job_and_one_that_takes_too_long_has_failed_with_a_sentence(here, start):
    with pytest.raises(TrainingTooLarge, match=r"limits\.operations"):
        start(SMALL, operations=10)
    assert list(settings().jobs.iterdir()) == [settings().jobs / ".training"]
    found = start(LONG, until=ENDED, minutes=0.1)
    assert (found.state, found.refusal) == ("failed", "LimitReached")
    assert "more than 0.1 minutes (limits.minutes)" in found.error


@pytest.fixture
def seen(home):
    """The states and sentences by job, as three readers see them who look at every moment."""

    def read():
        while not over.is_set():
            for job in Jobs().all():
                found[job.id].add((job.state, job.error))

    over, found = threading.Event(), defaultdict(set)
    readers = [threading.Thread(target=read, daemon=True) for _ in range(3)]
    for thread in readers:
        thread.start()
    yield found
    over.set()
    for thread in readers:
        thread.join()


def test_a_starting_job_is_never_seen_as_failed_and_a_cancelled_one_never_as_failed(seen, monkeypatch):
    code = "import signal, sys; signal.signal(signal.SIGINT, lambda *_: sys.exit()); input()"  # it records no end
    popen = subprocess.Popen
    monkeypatch.setattr(jobs.subprocess, "Popen", lambda _, **options: popen([sys.executable, "-c", code], **options))
    here = Jobs()
    for number in range(20):
        with here.lock() as lock:
            job = here.start(lock, CheckedTraining("VALE3", 1, "{}"))
        assert seen[job.id] <= {("queued", None)}
        if number % 2:
            here.cancel(job.id, "Enough.")
        else:
            here._children[job.id].kill()
        ended = wait(here, job, ENDED)
        assert ended.state == ("cancelled" if number % 2 else "failed")
        assert seen[job.id] <= {("queued", None), (ended.state, ended.error)}


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
from pregao.training.checked import CheckedTraining
from pregao.training.config import TrainConfig
from pregao.training.jobs import Jobs
jobs, config = Jobs(), parse(TrainConfig, json.loads(Path(sys.argv[1]).read_text()))
with jobs.lock() as lock:
    print(jobs.start(lock, CheckedTraining.of(config)).id, flush=True)
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


def test_a_job_that_was_cancelled_before_its_process_could_be_signalled_ends_as_cancelled(home):
    folder = settings().jobs / ("0" * 32)
    folder.mkdir(parents=True)
    Job(folder.name, "VALE3", "queued", now()).write(folder)
    (folder / "reason").write_text("Enough.")
    command = [sys.executable, "-m", "pregao.training.worker", folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        process.wait(60)
    found = json.loads((folder / "job.json").read_text())
    assert (found["state"], found["error"]) == ("cancelled", "Enough.")


@pytest.mark.parametrize(
    "error", [SystemExit(1), ImportError("half imported"), ValueError("while the signal was handled")]
)
def test_a_cancelled_job_is_cancelled_whatever_error_the_signal_causes(home, error):
    folder = settings().jobs / ("0" * 32)
    folder.mkdir(parents=True)
    Job(folder.name, "VALE3", "running", now()).write(folder)
    (folder / "reason").touch()
    tested = worker.Worker(folder)
    before = signal.getsignal(signal.SIGINT)
    try:
        tested._fail(error)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (Jobs().read(folder.name).state, Jobs().read(folder.name).error) == ("cancelled", "It was cancelled.")


@pytest.fixture
def small_disk(disk, empty_database, monkeypatch, here):  # noqa: F811 - the imported fixture
    """A disk that holds the home; `here` is in it too."""
    settle(disk, empty_database, monkeypatch)
    here.folder = settings().jobs
    return disk


def test_on_a_full_or_read_only_disk_no_training_starts_and_jobs_are_still_read(here, small_disk, start):
    known = written(1)
    fill(small_disk)
    with pytest.raises(StorageError, match="No space left on device"):
        start(SMALL)
    (small_disk / "filler").unlink()
    remount(small_disk, f"size={shutil.disk_usage(small_disk).used // 1024 + 40}k")  # too little for the reserve
    with pytest.raises(StorageError, match="No space left on device"):
        start(SMALL)
    remount(small_disk, "ro")
    with pytest.raises(StorageError, match="Read-only file system"):
        start(SMALL)
    assert [(job.id, job.state) for job in here.all()] == [(known, "done")]
    remount(small_disk, "rw")


@pytest.mark.parametrize("killed", [False, True])
def test_a_disk_that_fills_during_a_training_is_the_sentence_of_its_end(here, small_disk, start, killed):
    job = start(until=TRAINS)
    fill(small_disk)
    if killed:
        here._children[job.id].kill()
    found = wait(here, job, ENDED)
    assert found.state == "failed"
    if killed:
        assert "killed or crashed" in found.error
    else:
        assert (found.refusal, "cannot be written" in found.error) == ("StorageError", True)
    assert Jobs().read(job.id) == found, "the end is recorded on the full disk"
    assert not (settings().jobs / job.id / RESERVE).exists()
    assert here._wait(job.id, 30)
    fill(small_disk)
    (settings().jobs / job.id / "job.json").write_text(json.dumps(asdict(job)))
    assert here.read(job.id).state == "failed"
