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
from pregao.api.inference_worker import Batch, ForecastAPI, Rows
from pregao.errors import InvalidChoice
from pregao.prices.symbols import Symbol

PR_SET_PDEATHSIG = 1
"""Linux' number of: signal me when my parent dies. See prctl(2)."""

SECONDS_TO_ANSWER_THE_LAST = 6
"""How long open requests may take after SIGTERM: longer than it takes to cancel a training."""


class Server(LitServer):  # type: ignore[misc] # LitServe has no types
    """LitServe, with the routes of the contract instead of its own."""

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
        """Load what the HTTP process needs while the inference processes start, for which LitServe waits here."""
        from pregao.api.app import configure_app
        from pregao.tracking import client

        client.preload()
        configure_app(self.app, self.ask, self.config)
        super().verify_worker_status()
        # The HTTP process is forked next: a garbage collection in either would unshare what both only read.
        gc.collect()
        gc.freeze()

    def _start_server(self, *args: Any, **kwargs: Any) -> dict[int, Any]:  # noqa: ANN401 - LitServe's
        """End with the HTTP process: LitServe watches only its inference processes, and would wait for ever."""
        started: dict[int, Any] = super()._start_server(*args, **kwargs)
        threading.Thread(target=self._end_with, args=(started[0],), daemon=True).start()
        return started

    def _end_with(self, http: Any) -> None:  # noqa: ANN401 - a process
        wait([http.sentinel])
        http.join(1)  # its files are closed a moment before its exit code is known
        if http.exitcode not in (None, 0, -signal.SIGTERM, -signal.SIGINT):  # None: its exit code was read elsewhere
            self.lost = True
            with suppress(OSError, EOFError):  # the manager has gone too
                self._shutdown_event.set()

    async def ask(self, batch: Batch) -> list[Rows | None]:
        """Send a batch as LitServe's own route does, without its leak where a client disconnects."""
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


def _is_news(record: logging.LogRecord) -> bool:
    """False for the crash that LitServe's monitor logs when a shutdown has ended its manager first."""
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
                f"port={port} on host={host} cannot be opened ({error.strerror}). Stop the program that listens there, "
                "or choose another port: port=5001."
            ) from None


def _die_of_signals() -> None:
    """Restore the default signals in the HTTP process; the command's own handlers would print a trace there."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        # An orphan would keep the port, and the server could not be restarted.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_children() -> None:
    """End the processes that LitServe left when it was interrupted during its start or its end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for child in multiprocessing.active_children():
        child.terminate()
    for child in multiprocessing.active_children():
        child.join(2)
        if child.is_alive():
            child.kill()
