import os
import shutil
import subprocess
import sys

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from pregao.errors import NoModel
from pregao.settings import REPOSITORY, settings
from pregao.tracking import database, registry, runs
from pregao.tracking.registry import NEEDED


def status(run):
    return mlflow.MlflowClient(settings().tracking_uri).get_run(run.run_id).info.status


def test_a_run_ends_as_what_happened(home, vale3):
    with runs.start_run(vale3, "good") as good:
        pass
    with pytest.raises(ValueError, match="oops"), runs.start_run(vale3, "bad") as bad:
        raise ValueError("oops")
    with pytest.raises(KeyboardInterrupt), runs.start_run(vale3, "stopped") as stopped:
        raise KeyboardInterrupt
    assert [status(run) for run in (good, bad, stopped)] == ["FINISHED", "FAILED", "KILLED"]


def test_a_stock_without_a_model_is_told_who_has_one(home, vale3):
    with pytest.raises(
        NoModel, match=r"VALE3: no trained model; no stock has one yet\. .*python train\.py stock=VALE3"
    ):
        registry.champion(vale3)
    assert registry.served_stocks() == []


def test_figures_that_are_not_finite_are_left_out(home, vale3):
    with runs.start_run(vale3, "run") as run:
        run.metrics({"good": 1.5, "bad": float("nan"), "worse": float("inf")})
    assert mlflow.MlflowClient(settings().tracking_uri).get_run(run.run_id).data.metrics == {"good": 1.5}


def test_a_long_history_is_logged_whole(home, vale3):
    with runs.start_run(vale3, "run") as run:
        run.history({"history_val_loss": [float(i) for i in range(2500)]})
    points = mlflow.MlflowClient(settings().tracking_uri).get_metric_history(run.run_id, "history_val_loss")
    assert [point.value for point in points] == [float(i) for i in range(2500)]


def test_a_deleted_experiment_comes_back(home, vale3):
    with runs.start_run(vale3, "first"):
        pass
    client = mlflow.MlflowClient(settings().tracking_uri)
    client.delete_experiment(client.get_experiment_by_name("VALE3").experiment_id)
    with runs.start_run(vale3, "second") as run:
        pass
    assert status(run) == "FINISHED"


@pytest.mark.slow
def test_processes_that_start_at_once_make_one_database(tmp_path, monkeypatch):
    monkeypatch.setenv("PREGAO_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code = "from pregao.tracking import registry; print(registry.champions())"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0].strip() for process in started] == ["{}"] * 4
    assert [process.returncode for process in started] == [0] * 4


@pytest.fixture
def registered(home, vale3, tmp_path, monkeypatch):
    """Version 1 of VALE3, served, and version 2."""
    folder = tmp_path / "model"
    shutil.copytree(REPOSITORY / "models/VALE3", folder)
    with runs.start_run(vale3, "run") as run:
        made = [registry.register(run, vale3, folder) for _ in range(2)]
    registry.set_champion(vale3, 1)
    assert made == [1, 2]
    return run


@pytest.mark.parametrize("known", [True, False])
def test_the_champion_is_found_in_the_tables_and_by_the_client(registered, vale3, monkeypatch, known):
    if not known:
        monkeypatch.setattr(database, "KNOWN_SCHEMAS", frozenset())
    served = registry.champion(vale3)
    assert (served.stock, served.version, served.run_id) == ("VALE3", 1, registered.run_id)
    assert served.folder.is_dir()
    assert registry.load(vale3, 2).version == 2
    assert registry.champions() == {"VALE3": (1, registered.run_id)}
    with pytest.raises(MlflowException):
        registry.load(vale3, 3)


def test_reading_the_champion_does_not_import_mlflow(registered):
    code = (
        "import sys; from pregao.prices.symbols import Symbol; from pregao.tracking import registry\n"
        "vale3 = Symbol.parse('VALE3')\n"
        "assert registry.champion(vale3).version == registry.load(vale3, 1).version == 1\n"
        "assert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_champion_answers_from_a_read_only_folder(registered, home, vale3):
    for path in [home / "mlruns", *(home / "mlruns").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    served = registry.champion(vale3)
    assert served.version == 1


def test_a_registered_version_says_what_it_needs_and_where_its_code_is(registered, vale3):
    folder = registry.champion(vale3).folder.parents[1]
    assert {"MLmodel", "pyfunc.py", "requirements.txt", "python_env.yaml", "conda.yaml"} <= set(os.listdir(folder))
    needed = [line.split("==")[0] for line in (folder / "requirements.txt").read_text().splitlines()]
    assert needed == ["mlflow", *NEEDED]
    model = mlflow.MlflowClient(settings().tracking_uri).get_model_version("VALE3", "1")
    assert (model.run_id, model.status) == (registered.run_id, "READY")
    assert model.source.startswith("models:/m-")
