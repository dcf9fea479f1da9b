import json

import pytest

from pregao.api import refusals
from pregao.api.schemas import CLOSES
from pregao.errors import PregaoError, sentence_for_clients
from tests.api.conftest import training

JSON = {"content-type": "application/json"}
TICKERS = ["", "*", "VALE3\0", "ſALE3", "A" * 1000, "VA'E3", "../../etc/passwd", "${stock}", "http://127.0.0.1:9/"]
BODIES = [b"", b"null", b"{", b"[]", b'"VALE3"', b"1e999", b"{stock: 3}", b"\0", b"\xff\xfe", b"[" * 100_000]


def refused(answer, status=422):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert "Traceback" not in answer.text
    assert answer.headers["X-Request-ID"]
    detail, error = answer.json()["detail"], answer.json()["error"]
    assert error.endswith(detail[0]["msg"]) if status == 422 else error == detail
    assert isinstance(detail, list if status == 422 else str)
    return detail


def files(home):
    return {path for path in home.rglob("*") if "mlruns" not in path.parts}


@pytest.mark.parametrize("stock", TICKERS, ids=ascii)
def test_a_hostile_ticker_is_refused_by_every_route_and_leaves_no_file(client, stock):
    before = files(client.home)
    refused(client.post("/predict", json={"stock": stock}))
    refused(client.post("/predict", json={"stock": stock, "historical_data": CLOSES}))
    refused(client.post("/train?wait=false", json=training(stock)))
    refused(client.get("/statistics", params={"stock": stock}))
    refused(client.get("/accuracy", params={"stock": stock}))
    assert files(client.home) == before


@pytest.mark.parametrize("path", ["/predict", "/train"])
def test_a_body_that_is_not_a_json_object_is_refused(client, path):
    for body in BODIES[2 * (path == "/predict") :]:
        answer = client.post(path, content=body, headers=JSON)
        refused(answer, 400 if len(body) == 100_000 else 422)  # 400: too deep for the parser
    for kind in ("text/plain", "multipart/form-data", ""):
        refused(client.post(path, content=b'{"stock": "VALE3"}', headers={"content-type": kind}))


def test_a_body_of_five_megabytes_is_refused(client):
    for path in ("/predict", "/train", "/nothing", "/statistics"):
        refused(client.post(path, content=b"x" * 5_000_000), 413)
        refused(client.post(path, content=(b"x" * 100_000 for _ in range(50))), 413)


@pytest.mark.parametrize("close", [0, -1, float("nan"), float("inf"), "55", None, True, [1]], ids=str)
def test_a_close_that_is_not_a_price_is_refused_with_its_position(client, close):
    body = json.dumps({"historical_data": [*CLOSES[:7], close, *CLOSES]})
    [defect] = refused(client.post("/predict", content=body, headers=JSON))
    assert defect["loc"] == ["body", "historical_data", 7]


@pytest.mark.parametrize(("number", "status"), [(0, 422), (19, 422), (20, 200), (10_000, 200), (10_001, 422)])
def test_twenty_to_ten_thousand_closes_are_accepted(client, number, status):
    assert client.post("/predict", json={"historical_data": [50.5] * number}).status_code == status


@pytest.mark.parametrize("body", [{"stock": 3}, {"stock": "VALE3", "horizon": 5}, {"ticket": "VALE3"}], ids=str)
def test_a_request_with_another_field_is_refused(client, body):
    refused(client.post("/predict", json=body))


@pytest.mark.parametrize(("first", "second"), [("stock", "ticker"), ("ticker", "symbol"), ("values", "closes")])
def test_two_names_of_one_field_are_refused_by_name(client, first, second):
    value = "VALE3" if "ticker" in (first, second) else CLOSES
    [defect] = refused(client.post("/predict", json={first: value, second: value}))
    assert defect["loc"] == ["body", second]


@pytest.mark.parametrize("close", [1e308, 1e5, 5e-324])
def test_a_close_of_another_scale_is_refused_with_its_position_and_value(client, close):
    [defect] = refused(client.post("/predict", json={"historical_data": [*CLOSES[:7], close, *CLOSES[7:]]}))
    assert defect["loc"] == ["body", "historical_data"]
    assert f"number 8 of 21 is {close:g}" in defect["msg"]


@pytest.mark.parametrize(
    "changes",
    [
        {"inicio": "2024-13-01"},
        {"inicio": "2024-01-01", "fim": "2020-01-01"},
        {"inicio": "2999-01-01", "fim": "2999-12-31"},
        {"inicio": None},
        {"fim": "' OR 1=1"},
        {"unknown": 1},
        {"overrides": {"model.hidden_size": 0}},
        {"overrides": {"model._target_": "os.system"}},
        {"overrides": {"ckpt_path": "/etc/passwd"}},
        {"overrides": {"model": "absolute", "model.shrinkage": 0.5}},
        {"overrides": {"optimizer.learning_rate": float("nan")}},
        {"stock": "SHARED"},
    ],
    ids=str,
)
def test_a_training_with_invalid_choices_is_refused(client, changes):
    refused(client.post("/train?wait=false", content=json.dumps(training(**changes)), headers=JSON))


def test_what_does_not_exist_is_not_found(client):
    assert "knows no such stock" in refused(client.post("/predict", json={"stock": "XPTO3"}), 404)
    assert "It is the model of many stocks." in refused(client.post("/predict", json={"stock": "SHARED"}), 404)
    for job in ("x", "0" * 32, "..%2f..%2fetc", "%00", "a" * 1000):
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
            refused(client.request(method, f"/train/{job}{path}"), 404)
    refused(client.get("/nothing"), 404)
    answer = client.get("/predict")
    refused(answer, 405)
    assert answer.headers["Allow"] == "POST"
    answer = client.put("/train/x")
    refused(answer, 405)
    assert answer.headers["Allow"] == "DELETE, GET, HEAD"


def test_no_answer_holds_a_folder_of_the_host(client):
    client.post("/predict", json={"stock": "XPTO3"})
    paths = ("/health", "/models", "/statistics?all=true", "/accuracy", "/train", "/info", "/openapi.json", "/train/x")
    for path in paths:
        text = client.get(path).text
        assert str(client.home) not in text
        assert "/home/" not in text
    assert str(client.home) not in client.get("/metrics").text


def test_no_redirect_leads_to_the_host_that_a_client_names(client):
    for path in ("/health/", "/models/", "/train/", "//evil.example/", "/docs/"):
        answer = client.get(path, headers={"Host": "localhost"})
        assert (answer.status_code, "location" in answer.headers) == (404, False)
    assert client.get("/models", headers={"Host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=10001", "page_token=x"])
def test_an_invalid_page_is_refused(client, query):
    [defect] = refused(client.get(f"/statistics?all=true&{query}"))
    assert defect["loc"] == ["query", query.partition("=")[0]]


def every(kind):
    for child in kind.__subclasses__():
        yield child
        yield from every(child)


@pytest.mark.parametrize("kind", list(every(PregaoError)))
def test_every_refusal_has_a_status(kind):
    assert kind in refusals.STATUS
    assert refusals.kind(kind.__name__) is kind
    body = refusals.body(kind, "no")
    assert (body["detail"][0]["msg"] if refusals.status(kind) == 422 else body["detail"]) == "no"


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("asked /home/me/prices/VALE3.csv. Check", "asked VALE3.csv. Check"),
        ("sqlite:////srv/mlruns/mlflow.db cannot", "mlflow.db cannot"),
        ("file:///srv/a/b cannot", "b cannot"),
        ("'/srv/a b/c' is", "'a b/c' is"),
        ("see https://example.org/a/b for 2020/01/02", "see https://example.org/a/b for 2020/01/02"),
        ("/home/me/my home/data/x.csv: no", "data/x.csv: no"),
        ("POST /train trains", "POST /train trains"),
    ],
)
def test_a_sentence_for_clients_has_no_folder_of_the_host(monkeypatch, sentence, expected):
    monkeypatch.setenv("PREGAO_HOME", "/home/me/my home")
    assert sentence_for_clients(sentence) == expected
