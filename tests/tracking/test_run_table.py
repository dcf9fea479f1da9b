import json
import math
import subprocess
import sys
import time

import pytest

from pregao.errors import InvalidChoice, StorageError, TrackingUnavailable
from pregao.prices.symbols import Symbol
from pregao.tracking import database, remote, run_table
from pregao.tracking.client import mlflow_client
from pregao.tracking.run_table import Page
from pregao.tracking.runs import start_run

WITH_SERVER = ["sqlite", "postgresql", pytest.param("server", marks=pytest.mark.slow)]


def answer(**page):
    return json.loads("".join(run_table.statistics(Page(**page))))


@pytest.fixture
def runs(store, vale3):
    made = []
    for symbol in (vale3, Symbol.parse("PETR4")):
        for number in range(3):
            with start_run(symbol, f"run {number}") as run:
                run.params({"hidden_size": 40, "text": "a 'quoted' \"ção\""})
                run.metrics({"final_mape": 1.5 + number})
                run.history({"history_val_loss": [3.0, 2.0]})
                run.tags({"promoted": True})
            made.append(run.run_id)
            time.sleep(0.002)
    mlflow_client().log_metric(made[0], "odd", math.nan)
    mlflow_client().delete_run(made[1])
    return made


@pytest.mark.parametrize("store", WITH_SERVER, indirect=True)
def test_the_answer_has_the_shape_of_the_contract(runs):
    [default, vale3, petr4] = answer()["experiments"]
    assert default["runs"] == []
    assert set(vale3) == {"artifact_uri", "experiment_id", "lifecycle_stage", "name", "runs"}
    assert (vale3["name"], vale3["lifecycle_stage"], len(vale3["runs"])) == ("VALE3", "active", 2)
    assert vale3["runs"][-1]["metrics"]["odd"] is None
    run = petr4["runs"][0]
    names = {"artifact_uri", "run_id", "status", "start_time", "end_time", "metrics", "params", "tags"}
    assert set(run) == names
    assert run["params"]["hidden_size"] == "40"
    assert run["metrics"] == {"final_mape": 3.5, "history_val_loss": 2.0}
    assert abs(run["start_time"] - 1000 * time.time()) < 600_000
    assert [run["run_id"] for run in petr4["runs"]] == runs[:2:-1]


@pytest.mark.parametrize("store", WITH_SERVER, indirect=True)
def test_every_way_gives_the_same(runs, monkeypatch):
    token = answer(limit=2)["next_page_token"]
    for page in (Page(), Page(limit=2), Page(Symbol.parse("VALE3")), Page(Symbol.parse("ITUB4")), Page(token=token)):
        found = run_table._read(page)
        with monkeypatch.context() as patch:
            patch.setattr(database, "KNOWN_SCHEMAS", frozenset())
            patch.setattr(remote, "read", remote.with_client)
            assert run_table._read(page) == found


def test_unknown_tables_are_read_by_another_process_and_the_log_says_so_once(runs, monkeypatch, caplog):
    expected = answer()
    monkeypatch.setattr(database, "KNOWN_SCHEMAS", frozenset({"another"}))
    database._warn_once.cache_clear()
    assert answer() == expected
    with database.connect() as connection:
        assert connection is None
    assert sum("which is not known" in record.message for record in caplog.records) == 1


def test_the_version_of_mlflows_tables_is_a_known_one(store):
    with database.connect() as connection:
        assert connection is not None


def test_mlflows_tables_are_never_written(store):
    def write():
        with database.connect() as connection:
            connection.exec_driver_sql("DELETE FROM params")

    with pytest.raises((TrackingUnavailable, StorageError), match=r"read.?only"):
        write()


def test_reading_the_tables_does_not_import_mlflow(runs):
    code = """
import sys
from pregao.tracking.run_table import Page, statistics
from pregao.tracking.registry import champions
assert "".join(statistics(Page())).count('"run_id"') == 5
assert champions() == {}
assert "mlflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_new_run_is_there_at_once(runs, vale3):
    before = answer()
    with start_run(vale3, "newest") as run:
        during = answer(stock=vale3)["experiments"][0]["runs"][0]
    after = answer(stock=vale3)["experiments"][0]["runs"][0]
    assert (during["run_id"], during["status"], during["end_time"]) == (run.run_id, "RUNNING", None)
    assert after["status"] == "FINISHED"
    assert len(answer()["experiments"][1]["runs"]) == len(before["experiments"][1]["runs"]) + 1


def test_pages_together_are_the_whole(runs):
    found, token = [], None
    for _ in range(10):
        page = answer(limit=2, token=token)
        found += [run["run_id"] for experiment in page["experiments"] for run in experiment["runs"]]
        token = page["next_page_token"]
        if token is None:
            break
    assert sorted(found) == sorted(set(runs) - {runs[1]})
    assert len(found) == len(set(found))


def test_an_empty_home_has_no_runs(store):
    assert [experiment["name"] for experiment in answer()["experiments"]] == ["Default"]


def test_a_home_without_a_database_gets_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PREGAO_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with database.connect() as connection:
        assert connection is None
    assert not list(tmp_path.iterdir())
    assert [experiment["name"] for experiment in answer()["experiments"]] == ["Default"]


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://127.0.0.1:1", "refused"),
        ("postgresql://pregao@127.0.0.1:1/mlflow", "refused"),
        ("postgresql+nodriver://pregao@127.0.0.1:1/mlflow", "nodriver"),
        ("sqlite:///{home}/broken.db", "not a database"),
    ],
)
def test_a_store_that_does_not_answer_is_reported(home, monkeypatch, uri, reason):
    (home / "broken.db").write_text("no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(home=home))
    with pytest.raises(TrackingUnavailable, match=reason):
        answer()


def test_a_refusal_of_the_other_process_is_the_same_refusal(home, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/no folder/mlflow.db")
    (home / "no folder").write_text("a file")
    with pytest.raises(TrackingUnavailable, match="File exists") as refused:
        answer()
    assert str(refused.value).count("Allowed is") == 1


@pytest.mark.parametrize("token", ["x", "1-", "-" + "a" * 32, "1-" + "'" * 32, "9" * 30 + "-" + "a" * 32])
def test_another_token_is_refused(home, token):
    with pytest.raises(InvalidChoice, match="page_token"):
        answer(token=token)
