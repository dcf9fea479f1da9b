import asyncio
import json
import logging

import pytest

from pregao.api.access import LOCAL_HOSTS, Access
from pregao.api.middleware import RequestMiddleware
from pregao.api.monitoring import Monitoring
from tests.api.conftest import client_of, until


async def empty():
    return {"type": "http.request", "body": b""}


def hang(seconds):
    async def wait(*_):
        await asyncio.sleep(seconds)
        return await empty()

    return wait


def response(
    path="/predict", headers=(), receive=empty, route=empty, key=None, deadline=5.0, access=None, monitoring=None
):
    """The status of a request to an app whose routes all return 200, and the body that they received."""

    async def app(scope, receive, send):
        received.append((await receive())["body"])
        await route()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def send(message):
        sent.append(message)

    sent, received = [], []
    access, monitoring = access or Access(key, None, 10), monitoring or Monitoring()
    middleware = RequestMiddleware(app, access=access, max_body=10, deadline=deadline, monitoring=monitoring, log=True)
    scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers), "client": ("192.0.2.1", 1)}

    async def run():
        await middleware(scope, receive, send)
        await asyncio.sleep(0.01)  # the log is written after the answer

    asyncio.run(run())
    return sent[0]["status"], b"".join(received)


@pytest.mark.parametrize(
    ("path", "header", "given", "expected"),
    [
        ("/models", b"x-api-key", b"a key", 200),
        ("/models", b"x-api-key", b"another", 401),
        ("/models", b"authorization", b"Bearer a key", 401),
        ("/health", b"x-api-key", b"", 200),
        ("/metrics", b"x-api-key", b"a key", 200),
        ("/metrics", b"authorization", b"Bearer a key", 200),
        ("/metrics", b"authorization", b"Bearer another", 401),
        ("/metrics", b"authorization", b"", 401),
    ],
)
def test_only_clients_with_the_key_get_an_answer(path, header, given, expected):
    assert response(path, [(header, given)], key="a key")[0] == expected


def test_the_key_of_the_environment_guards_every_route_but_health_and_documentation(home, prices, monkeypatch, shared):
    monkeypatch.setenv("PREGAO_API_KEY", "a key")
    with client_of(prices) as client:
        for method, path in (("GET", "/models"), ("POST", "/train"), ("DELETE", "/train/x"), ("GET", "/nothing")):
            answer = client.request(method, path)
            assert (answer.status_code, "detail" in answer.json()) == (401, True)
        is_open = ("/health", "/health/live", "/health/ready", "/docs", "/docs/swagger-ui.css", "/openapi.json")
        assert [client.get(path).status_code for path in is_open] == [200] * len(is_open)
        assert client.get("/models", headers={"X-API-Key": "a key", "Host": "pregao.example"}).status_code == 200
        documented = client.get("/openapi.json").json()
    assert documented["paths"]["/models"]["get"]["security"]
    assert "401" in documented["paths"]["/models"]["get"]["responses"]
    assert "security" not in documented["paths"]["/health"]["get"]


def test_after_ten_wrong_keys_an_address_is_refused_for_a_minute(caplog):
    access, key = Access("a key", None, 10), [(b"x-api-key", b"a key")]
    wrong = [response("/models", [(b"x-api-key", b"s3cret")], access=access)[0] for _ in range(12)]
    assert wrong == [401] * 10 + [429] * 2
    assert response("/models", key, access=access)[0] == 429
    assert response("/health", access=access)[0] == 200
    assert caplog.text.count("192.0.2.1 sent a wrong API key.") == 10
    assert "s3cret" not in caplog.text
    without = Access("a key", None, 10)
    assert {response("/models", access=without)[0] for _ in range(12)} == {401}, "no key is not a wrong one"
    assert response("/models", key, access=without)[0] == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:5000", "127.0.0.1:5000", "[::1]:5000", "pregao.example"])
def test_without_a_key_the_names_of_this_host_are_allowed(host):
    access = Access(None, {*LOCAL_HOSTS, "Pregao.example"}, 10)
    assert response(headers=[(b"host", host.encode())], access=access)[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:5000", "", "[", "[::1"])
def test_without_a_key_another_host_is_refused(host):
    access = Access(None, LOCAL_HOSTS, 10)
    assert response(headers=[(b"host", host.encode())], access=access)[0] == 400


def logged(caplog):
    texts = [record.getMessage() for record in caplog.records if record.name == "pregao.requests"]
    return [json.loads(line) for text in texts for line in text.splitlines()]


@pytest.fixture(autouse=True)
def written_immediately(monkeypatch):
    monkeypatch.setattr("pregao.api.middleware.SECONDS_BETWEEN_LINES", 0)


def test_an_unhandled_error_is_a_500_with_a_sentence_and_is_counted_as_such(caplog):
    async def fail():
        raise KeyError("/srv/secret")

    monitoring = Monitoring()
    with caplog.at_level(logging.INFO, "pregao.requests"):
        assert response(route=fail, monitoring=monitoring)[0] == 500
    assert 'pregao_requests_total{method="POST",route="none",status="500"} 1.0' in monitoring.text().decode()
    assert logged(caplog)[0]["status"] == 500
    assert "KeyError" in caplog.text


def test_the_last_requests_are_logged_when_the_server_ends(monkeypatch, caplog):
    monkeypatch.setattr("pregao.api.middleware.SECONDS_BETWEEN_LINES", 3600)

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})

    async def run():
        for scope in ({"type": "http", "method": "GET", "path": "/", "headers": []}, {"type": "lifespan"}):
            await middleware(scope, empty, sink)

    async def sink(message):
        pass

    middleware = RequestMiddleware(
        app, access=Access(None, None, 10), max_body=10, deadline=5, monitoring=Monitoring(), log=True
    )
    with caplog.at_level(logging.INFO, "pregao.requests"):
        asyncio.run(run())
    assert [line["status"] for line in logged(caplog)] == [200]


def test_each_request_is_logged_as_json_with_its_id(client, caplog):
    with caplog.at_level(logging.INFO, "pregao.requests"):
        named = client.post("/predict", json={"stock": "vale3.sa"}, headers={"X-Request-ID": "a-b_c.1"})
        hostile = client.get("/models", headers={"X-Request-ID": 'x" evil'})
        unknown = client.post("/predict", json={"stock": "XPTO3"}, headers={"X-API-Key": "s3cret"})
        new = client.get("/nothing/../s3cret?key=s3cret")
        lines = until(lambda: logged(caplog), lambda lines: len(lines) == 4)  # they are written in batches
    assert named.headers["X-Request-ID"] == "a-b_c.1"
    expected = [
        {"method": "POST", "route": "/predict", "status": 200, "stock": "VALE3", "version": 1, "id": "a-b_c.1"},
        {"method": "GET", "route": "/models", "status": 200, "stock": "SHARED", "id": hostile.headers["X-Request-ID"]},
        {"route": "/predict", "status": 404, "stock": "XPTO3", "version": None, "id": unknown.headers["X-Request-ID"]},
        {"route": "none", "status": 404, "stock": None, "version": None, "id": new.headers["X-Request-ID"]},
    ]
    assert len({line["id"] for line in lines}) == 4
    for line, fields in zip(lines, expected, strict=True):
        assert line | fields == line
        assert line["ms"] > 0
        assert line["time"].startswith("20")
    assert "s3cret" not in caplog.text + str(lines)


@pytest.mark.parametrize(("size", "expected"), [(10, 200), (11, 413)])
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_may_have_the_maximum_size_and_no_byte_more(size, expected, announced):
    async def receive():
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    chunks = [b"x" * 6, b"x" * (size - 6)]
    headers = [(b"content-length", str(size).encode())] if announced else []
    assert response(headers=headers, receive=receive) == (expected, b"x" * size if expected == 200 else b"")


def test_after_the_deadline_the_answer_is_504_except_for_a_training():
    assert response(receive=hang(60), deadline=0.05)[0] == 504
    assert response(route=hang(60), deadline=0.05)[0] == 504
    for path in ("/train", "/train/0123/events"):
        assert response(path, route=hang(0.1), deadline=0.05)[0] == 200
