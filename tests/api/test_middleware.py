import asyncio

import pytest

from pregao.api.middleware import RequestMiddleware
from pregao.api.monitoring import Monitoring
from tests.api.conftest import client_of


async def empty():
    return {"type": "http.request", "body": b""}


def hang(seconds):
    async def wait(*_):
        await asyncio.sleep(seconds)
        return await empty()

    return wait


def response(path="/predict", headers=(), receive=empty, route=empty, key=None, deadline=5.0):
    """The status of a request to an app whose routes all return 200, and the body that they received."""

    async def app(scope, receive, send):
        received.append((await receive())["body"])
        await route()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def send(message):
        sent.append(message)

    sent, received = [], []
    middleware = RequestMiddleware(app, api_key=key, max_body=10, deadline=deadline, monitoring=Monitoring())
    scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers)}
    asyncio.run(middleware(scope, receive, send))
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
        assert [client.get(path).status_code for path in ("/health", "/docs", "/openapi.json")] == [200] * 3
        assert client.get("/models", headers={"X-API-Key": "a key"}).status_code == 200


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
