import io
import json
import math

import pytest
from mlflow.store.entities import PagedList

from pregao.errors import InvalidChoice, StorageError, TrackingUnavailable
from pregao.prices.symbols import Symbol
from pregao.settings import settings
from pregao.tracking import database, remote, run_table
from pregao.tracking.client import every_page, mlflow_client
from pregao.tracking.run_table import Page
from pregao.tracking.runs import start_run

DATABASES = ["sqlite", "postgresql"]
STORES = [*DATABASES, pytest.param("server", marks=pytest.mark.slow)]
START = 1_700_000_000_000


def answer(**page):
    return json.loads("".join(run_table.statistics(Page(**page))))


@pytest.fixture(scope="module")
def runs(store):
    """Three runs of VALE3 and three of PETR4, oldest first; all but the newest started in the same millisecond."""
    made = []
    for symbol in map(Symbol.parse, ("VALE3", "PETR4")):
        with start_run(symbol, "first") as run:
            run.params({"hidden_size": 40, "text": "a 'quoted' \"ção\""})
            run.metrics({"final_mape": 1.5})
            run.history({"history_val_loss": [3.0, 2.0]})
            run.tags({"promoted": True})
        made.append(run.run_id)
        client = mlflow_client()
        experiment = client.get_experiment_by_name(symbol.ticker).experiment_id
        made += [client.create_run(experiment, start_time=START).info.run_id for _ in range(2)]
    client.log_metric(made[1], "odd", math.nan)
    client.delete_run(made[2])
    with start_run(Symbol.parse("WEGE3"), "deleted"):
        pass
    client.delete_experiment(client.get_experiment_by_name("WEGE3").experiment_id)
    return [run for run in made if run != made[2]]


def test_all_pages_of_a_search_are_read():
    pages = {None: PagedList([1, 2], "a"), "a": PagedList([], "b"), "b": PagedList([3], None)}
    assert list(every_page(lambda name, page_token=None: pages[page_token], "name")) == [1, 2, 3]


@pytest.fixture
def asked(home, monkeypatch):
    """The requests to an MLflow server that holds one experiment with 3,000 runs, ten per millisecond."""
    made = [{"info": {"run_id": f"{9999 - n:032}", "experiment_id": "1", "start_time": n // 10}} for n in range(3000)]
    made = sorted(({"data": {}} | run for run in made), key=lambda run: _place(run["info"]))

    def urlopen(request, timeout):
        wanted = json.loads(request.data)
        requests.append(wanted)
        if request.full_url.endswith("experiments/search"):
            experiment = {"experiment_id": "1", "artifact_location": "x", "lifecycle_stage": "active", "name": "VALE3"}
            return io.BytesIO(json.dumps({"experiments": [experiment]}).encode())
        assert wanted["order_by"] == ["attributes.start_time DESC", "attributes.run_id ASC"]
        _, comparison, latest = (wanted["filter"] or f"attributes.start_time <= {START}").split()
        until = int(latest) - (comparison == "<")
        left = [run for run in made if run["info"]["start_time"] <= until][int(wanted.get("page_token", 0)) :]
        page = {"runs": left[: wanted["max_results"]]}
        if len(left) > wanted["max_results"]:
            page["next_page_token"] = str(int(wanted.get("page_token", 0)) + wanted["max_results"])
        return io.BytesIO(json.dumps(page).encode())

    requests = []
    monkeypatch.setattr(remote, "urlopen", urlopen)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow")
    return requests


def _place(run):
    return -run["start_time"], run["run_id"]


def test_a_page_of_a_server_costs_one_search_of_its_size(asked):
    found, token = [], None
    for _ in range(3):
        del asked[:]
        page = answer(limit=7, token=token)
        token = page["next_page_token"]
        found += page["experiments"][0]["runs"]
        assert sum(wanted["max_results"] for wanted in asked[1:]) <= 3 * 9  # of the same millisecond are ten
    assert [run["start_time"] for run in found] == [299] * 10 + [298] * 10 + [297]
    assert len({run["run_id"] for run in found}) == 21
    assert found == sorted(found, key=_place)


def test_all_pages_of_a_server_are_read(asked):
    assert len(answer()["experiments"][0]["runs"]) == 3000
    assert len(asked) == 1 + 3


@pytest.mark.parametrize("store", STORES, indirect=True)
def test_the_response_has_the_shape_of_the_contract(runs):
    [default, vale3, petr4] = answer()["experiments"]
    assert default["runs"] == []
    assert set(vale3) == {"artifact_uri", "experiment_id", "lifecycle_stage", "name", "runs"}
    assert (vale3["name"], vale3["lifecycle_stage"], len(vale3["runs"])) == ("VALE3", "active", 2)
    assert vale3["runs"][-1]["metrics"] == {"odd": None}
    run = petr4["runs"][0]
    assert set(run) == {"artifact_uri", "run_id", "status", "start_time", "end_time", "metrics", "params", "tags"}
    assert run["params"] == {"hidden_size": "40", "text": "a 'quoted' \"ção\""}
    assert run["metrics"] == {"final_mape": 1.5, "history_val_loss": 2.0}
    assert run["tags"]["promoted"] == "True"
    assert run["end_time"] >= run["start_time"] > START
    assert [run["status"] for run in petr4["runs"]] == ["FINISHED", "RUNNING", "RUNNING"]


@pytest.mark.parametrize("store", STORES, indirect=True)
def test_all_experiments_are_those_that_are_active_and_those_that_are_deleted(runs):
    stages = [(found["name"], found["lifecycle_stage"]) for found in answer(deleted=True)["experiments"]]
    assert stages == [("Default", "active"), ("VALE3", "active"), ("PETR4", "active"), ("WEGE3", "deleted")]
    assert answer(stock=Symbol.parse("WEGE3"))["experiments"] == []
    [deleted] = answer(stock=Symbol.parse("WEGE3"), deleted=True)["experiments"]
    assert deleted["runs"] == [], "MLflow has deleted them with their experiment"


@pytest.mark.parametrize("store", DATABASES, indirect=True)
def test_no_text_of_an_answer_holds_a_folder_of_the_host(runs):
    client = mlflow_client()
    client.set_tag(runs[0], "script", f"{settings().home}/a b/train.py")
    client.log_param(runs[0], "path", "/srv/prices/WEGE3.csv")
    found = answer(deleted=True)
    [run] = [run for experiment in found["experiments"] for run in experiment["runs"] if run["run_id"] == runs[0]]
    assert (run["tags"]["script"], run["params"]["path"]) == ("a b/train.py", "WEGE3.csv")
    for entry in (run, *found["experiments"]):
        assert not entry["artifact_uri"].startswith(("/", "file:"))
    assert str(settings().home) not in json.dumps(found)
    places = {experiment["name"]: experiment["artifact_uri"] for experiment in found["experiments"]}
    assert places["VALE3"] == ("mlruns/1" if "postgresql" in settings().tracking_uri else "mlruns/artifacts/VALE3")


@pytest.mark.parametrize("store", STORES, indirect=True)
def test_the_tables_and_the_client_give_the_same_runs(runs, monkeypatch):
    token = answer(limit=2)["next_page_token"]
    for page in (
        Page(),
        Page(limit=2),
        Page(Symbol.parse("VALE3")),
        Page(Symbol.parse("ITUB4")),
        Page(token=token),
        Page(deleted=True),
    ):
        found = run_table._read(page)
        with monkeypatch.context() as patch:
            patch.setattr(database, "KNOWN_SCHEMAS", frozenset())
            patch.setattr(remote, "read", remote.with_client)
            assert run_table._read(page) == found


@pytest.mark.parametrize("store", STORES, indirect=True)
@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_the_pages_together_hold_every_run_once_newest_first(runs, limit):
    found, token = [], None
    for _ in range(math.ceil(len(runs) / limit)):
        page = answer(limit=limit, token=token)
        token = page["next_page_token"]
        part = [run for experiment in page["experiments"] for run in experiment["runs"]]
        found += sorted(part, key=lambda run: (-run["start_time"], run["run_id"]))
    assert token is None
    assert sorted(run["run_id"] for run in found) == sorted(runs)
    assert [run["start_time"] for run in found] == sorted((run["start_time"] for run in found), reverse=True)


@pytest.mark.parametrize("store", DATABASES, indirect=True)
def test_known_tables_are_never_written_and_unknown_ones_read_by_another_process(runs, monkeypatch, caplog):
    def write():
        with database.connect() as connection:
            connection.exec_driver_sql("DELETE FROM params")

    with pytest.raises((TrackingUnavailable, StorageError), match=r"read.?only"):
        write()
    expected = answer()
    monkeypatch.setattr(database, "KNOWN_SCHEMAS", frozenset({"another"}))
    database._warn_once.cache_clear()
    assert answer() == expected
    assert sum("which is not known" in record.message for record in caplog.records) == 1


def test_reading_creates_no_database(tmp_path, monkeypatch):
    monkeypatch.setenv("PREGAO_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with database.connect() as connection:
        assert connection is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://127.0.0.1:1", "refused"),
        ("postgresql://pregao@127.0.0.1:1/mlflow", "refused"),
        ("postgresql+nodriver://pregao@127.0.0.1:1/mlflow", "nodriver"),
        ("sqlite:///{home}/broken.db", "not a database"),
        ("sqlite:///{home}/broken.db/mlflow.db", "broken.db"),  # refused by the process with MLflow's client
    ],
)
def test_a_store_that_does_not_answer_is_an_error_with_one_reason(home, monkeypatch, uri, reason):
    (home / "broken.db").write_text("no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(home=home))
    with pytest.raises(TrackingUnavailable, match=reason) as refused:
        answer()
    assert str(refused.value).count("Allowed is") == 1


@pytest.mark.parametrize("token", ["x", "1-", "-" + "a" * 32, "1-" + "'" * 32, "9" * 30 + "-" + "a" * 32])
def test_an_invalid_page_token_is_refused(home, token):
    with pytest.raises(InvalidChoice, match="page_token"):
        answer(token=token)
