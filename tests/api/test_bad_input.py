import json

import pytest

from pregao.api.schemas import CLOSES
from tests.api.conftest import RANGE, training

JSON = {"content-type": "application/json"}

TICKERS = ["../../etc/passwd", "VALE3/..", "VA'E3", 'VA"E3', "VALE3\0", "VÄLE3", "ſALE3", "A" * 1000, "", " ", "*"]
TICKERS += ["%2e", "VALE3;DROP TABLE runs", "${stock}"]


def refused(answer, status=422):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert "Traceback" not in answer.text
    detail = answer.json()["detail"]
    assert isinstance(detail, list if status == 422 else str)
    return detail


@pytest.mark.parametrize("stock", TICKERS)
@pytest.mark.parametrize("path", ["/predict", "/train"])
def test_a_nasty_ticker_is_refused(client, path, stock):
    refused(client.post(path, json={"stock": stock, **(RANGE if path == "/train" else {})}))


@pytest.mark.parametrize("stock", TICKERS)
def test_a_nasty_ticker_is_refused_by_statistics(client, stock):
    refused(client.get("/statistics", params={"stock": stock}))


@pytest.mark.parametrize("path", ["/predict", "/train"])
@pytest.mark.parametrize("body", [b"", b"{", b"[1, 2", b"null", b"[]", b'"VALE3"', b"1e999", b"{stock: 3}", b"\0"])
def test_a_body_that_is_no_object_is_refused(client, path, body):
    refused(client.post(path, content=body, headers=JSON))


@pytest.mark.parametrize("path", ["/predict", "/train"])
@pytest.mark.parametrize("body", [b"\xff\xfe", b"[" * 100_000, b'{"stock":' * 50_000, b'{"stock": "\xff"}'])
def test_a_body_that_cannot_be_read_is_refused(client, path, body):
    answer = client.post(path, content=body, headers=JSON)
    assert answer.status_code in (400, 422)
    assert "detail" in answer.json()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
@pytest.mark.parametrize("path", ["/predict", "/train"])
def test_another_content_type_is_refused(client, path, kind):
    answer = client.post(path, content=json.dumps({"stock": "VALE3"}).encode(), headers={"content-type": kind})
    assert answer.status_code in (400, 422)


@pytest.mark.parametrize("path", ["/predict", "/train", "/nothing", "/statistics"])
def test_five_megabytes_are_refused(client, path):
    refused(client.post(path, content=b"x" * 5_000_000, headers=JSON), 413)


def test_five_megabytes_without_a_length_are_refused(client):
    chunks = (b"x" * 100_000 for _ in range(50))
    refused(client.post("/predict", content=chunks, headers=JSON), 413)


@pytest.mark.parametrize(
    ("closes", "position"),
    [
        ([*CLOSES[:19], 0], 19),
        ([-1, *CLOSES[1:]], 0),
        ([*CLOSES, "55"], 20),
        ([None, *CLOSES], 0),
        ([True, *CLOSES], 0),
        ([*CLOSES, [1]], 20),
    ],
)
def test_a_close_that_is_no_price_is_refused_with_its_position(client, closes, position):
    [defect] = refused(client.post("/predict", json={"historical_data": closes}))
    assert defect["loc"] == ["body", "historical_data", position]


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_not_finite_is_refused_with_its_position(client, word):
    body = f'{{"historical_data": [{", ".join(["50.0"] * 7 + [word] + ["50.0"] * 20)}]}}'
    [defect] = refused(client.post("/predict", content=body, headers=JSON))
    assert defect["loc"] == ["body", "historical_data", 7]


@pytest.mark.parametrize("closes", [[1e-300, 1e300] * 10, [1.7e308] * 20 + [5e-324], [5e-324, 1.7e308] * 10])
def test_closes_that_lead_nowhere_are_refused(client, closes):
    refused(client.post("/predict", json={"historical_data": closes}))


@pytest.mark.parametrize("number", [0, 1, 19, 10_001])
def test_too_few_and_too_many_closes_are_refused(client, number):
    refused(client.post("/predict", json={"historical_data": [50.5] * number}))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"stock": None},
        {"stock": 3},
        {"stock": ["VALE3"]},
        {"stock": {"a": 1}},
        {"stock": "VALE3", "horizon": 5},
        {"historical_data": "50"},
        {"historical_data": {"0": 50}},
        {"historical_data": 50},
    ],
)
def test_other_fields_and_types_are_refused(client, body):
    refused(client.post("/predict", json=body))


@pytest.mark.parametrize(
    "changes",
    [
        {"inicio": "2024-13-01"},
        {"inicio": "01/02/2020"},
        {"inicio": "2020-1-1"},
        {"inicio": "2024-01-01", "fim": "2020-01-01"},
        {"inicio": "2999-01-01", "fim": "2999-12-31"},
        {"inicio": 20200101},
        {"inicio": None},
        {"fim": "' OR 1=1"},
        {"fim": "x" * 1000},
        {"overrides": {"model.hidden_size": 0}},
        {"overrides": {"model.hidden_size": "40"}},
        {"overrides": {"model.hidden_size": True}},
        {"overrides": {"model.hidden_size": 5000}},
        {"overrides": {"model.hidden_size": 10**9}},
        {"overrides": {"model.cell": "${oc.env:HOME}"}},
        {"overrides": {"model": "lstm,absolute"}},
        {"overrides": {"model": "../x"}},
        {"overrides": {"model._target_": "os.system"}},
        {"overrides": {"data.lookback": 1}},
        {"overrides": {"data.horizon": 251}},
        {"overrides": {"trainer.max_epochs": 10**9}},
        {"overrides": {"model.nothing": 1}},
        {"overrides": {"hydra.run.dir": "/tmp"}},
        {"overrides": {"source.path": "/etc"}},
        {"overrides": {"ckpt_path": "/etc/passwd"}},
        {"overrides": {"experiment": "../../x"}},
        {"overrides": {"seed": -1}},
        {"overrides": [1]},
        {"overrides": {"model": "absolute", "model.shrinkage": 0.5}},
        {"overrides": {"optimizer.learning_rate": float("nan")}},
        {"unknown": 1},
    ],
)
def test_a_training_that_makes_no_sense_is_refused(client, changes):
    body = json.dumps(training(**changes))
    refused(client.post("/train?wait=false", content=body, headers=JSON))


def test_the_shared_model_is_no_stock(client):
    assert "It is the model of many stocks." in refused(client.post("/predict", json={"stock": "SHARED"}), 404)
    [defect] = refused(client.post("/train?wait=false", json=training("SHARED")))
    assert defect["msg"].startswith("stocks=[…] belongs to stock=SHARED")


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=x", "limit=99999", "page_token=x", "page_token=1-2"])
def test_a_page_that_makes_no_sense_is_refused(client, query):
    refused(client.get(f"/statistics?{query}"))


@pytest.mark.parametrize("job", ["x", "0" * 32, "..%2f..%2fetc", "%00", "a" * 1000])
def test_an_unknown_job_is_not_found(client, job):
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
        answer = client.request(method, f"/train/{job}{path}")
        assert answer.status_code == 404
        assert "detail" in answer.json()


def test_unknown_addresses_and_methods_are_told_in_json(client):
    refused(client.get("/nothing"), 404)
    refused(client.get("/predict"), 405)
    refused(client.put("/train"), 405)
