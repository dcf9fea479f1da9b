import re
from datetime import date, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pregao.api.monitoring import OUTCOMES, Monitoring
from pregao.prices.calendar import last_finished_session, sessions
from pregao.training.job import Job

STOCKS = ['VALE3"} 1\npregao_ready 0', "../../etc/passwd", "A" * 5000, "${jndi:ldap://x}", "VALE3\\", "É", "ABCD11"]
PATHS = ["/%22%7D%201", "/train/" + "9" * 3000, "/predict/VALE3", "/..%2f..%2fetc/passwd", "/metrics%0Aevil", "/a/b?c"]
METHODS = ["PROPFIND", "TRACE", "M-SEARCH", *(f"EVIL{number}" for number in range(5))]


def samples(text):
    """Each sample's value by its name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(client):
    return samples(client.get("/metrics").text)


def value(found, name, **labels):
    return found.get((name, tuple(sorted(labels.items()))), 0)


def test_a_scrape_shows_the_served_models_and_the_age_of_their_closes(client):
    as_of = client.post("/predict", json={"stock": "VALE3"}).json()["as_of"]
    found = scraped(client)
    [model] = [model for model in client.get("/models").json()["models"] if model["stock"] == "VALE3"]
    assert (value(found, "pregao_ready"), value(found, "pregao_problems")) == (1, 0)
    assert value(found, "pregao_model_version", stock="VALE3") == model["version"]
    trained = value(found, "pregao_model_trained_timestamp_seconds", stock="VALE3")
    assert trained == datetime.fromisoformat(model["trained_at"]).timestamp()
    newest = value(found, "pregao_newest_close_timestamp_seconds", stock="VALE3")
    assert newest == datetime.fromisoformat(f"{as_of}T00:00+00:00").timestamp()
    missed = sessions("BVMF", date.fromisoformat(as_of), last_finished_session("BVMF"))[1:]
    assert value(found, "pregao_newest_close_behind_sessions", stock="VALE3") == len(missed) > 0


def test_requests_are_counted_by_route_and_forecasts_by_their_origin(client):
    client.post("/predict", json={"stock": "VALE3"})
    before = scraped(client)
    for _ in range(5):
        client.post("/predict", json={"stock": "VALE3"})
    client.post("/predict", json={"historical_data": [50.0 + day for day in range(20)]})
    client.get("/train/" + "0" * 32)
    client.get("/nothing")
    after = scraped(client)
    forecast = {"method": "POST", "route": "/predict", "status": "200"}
    for name, labels, number in (
        ("pregao_requests_total", forecast, 6),
        ("pregao_requests_total", {"method": "GET", "route": "/train/{job}", "status": "404"}, 1),
        ("pregao_requests_total", {"method": "GET", "route": "none", "status": "404"}, 1),
        ("pregao_request_seconds_count", forecast, 6),
        ("pregao_forecasts_remembered_total", {}, 5),
        ("pregao_forecasts_computed_total", {}, 1),
    ):
        assert value(after, name, **labels) - value(before, name, **labels) == number


def test_hostile_stocks_paths_and_methods_add_no_label(client):
    def ask():
        for stock in STOCKS:
            client.post("/predict", json={"stock": stock})
        for path in PATHS:
            client.get(path)
        for method in METHODS:
            client.request(method, "/predict")
        return {key for key in scraped(client) if key[0].startswith("pregao_")}

    ask()
    known = ask()
    assert ask() == known
    shown = {value for _, pairs in known for name, value in pairs if name != "le"}
    assert not [text for text in shown if re.search("9999|EVIL|etc|jndi", text)]
    assert not shown & {*STOCKS, *METHODS}


@pytest.mark.parametrize(
    ("state", "fields", "outcome"),
    [
        ("done", {"result": {"promoted": True}}, "promoted"),
        ("done", {"result": {"promoted": False}}, "kept"),
        ("failed", {"refusal": "TooFewSessions"}, "refused"),
        ("failed", {}, "failed"),
        ("cancelled", {}, "cancelled"),
    ],
)
def test_a_training_is_counted_by_its_outcome_with_its_seconds(state, fields, outcome):
    monitoring = Monitoring()
    monitoring.trained(Job("0" * 32, "VALE3", state, "2024-12-30T12:00:00Z", "2024-12-30T12:00:07Z", **fields))
    found = samples(monitoring.text().decode())
    for name in OUTCOMES:
        assert value(found, "pregao_training_seconds_count", outcome=name) == (name == outcome)
    assert value(found, "pregao_training_seconds_sum", outcome=outcome) == pytest.approx(7)
