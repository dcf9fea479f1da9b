"""The home: at any path, moved, copied or restored."""

import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
import sqlalchemy as sa

from pregao.forecasting.log import ForecastLog
from pregao.settings import REPOSITORY, settings, sqlite_file, sqlite_uri
from pregao.tracking import database, paths, registry, run_table, runs
from pregao.tracking.client import mlflow_client
from tests.conftest import settle


@pytest.fixture
def odd(tmp_path, empty_database, monkeypatch):
    """A home whose path has every character with a meaning in an address."""
    return settle(tmp_path / "a ?b=c%20d#é&", empty_database, monkeypatch)


def test_the_databases_of_a_home_with_an_odd_name_are_in_it(odd, tmp_path, vale3):
    with runs.start_run(vale3, "run") as run:
        (odd / "files").mkdir()
        (odd / "files/report.txt").write_text("report")
        run.artifacts(odd / "files")
    with database.connect() as connection:
        assert [row["run_id"] for row in database.runs(connection, "VALE3", None, None)] == [run.run_id]
    ForecastLog(settings().forecasts_uri).check()
    assert (odd / "outputs/forecasts.db").is_file()
    assert list(odd.glob("mlruns/artifacts/VALE3/*/artifacts/report.txt"))
    elsewhere = (path for path in tmp_path.rglob("*") if not path.is_relative_to(odd))
    assert not list(filter(Path.is_file, elsewhere))  # MLflow creates an empty folder with the escaped name
    assert Path(sa.make_url(sqlite_uri(odd)).database) == sqlite_file(sqlite_uri(odd)) == odd
    assert sqlite_file("postgresql://x/y") is None


@pytest.fixture
def moved(tmp_path, home, vale3, monkeypatch):
    """A home with two served versions of VALE3, moved; an empty folder is where it was."""
    shutil.copytree(REPOSITORY / "models/VALE3", tmp_path / "model")
    with runs.start_run(vale3, "run") as run:
        run.artifacts(tmp_path / "model")
        for _ in range(2):
            registry.set_champion(vale3, registry.register(run, vale3, tmp_path / "model"))
    new = home.rename(tmp_path / "another place")
    monkeypatch.setenv("PREGAO_HOME", str(new))
    return new


def test_a_moved_home_serves_its_own_files_before_anything_is_written(moved, home, vale3, monkeypatch):
    subprocess.run(["chmod", "-R", "a-w", moved], check=True)
    assert registry.champion(vale3).version == 2
    assert registry.load(vale3, 1).folder.is_relative_to(moved)
    assert not home.exists()
    shutil.copytree(moved, home)
    assert registry.champion(vale3).folder.is_relative_to(moved), "the files of the copy, not of the original"


def test_the_first_writer_of_a_moved_home_rewrites_every_address(moved, home, vale3):
    assert paths.stale() > 4
    with runs.start_run(vale3, "after the move") as run:
        run.artifacts(moved.parent / "model")
    assert paths.stale() == 0
    assert not home.exists()
    assert moved.as_uri() in mlflow_client().get_run(run.run_id).info.artifact_uri
    with closing(sqlite3.connect(moved / "mlruns/mlflow.db")) as connection:
        assert not [line for line in connection.iterdump() if f"{home}/mlruns/artifacts" in line]
    [first] = [found for found in run_table.table()["run_id"] if found != run.run_id]
    assert len(mlflow_client().list_artifacts(first)) > 3
    assert mlflow.pyfunc.load_model("models:/VALE3@champion").predict([50.0] * 20).shape == (10, 6)


def test_addresses_of_databases_and_files_outside_a_home_are_not_changed(home, monkeypatch):
    for address in "s3://bucket/x", "/somewhere/mlruns/0", "file:///somewhere/artifacts/VALE3":
        assert paths.here(address) == address
    assert (
        paths.here("file:///old/mlruns/artifacts/VALE3/1/artifacts")
        == f"{home.as_uri()}/mlruns/artifacts/VALE3/1/artifacts"
    )
    for uri in "http://mlflow", "postgresql://x/y", f"sqlite:///{home}/other.db":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert paths.here("file:///old/mlruns/artifacts/VALE3") == "file:///old/mlruns/artifacts/VALE3"
        assert paths.stale() == 0
        paths.follow_home()
