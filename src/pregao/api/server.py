"""LitServe with our routes: what starts, what stops, and what goes where.

One HTTP process has the routes, the memory of forecasts and the trainings; it hands closes to LitServe's inference
processes, which run the network. LitServe's own routes give way to those of the contract.
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
from pregao.api.inference_worker import Batch, ForecastAPI, Rows
from pregao.errors import InvalidChoice
from pregao.prices.symbols import Symbol

PR_SET_PDEATHSIG = 1
"""Linux' number of: signal me when my parent dies. See prctl(2)."""

SECONDS_TO_ANSWER_THE_LAST = 6
"""How long open requests may go on after SIGTERM; a training that is being cancelled is over by then."""


class Server(LitServer):  # type: ignore[misc] # LitServe has no types
    """LitServe, with the routes of the contract in place of its own."""

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        super().__init__(
            ForecastAPI(api_path="/predict"),
            accelerator="cpu",
            workers_per_device=config.workers,
            timeout=config.deadline,
            restart_workers=True,
        )
        self.lost = False
        self.uvicorn_graceful_timeout = SECONDS_TO_ANSWER_THE_LAST
        self.monitor_internal = 0.5  # LitServe's spelling: seconds between looks at the inference processes

    def verify_worker_status(self) -> None:
        """LitServe waits here until an inference process is up; importing torch and MLflow meanwhile takes as long."""
        from pregao.api.app import configure_app
        from pregao.tracking import client

        client.preload()
        configure_app(self.app, self.ask, self.config)
        super().verify_worker_status()
        # The HTTP process is forked next: a garbage collection in either would unshare what both only read.
        gc.collect()
        gc.freeze()

    def _start_server(self, *args: Any, **kwargs: Any) -> dict[int, Any]:  # noqa: ANN401 - LitServe's
        """LitServe looks after its inference processes only: without its HTTP process it would wait for ever."""
        started: dict[int, Any] = super()._start_server(*args, **kwargs)
        threading.Thread(target=self._end_with, args=(started[0],), daemon=True).start()
        return started

    def _end_with(self, http: Any) -> None:  # noqa: ANN401 - a process
        wait([http.sentinel])
        http.join(1)  # its files are closed a moment before its exit code is known
        if http.exitcode not in (None, 0, -signal.SIGTERM, -signal.SIGINT):  # None: who ends it has seen it end
            self.lost = True
            with suppress(OSError, EOFError):  # the manager has gone too
                self._shutdown_event.set()

    async def ask(self, batch: Batch) -> list[Rows | None]:
        """What LitServe's own route does, without a leak where the client gives up."""
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
            raise RuntimeError("The inference process failed; its log tells more.")
        found: list[Rows | None] = response
        return found

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Load what is served while the port is open, follow it, and end with no training left behind."""
        async with super().lifespan(app), app.state.service.running():
            yield


def _is_news(record: logging.LogRecord) -> bool:
    """LitServe's monitor asks its manager on, after a shutdown has ended it, and calls that a crash."""
    lost = record.exc_info is not None and isinstance(record.exc_info[1], OSError | EOFError)
    return not (lost and record.getMessage() == "Monitoring worker crashed")


logging.getLogger("litserve.server").addFilter(_is_news)


def serve(config: ServeConfig) -> None:
    """Serve until SIGTERM or ctrl-C.

    Raises:
        PregaoError: a source or a stock that is not allowed.
    """
    Symbol.parse(config.stock)
    _refuse_a_taken_port(config.host, config.port)
    server = Server(config)
    os.register_at_fork(after_in_child=_die_of_signals)
    try:
        server.run(
            host=config.host,
            port=config.port,
            num_api_servers=1,
            log_level="warning",
            generate_client_file=False,
            access_log=False,
        )
    except KeyboardInterrupt:
        pass
    finally:
        _end_children()
    if server.lost:
        sys.stderr.write("The HTTP process died; the server ends.\n")
        sys.exit(1)


def _refuse_a_taken_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InvalidChoice(
                f"port={port} on host={host} cannot be opened ({error.strerror}). Stop what listens there, or give "
                "another one: port=5001."
            ) from None


def _die_of_signals() -> None:
    """In the HTTP process, once uvicorn has closed it; our command's own handlers would print a trace there."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        # An orphan would hold the port for ever, and whoever restarts the server could not.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_children() -> None:
    """What LitServe left, since it was interrupted while it started or while it ended."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for child in multiprocessing.active_children():
        child.terminate()
    for child in multiprocessing.active_children():
        child.join(2)
        if child.is_alive():
            child.kill()
