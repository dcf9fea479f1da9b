import asyncio
import contextlib
import resource
import socket
import threading
import time

import pytest
import uvicorn

from pregao.api import connections
from pregao.api.connections import LimitedProtocol, most_connections
from tests.api.conftest import free_port, until

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def app(scope, receive, send):
    assert scope["type"] == "http"
    await asyncio.sleep(0.6 if scope["path"] == "/slow" else 0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def connect(monkeypatch):
    """Opens connections to a server that allows four and waits 0.3 s for headers."""
    monkeypatch.setattr(connections, "SECONDS_FOR_HEADERS", 0.3)
    port = free_port()
    limits = {"http": LimitedProtocol, "limit_concurrency": 4, "lifespan": "off", "log_level": "critical"}
    server = uvicorn.Server(uvicorn.Config(app, port=port, **limits))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started, bool)
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=3))
    server.should_exit = True
    thread.join()


def answered(client, request=REQUEST):
    """Whether a request on this connection is answered."""
    try:
        client.sendall(request)
        return client.recv(1000).endswith(b"ok")
    except ConnectionError:
        return False


@pytest.mark.parametrize("before", [b"", REQUEST])
@pytest.mark.parametrize("part", [b"", b"\r\n", b"GET / HT", REQUEST[:-2]])
def test_a_connection_that_sends_a_part_of_its_headers_is_closed(connect, before, part, monkeypatch):
    client = connect()
    assert not before or answered(client, before)
    if part or not before:  # uvicorn closes an idle connection after five seconds
        client.sendall(part)
        started = time.monotonic()
        assert client.recv(1) == b""
        assert 0.2 < time.monotonic() - started < 1.5


def test_a_slow_answer_and_an_open_connection_are_not_cut_off(connect):
    client = connect()
    assert answered(client, REQUEST.replace(b"/ ", b"/slow "))
    time.sleep(0.5)
    assert answered(client)


def test_connections_beyond_the_limit_are_closed_and_the_others_served(connect):
    clients = [connect() for _ in range(4)]
    assert all(map(answered, clients))
    assert not answered(connect())
    assert all(map(answered, clients))
    clients[0].close()
    until(lambda: answered(connect()), bool, 5)


def test_half_sent_headers_up_to_the_limit_lock_nobody_out(connect, monkeypatch):
    monkeypatch.setattr(connections, "SECONDS_FOR_HEADERS", 60)
    for _ in range(20):
        connect().sendall(REQUEST[:9])
    assert answered(connect())


def test_half_of_the_descriptors_are_for_connections():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert most_connections(10) == 10
        assert most_connections(10**9) == before[1] // 2
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
