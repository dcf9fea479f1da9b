import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress

import pytest

from pregao.errors import CorruptModel, NoEarlierVersion, NoModel, NoSuchVersion
from pregao.models.onnx import ONNX
from pregao.models.trained import WEIGHTS
from pregao.prices.symbols import Symbol
from pregao.settings import REPOSITORY, settings
from pregao.tracking import database, registry, runs
from pregao.tracking.client import mlflow_client
from pregao.tracking.registry import NEEDED
from tests.conftest import settle


def status(run):
    return mlflow_client().get_run(run.run_id).info.status


@pytest.mark.parametrize(
    ("error", "expected"), [(None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_the_status_of_a_run_depends_on_how_its_block_ends(home, vale3, error, expected):
    with suppress(ValueError, KeyboardInterrupt), runs.start_run(vale3, "run") as run:
        if error:
            raise error
    assert status(run) == expected


def test_an_open_run_is_ended_by_its_name(home, vale3):
    with runs.start_run(vale3, "running") as other, runs.start_run(vale3, "dead") as dead:
        runs.end_run(vale3, "dead", "KILLED")
        runs.end_run(Symbol.parse("PETR4"), "dead", "KILLED")  # a stock without runs
        assert [status(run) for run in (other, dead)] == ["RUNNING", "KILLED"]


def test_every_epoch_of_a_long_resumed_history_is_logged_and_metrics_that_are_not_finite_left_out(home, vale3):
    losses = [float(epoch) for epoch in range(1500)]
    with runs.start_run(vale3, "run") as run:
        run.metrics({"good": 1.5, "bad": float("nan"), "worse": float("inf")})
        run.history({"history_val_loss": losses[:2]})
        run.history({"history_val_loss": losses[2:]}, first=2)
    points = mlflow_client().get_metric_history(run.run_id, "history_val_loss")
    assert [(point.step, point.value) for point in points] == list(enumerate(losses))
    assert runs.history(run.run_id) == {"history_val_loss": losses}
    assert mlflow_client().get_run(run.run_id).data.metrics.keys() == {"good", "history_val_loss"}


@pytest.mark.slow
def test_processes_that_start_together_create_one_database(tmp_path, monkeypatch):
    monkeypatch.setenv("PREGAO_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code = "from pregao.tracking import registry; print(registry.champions())"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in started] == ["{}"] * 2
    assert [process.returncode for process in started] == [0] * 2


@pytest.fixture(scope="module")
def registered(tmp_path_factory, empty_database):
    """The run of VALE3's versions 1, which is served, and 2."""
    folder, vale3 = tmp_path_factory.mktemp("registered"), Symbol.parse("VALE3")
    with pytest.MonkeyPatch.context() as patch:
        settle(folder, empty_database, patch)
        shutil.copytree(REPOSITORY / "models/VALE3", folder / "model")
        with runs.start_run(vale3, "run") as run:
            assert [registry.register(run, vale3, folder / "model") for _ in range(2)] == [1, 2]
        registry.set_champion(vale3, 1)
        mlflow_client().set_registered_model_alias("VALE3", "tested", "2")
        yield run


@pytest.mark.parametrize("known", [True, False], ids=["by the tables", "by the client"])
def test_the_champion_is_found(registered, vale3, monkeypatch, known):
    if not known:
        monkeypatch.setattr(database, "KNOWN_SCHEMAS", frozenset())
    served = registry.champion(vale3)
    assert (served.stock, served.version, served.run_id) == ("VALE3", 1, registered.run_id)
    assert served.folder.is_dir()
    assert registry.load(vale3, 2).version == 2
    assert registry.champions() == {"VALE3": (1, registered.run_id)}
    with pytest.raises(NoSuchVersion, match="VALE3: version 3 does not exist; registered are 1, 2"):
        registry.load(vale3, 3)
    with pytest.raises(NoSuchVersion, match="PETR4: version 1 does not exist; no version is registered"):
        registry.load(Symbol.parse("PETR4"), 1)


def test_a_version_elsewhere_is_downloaded_once_into_the_home(registered, vale3, monkeypatch, tmp_path):
    monkeypatch.setattr(database, "KNOWN_SCHEMAS", frozenset())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    first = registry.load(vale3, 2).folder
    assert first.is_relative_to(settings().mlruns / f"versions/VALE3/2-{registered.run_id}")
    assert not [name for name in os.listdir(settings().mlruns / "versions/VALE3") if name.startswith(".")]
    assert not os.listdir(tmp_path)
    monkeypatch.setattr("mlflow.artifacts.download_artifacts", lambda *_, **__: pytest.fail("it is here already"))
    assert registry.load(vale3, 2).folder == first


def test_reading_models_and_runs_imports_no_mlflow_and_writes_nothing(registered):
    def files():
        return {path: path.stat().st_mtime_ns for path in settings().mlruns.rglob("*")}

    before = files()
    code = """
import sys
from pregao.prices.symbols import Symbol
from pregao.tracking.registry import champion, champions, load
from pregao.tracking.run_table import Page, statistics
vale3 = Symbol.parse("VALE3")
assert champion(vale3).version == load(vale3, 1).version == champions()["VALE3"][0] == 1
assert "".join(statistics(Page())).count('"run_id"') == 1
assert "mlflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert files() == before


def test_a_registered_version_has_its_requirements_and_its_code(registered, vale3):
    folder = registry.champion(vale3).folder.parents[1]
    assert {"MLmodel", "pyfunc.py", "requirements.txt", "python_env.yaml", "conda.yaml"} <= set(os.listdir(folder))
    needed = [line.split("==")[0] for line in (folder / "requirements.txt").read_text().splitlines()]
    assert needed == ["mlflow", *NEEDED]
    assert mlflow_client().get_model_version("VALE3", "1").run_id == registered.run_id


@pytest.fixture
def versions(home, tmp_path, vale3):
    """Four registered versions of VALE3, none of them served."""
    shutil.copytree(REPOSITORY / "models/VALE3", tmp_path / "model")
    with runs.start_run(vale3, "run") as run:
        return [registry.register(run, vale3, tmp_path / "model") for _ in range(4)]


def test_a_rollback_serves_the_version_before_and_another_one_goes_further_back(versions, vale3):
    with pytest.raises(NoModel):
        registry.previous(vale3)
    registry.set_champion(vale3, 1)
    with pytest.raises(NoEarlierVersion, match="VALE3: version 1 is served, and it replaced no earlier version"):
        registry.rollback(vale3)
    for version in (3, 2, 2):
        registry.set_champion(vale3, version)
    registry.set_best(vale3, 2)
    assert (registry.previous(vale3), registry.best(vale3)) == (3, 2)
    assert registry.rollback(vale3).version == registry.champion(vale3).version == 3
    assert registry.best(vale3) == 3, "the version that was left is no measure for later ones"
    registry.set_champion(vale3, 4)
    assert registry.previous(vale3) == 3, "the version that a rollback left is not served again"
    assert [registry.rollback(vale3).version for _ in range(2)] == [3, 1]


def test_a_rollback_to_a_damaged_or_deleted_version_keeps_the_champion(versions, vale3):
    for version in (1, 2, 3):
        registry.set_champion(vale3, version)
    for file in (registry.load(vale3, 2).folder / WEIGHTS, registry.exported(vale3, 2).folder / ONNX):
        file.write_bytes(b"damaged")
    with pytest.raises(CorruptModel):
        registry.rollback(vale3)
    mlflow_client().delete_model_version("VALE3", "2")
    with pytest.raises(NoSuchVersion):
        registry.rollback(vale3)
    assert registry.champion(vale3).version == 3


def test_a_champion_that_another_program_has_set_can_be_rolled_back(versions, vale3):
    registry.set_champion(vale3, 1)
    mlflow_client().set_registered_model_alias("VALE3", "champion", "4")
    assert registry.previous(vale3) == 1
    registry.set_champion(vale3, 2)
    assert registry.previous(vale3) == 4


def test_in_a_home_without_a_best_version_the_champion_is_it(versions, vale3):
    mlflow_client().set_registered_model_alias("VALE3", "champion", "3")  # as before this version
    assert registry.best(vale3) is None
    registry.set_champion(vale3, 1)
    assert registry.best(vale3) == 3
