"""The home: at any path, moved, copied or restored."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from pregao.forecasting.log import ForecastLog
from pregao.settings import settings, sqlite_file, sqlite_uri
from pregao.tracking import database, runs
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
