"""LitServe with our routes: its processes, their start and their end.

One HTTP process has the routes, the remembered forecasts and the trainings; it calls the LitAPI in LitServe's inference
processes, which run the models. Only public names of LitServe are used.
"""

import ctypes
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.connection import wait
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from litserve import LitServer

from pregao.api.app import configure_app
from pregao.api.config import ServeConfig
from pregao.api.connections import LimitedProtocol, most_connections
from pregao.api.forecast_api import ForecastAPI, end_with_parent
from pregao.api.request_batcher import RequestBatcher
from pregao.errors import InvalidChoice
from pregao.prices.symbols import Symbol

INFER = "/infer"
"""The route of the LitAPI, which is removed from the app once its endpoint is known."""

PR_SET_PDEATHSIG = 1
"""Linux sends the process a signal when its parent dies. See prctl(2)."""

SECONDS_TO_ANSWER_THE_LAST = 6
"""How long open requests may take after SIGTERM: longer than cancelling a training."""


class Server(LitServer):  # type: ignore[misc] # LitServe has no types
    """LitServe with background tasks of our service."""

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Run the service while the port is open."""
        threading.Thread(target=end_with_parent, daemon=True).start()
        async with super().lifespan(app), app.state.service.running():
            yield


def _is_relevant(record: logging.LogRecord) -> bool:
    """False for the crash that LitServe's monitor logs when a shutdown ends its manager first."""
    lost = record.exc_info is not None and isinstance(record.exc_info[1], OSError | EOFError)
    return not (lost and record.getMessage() == "Monitoring worker crashed")


logging.getLogger("litserve.server").addFilter(_is_relevant)


def serve(config: ServeConfig) -> None:
    """Serve until SIGTERM or ctrl-C.

    Raises:
        PregaoError: a source, a stock or a port that is not allowed.
    """
    Symbol.parse(config.stock)
    _raise_if_port_is_taken(config.host, config.port)
    server = Server(
        ForecastAPI(api_path=INFER),
        accelerator="cpu",
        workers_per_device=config.workers,
        timeout=config.deadline,
        restart_workers=True,
    )
    server.uvicorn_graceful_timeout = SECONDS_TO_ANSWER_THE_LAST
    server.monitor_internal = 0.5  # seconds between checks of the inference processes
    configure_app(server.app, RequestBatcher(_endpoint(server.app), config.workers, config.deadline), config)
    _stop_on_signals()
    os.register_at_fork(after_in_child=_die_with_parent)
    died = threading.Event()
    threading.Thread(target=_end_with_http, args=(died,), daemon=True).start()
    # The HTTP process is forked next; a garbage collection would copy the memory that both share.
    gc.collect()
    gc.freeze()
    try:
        server.run(
            host=config.host,
            port=config.port,
            num_api_servers=1,
            log_level="warning",
            generate_client_file=False,
            access_log=False,
            server_header=False,
            http=LimitedProtocol,
            limit_concurrency=most_connections(config.connections),
        )
    except (KeyboardInterrupt, EOFError, ConnectionError):  # the last two: the manager has ended first
        pass
    finally:
        _end_children()
    if died.is_set():
        sys.stderr.write("The HTTP process died; the server ends.\n")
        sys.exit(1)


def _endpoint(app: FastAPI) -> Any:  # noqa: ANN401 - a function of LitServe
    """The function that sends a trip to an inference process, found as LitServe's own MCP finds it."""
    return next(route.endpoint for route in app.router.routes if isinstance(route, APIRoute) and route.path == INFER)


def _stop_on_signals() -> None:
    """Let SIGTERM and ctrl-C end the starter; LitServe itself does not end on SIGTERM.

    KeyboardInterrupt, since after SystemExit LitServe waits for the connection that the signal has interrupted. A
    forked process inherits the handler, and must not raise.
    """
    starter = os.getpid()

    def stop(number: int, frame: object) -> None:
        if os.getpid() == starter:
            raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def _end_with_http(died: threading.Event) -> None:
    """End the starter when the HTTP process dies: LitServe watches only its inference processes."""
    while True:
        time.sleep(0.5)
        for child in multiprocessing.active_children():
            if child.name.startswith("LitServer-"):
                wait([child.sentinel])
                child.join(1)  # its files are closed shortly before its exit code is known
                if child.exitcode not in (None, 0, -signal.SIGTERM, -signal.SIGINT):  # None: it was read elsewhere
                    died.set()
                    os.kill(os.getpid(), signal.SIGTERM)
                return


def _raise_if_port_is_taken(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InvalidChoice(
                f"port={port} on host={host} cannot be opened ({error.strerror}). Stop the program that listens there, "
                "or choose another port: port=5001."
            ) from None


def _die_with_parent() -> None:
    """Let the kernel end a forked process with the starter: an orphan would keep the port."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_children() -> None:
    """End the processes that LitServe leaves when its start or its end is interrupted."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for child in multiprocessing.active_children():
        child.terminate()
    for child in multiprocessing.active_children():
        child.join(2)
        if child.is_alive():
            child.kill()
