"""pregao doctor on homes that were moved, interrupted or damaged, and prune."""

import os
import shutil
import sqlite3
import time
from contextlib import closing

import pytest

from pregao.forecasting.log import ForecastLog
from pregao.maintenance import doctor
from pregao.maintenance.prune import removals
from pregao.prices.symbols import Symbol
from pregao.settings import REPOSITORY, settings
from pregao.tracking import registry, runs
from pregao.tracking.client import mlflow_client
from pregao.training.job import Job, now
from tests.cli.conftest import command  # noqa: F401 - a fixture
from tests.conftest import settle

NAMES = [f"2025-0{number}-01_12-00-00-000000" for number in range(1, 5)]


@pytest.fixture(scope="module")
def original(tmp_path_factory, empty_database):
    """A home with four runs of VALE3 and their versions, of which 1 was served first, and 2 is served."""
    folder, vale3 = tmp_path_factory.mktemp("original"), Symbol.parse("VALE3")
    with pytest.MonkeyPatch.context() as patch:
        home = settle(folder, empty_database, patch)
        shutil.copytree(REPOSITORY / "models/VALE3", folder / "model")
        for name in NAMES:
            (home / "outputs/VALE3" / name).mkdir(parents=True)
            (home / "outputs/VALE3" / name / "train.log").write_text(name)
            with runs.start_run(vale3, name) as run:
                registry.register(run, vale3, folder / "model")
        registry.set_champion(vale3, 1)
        registry.set_champion(vale3, 2)
        ForecastLog(settings().forecasts_uri).check()
    return home


@pytest.fixture
def home(original, tmp_path, monkeypatch):
    """A copy of that home, at another place."""
    monkeypatch.setenv("PREGAO_HOME", str(shutil.copytree(original, tmp_path / "home")))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("pregao.settings.SHIPPED", tmp_path / "no models are shipped")
    return tmp_path / "home"


@pytest.fixture
def mended(home):
    for finding in doctor.examine():
        finding.fix()
    return home


def found():
    return [finding.what for finding in doctor.examine()]


def repair(sentence):
    """Repair the only finding, which has this sentence; afterwards nothing is wrong."""
    [finding] = doctor.examine()
    assert sentence in finding.what
    assert found() == [finding.what], "a check changes nothing"
    finding.fix()
    assert found() == []


def sql(file, *statements):
    with closing(sqlite3.connect(file)) as connection, connection:
        return [connection.execute(statement).fetchall() for statement in statements]


def test_a_copied_home_is_repaired_once_and_the_command_says_so_by_its_exit_code(home, command):  # noqa: F811
    done = command("doctor")
    assert (done.returncode, "lead to another place" in done.stdout) == (1, True)
    assert command("doctor", "fix=true").returncode == 0
    done = command("doctor")
    assert (done.returncode, done.stdout) == (0, "Nothing is wrong.\n")


@pytest.mark.parametrize("damage", ["missing", "half"])
def test_another_version_is_served_instead_of_one_whose_files_are_damaged(mended, vale3, damage):
    for version in (2, 4):
        folder = registry.load(vale3, version).folder
        if damage == "missing":
            shutil.rmtree(folder)
        else:
            whole = (folder / "model.safetensors").read_bytes()
            (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    repair("the served version 2 cannot be loaded")
    assert registry.champion(vale3).version == 3


def test_without_a_version_that_can_be_loaded_the_stock_has_none(mended):
    for folder in mended.glob("mlruns/artifacts/VALE3/models/*"):
        shutil.rmtree(folder)
    repair("cannot be loaded")
    assert registry.champions() == {}


def test_an_interrupted_migration_is_finished_after_a_copy_of_the_database(mended):
    file = mended / "mlruns/mlflow.db"
    sql(file, "CREATE TABLE _alembic_tmp_runs (x INTEGER)")
    repair("left over: _alembic_tmp_runs")
    [copy] = file.parent.glob("mlflow.db.before-*")
    assert sql(copy, "SELECT * FROM _alembic_tmp_runs") == [[]]
    assert set(registry.champions()) == {"VALE3"}


def test_a_damaged_database_of_mlflow_is_left_to_the_user_and_a_damaged_log_is_renamed(mended):
    file = mended / "outputs/forecasts.db"
    file.write_bytes(b"no database" * 1000)
    repair("forecasts.db is damaged (file is not a database)")
    assert len(list(file.parent.glob("forecasts.corrupt-*"))) == 1
    (mended / "mlruns/mlflow.db").write_bytes(b"no database" * 1000)
    [finding] = doctor.examine()
    assert finding.fix is None
    assert "mlflow.db is damaged" in finding.what


def test_leftovers_of_killed_processes_are_repaired(mended):
    jobs = mended / "outputs/jobs"
    dead, empty = jobs / ("1" * 32), jobs / ("2" * 32)
    for folder in dead, empty:
        folder.mkdir(parents=True)
    Job(dead.name, "VALE3", "running", now()).write(dead)
    old, new = (mended / f"data/.{digit * 32}.tmp" for digit in "ab")
    (mended / "data").mkdir()
    for file in old, new:
        file.touch()
    os.utime(old, (1, 1))
    client = mlflow_client()
    experiment = client.get_experiment_by_name("VALE3").experiment_id
    long_ago = int(1000 * (time.time() - 2 * doctor.DAY))
    stale, fresh, writes = (
        client.create_run(experiment, start_time=start, run_name=name).info.run_id
        for start, name in ((long_ago, "killed"), (None, "just started"), (long_ago, "writes"))
    )
    (mended / "outputs/VALE3/writes").mkdir()
    assert len(found()) == 4
    for finding in doctor.examine():
        finding.fix()
    assert found() == []
    assert Job.read(dead).state == "failed"
    assert (empty.exists(), old.exists(), new.exists()) == (False, False, True)
    assert [client.get_run(run).info.status for run in (stale, fresh, writes)] == ["FAILED", "RUNNING", "RUNNING"]


def test_prune_lists_and_then_deletes_what_is_old_but_keeps_what_is_served(mended, vale3, command):  # noqa: F811
    client = mlflow_client()
    before = sum(file.stat().st_size for file in mended.rglob("*") if file.is_file())
    listed = command("doctor", "prune=true", "keep=1").stdout
    assert "1 runs and 1 versions of VALE3" in listed, "version 4 is the newest, 2 the champion, 1 the best"
    assert sum(name in listed for name in NAMES) == 3
    assert "add fix=true" in listed
    assert [version.version for version in registry.versions(vale3)] == [4, 3, 2, 1]
    assert command("doctor", "prune=true", "keep=1", "fix=true").stdout.count("deleted: ") == 4
    assert [version.version for version in registry.versions(vale3)] == [4, 2, 1]
    assert registry.champion(vale3).version == 2
    assert [folder.name for folder in (mended / "outputs/VALE3").iterdir()] == NAMES[-1:]
    experiment = client.get_experiment_by_name("VALE3").experiment_id
    assert len(client.search_runs([experiment])) == 3
    assert len(list(mended.glob("mlruns/artifacts/VALE3/models/*"))) == 3
    assert sum(file.stat().st_size for file in mended.rglob("*") if file.is_file()) < before
    assert list(removals(1)) == []
    assert found() == []
