"""LitServe with our routes: its processes, their start and their end.

One HTTP process has the routes, the remembered forecasts and the trainings; it sends windows to LitServe's inference
processes, which run the network. Our routes replace those of LitServe.
"""

import asyncio
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
from contextlib import asynccontextmanager, suppress
from multiprocessing.connection import wait
from typing import Any
from uuid import uuid4

from fastapi import FastAPI
from litserve import LitServer
from litserve.utils import LitAPIStatus, ResponseBufferItem

from pregao.api.config import ServeConfig
from pregao.api.connections import LimitedProtocol, most_connections
from pregao.api.inference_worker import Batch, ForecastAPI, Rows
from pregao.errors import InvalidChoice
from pregao.prices.symbols import Symbol

PR_SET_PDEATHSIG = 1
"""Linux sends the process a signal when its parent dies. See prctl(2)."""

SECONDS_TO_ANSWER_THE_LAST = 6
"""How long open requests may take after SIGTERM: longer than cancelling a training."""


class Server(LitServer):  # type: ignore[misc] # LitServe has no types
    """LitServe with the routes of the API's contract."""

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        super().__init__(
            ForecastAPI(api_path="/predict"),
            accelerator="cpu",
            workers_per_device=config.workers,
            timeout=config.deadline,
            restart_workers=True,
        )
        self.http_died = False
        self.uvicorn_graceful_timeout = SECONDS_TO_ANSWER_THE_LAST
        self.monitor_internal = 0.5  # LitServe's name: seconds between checks of the inference processes

    def verify_worker_status(self) -> None:
        """Load what the HTTP process needs, while LitServe waits for the inference processes."""
        from pregao.api.app import configure_app
        from pregao.tracking import client

        client.preload()
        configure_app(self.app, self.ask, self.config)
        super().verify_worker_status()
        # The HTTP process is forked next; a garbage collection would copy the memory that both share.
        gc.collect()
        gc.freeze()

    def _start_server(self, *args: Any, **kwargs: Any) -> dict[int, Any]:  # noqa: ANN401 - LitServe's
        """Stop when the HTTP process ends: LitServe watches only its inference processes, and would wait forever."""
        started: dict[int, Any] = super()._start_server(*args, **kwargs)
        threading.Thread(target=self._stop_after, args=(started[0],), daemon=True).start()
        return started

    def _stop_after(self, http: Any) -> None:  # noqa: ANN401 - a process
        wait([http.sentinel])
        http.join(1)  # its files are closed shortly before its exit code is known
        if http.exitcode not in (None, 0, -signal.SIGTERM, -signal.SIGINT):  # None: the exit code was read elsewhere
            self.http_died = True
            with suppress(OSError, EOFError):  # the manager has ended too
                self._shutdown_event.set()

    async def ask(self, batch: Batch) -> list[Rows | None]:
        """Send a batch like LitServe's route, without its leak when a client disconnects."""
        item, uid = ResponseBufferItem(event=asyncio.Event()), uuid4().hex
        self.response_buffer[uid] = item
        try:
            request = (self.app.response_queue_id, uid, time.monotonic(), batch)
            self.litapi_request_queues["/predict"].put(request)
            await item.event.wait()
        finally:
            self.response_buffer.pop(uid, None)
        response, status = item.response
        if status == LitAPIStatus.ERROR:
            raise RuntimeError("The inference process failed; see its log.")
        found: list[Rows | None] = response
        return found

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Run the background tasks of the service while the port is open."""
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
    server = Server(config)
    os.register_at_fork(after_in_child=_restore_signals)
    try:
        server.run(
            host=config.host,
            port=config.port,
            num_api_servers=1,
            log_level="warning",
            generate_client_file=False,
            access_log=False,
            http=LimitedProtocol,
            limit_concurrency=most_connections(config.connections),
        )
    except KeyboardInterrupt:
        pass
    finally:
        _end_children()
    if server.http_died:
        sys.stderr.write("The HTTP process died; the server ends.\n")
        sys.exit(1)


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


def _restore_signals() -> None:
    """Restore the default signal handlers in the HTTP process; those of the command would print a trace."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        # An orphan would keep the port, so that no new server could start.
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
