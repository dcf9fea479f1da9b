import json
import math
import time

import mlflow
import pytest

from pregao.errors import InvalidChoice
from pregao.prices.symbols import Symbol
from pregao.settings import settings
from pregao.tracking import registry as tracking
from pregao.tracking import run_table as statistics
from pregao.tracking.run_table import Page, through_the_client


def told(**page):
    return json.loads("".join(statistics.statistics(Page(**page))))


@pytest.fixture
def runs(home, vale3):
    made = []
    for symbol in (vale3, Symbol.parse("PETR4")):
        for number in range(3):
            with tracking.start_run(symbol, f"run {number}") as run:
                run.params({"hidden_size": 40, "text": "a 'quoted' \"ção\""})
                run.metrics({"final_mape": 1.5 + number})
                run.history({"history_val_loss": [3.0, 2.0]})
                run.tags({"promoted": True})
            made.append(run.run_id)
            time.sleep(0.002)
    client = mlflow.MlflowClient(settings().tracking_uri)
    client.log_metric(made[0], "odd", math.nan)
    client.delete_run(made[1])
    return made


def test_the_answer_has_the_shape_of_the_contract(runs):
    [default, vale3, petr4] = told()["experiments"]
    assert default["runs"] == []
    assert set(vale3) == {"artifact_uri", "experiment_id", "lifecycle_stage", "name", "runs"}
    assert (vale3["name"], vale3["lifecycle_stage"], len(vale3["runs"])) == ("VALE3", "active", 2)
    run = petr4["runs"][0]
    names = {"artifact_uri", "run_id", "status", "start_time", "end_time", "metrics", "params", "tags"}
    assert set(run) == names
    assert run["params"]["hidden_size"] == "40"
    assert run["metrics"] == {"final_mape": 3.5, "history_val_loss": 2.0}
    assert abs(run["start_time"] - 1000 * time.time()) < 600_000
    assert [run["run_id"] for run in petr4["runs"]] == runs[:2:-1]


def test_sql_and_mlflows_client_say_the_same(runs):
    for page in (Page(), Page(limit=2), Page(Symbol.parse("VALE3")), Page(token=told(limit=2)["next_page_token"])):
        assert statistics._read(page) == through_the_client(page)


def test_tables_of_another_version_are_read_through_the_client(runs, monkeypatch):
    expected = told()
    monkeypatch.setattr(statistics, "KNOWN_SCHEMAS", frozenset({"another"}))
    monkeypatch.setattr(statistics, "_runs", None)
    assert told() == expected


def test_the_version_of_mlflows_tables_is_a_known_one(home):
    with statistics._engine(settings().tracking_uri).connect() as connection:
        assert statistics._is_known(connection)


def test_a_new_run_is_there_at_once(runs, vale3):
    before = told()
    with tracking.start_run(vale3, "newest") as run:
        during = told(stock=vale3)["experiments"][0]["runs"][0]
    after = told(stock=vale3)["experiments"][0]["runs"][0]
    assert (during["run_id"], during["status"], during["end_time"]) == (run.run_id, "RUNNING", None)
    assert after["status"] == "FINISHED"
    assert len(told()["experiments"][1]["runs"]) == len(before["experiments"][1]["runs"]) + 1


def test_pages_together_are_the_whole(runs):
    found, token = [], None
    for _ in range(10):
        page = told(limit=2, token=token)
        found += [run["run_id"] for experiment in page["experiments"] for run in experiment["runs"]]
        token = page["next_page_token"]
        if token is None:
            break
    assert sorted(found) == sorted(set(runs) - {runs[1]})
    assert len(found) == len(set(found))


def test_an_empty_home_has_no_runs(home):
    assert [experiment["name"] for experiment in told()["experiments"]] == ["Default"]


@pytest.mark.parametrize("token", ["x", "1-", "-" + "a" * 32, "1-" + "'" * 32, "9" * 30 + "-" + "a" * 32])
def test_another_token_is_refused(home, token):
    with pytest.raises(InvalidChoice, match="page_token"):
        told(token=token)
