"""Trainings for a server: started, awaited and cancelled without blocking its event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, TypeVar

from pregao.api.config import ServeConfig
from pregao.api.monitoring import Monitoring
from pregao.api.schemas import TrainRequest
from pregao.errors import sentence_for_clients
from pregao.prices.dates import parse_dates
from pregao.prices.symbols import Symbol
from pregao.tracking import database
from pregao.training.checked import check_elsewhere
from pregao.training.job import Job
from pregao.training.jobs import Jobs

T = TypeVar("T")

SECONDS_BETWEEN_LOOKS = 0.1

PROMOTED = "Treino concluido com sucesso! O modelo foi atualizado!"
NOT_PROMOTED = "Treino concluido, mas o modelo anterior continua em uso: {reason}."

STOPPED = "The server ended while this training ran."


class Trainings:
    """The training jobs of this machine, for asyncio."""

    def __init__(self, config: ServeConfig, monitoring: Monitoring) -> None:
        self.config = config
        self.monitoring = monitoring
        self.jobs = Jobs()
        self.stopping = asyncio.Event()
        # Separate threads: asyncio's may be busy.
        self._threads = ThreadPoolExecutor(4, "trainings")
        self._watched: set[asyncio.Task[Job]] = set()

    async def start(self, request: TrainRequest) -> Job:
        """Start a training.

        Raises:
            InvalidSymbol: the stock is not a ticker.
            InvalidDates: an invalid date, or a reversed range.
            InvalidChoice: overrides that exclude each other.
            TrainingTooLarge: its estimated cost is above a limit.
            TrainingRuns: another training runs.
            StorageError: the disk is full or read-only.
            TrackingUnavailable: MLflow's database was removed.
        """
        symbol = Symbol.parse(request.stock)
        start, end = request.inicio.strip(), request.fim.strip()
        parse_dates(start, end)
        database.raise_if_gone()
        with self.jobs.lock() as lock:
            overrides = request.overrides.chosen()
            chosen = symbol, start, end, self.config.source, overrides, self.config.limits
            training = await self._in_thread(check_elsewhere, *chosen)
            job = await self._in_thread(self.jobs.start, lock, training)
        self.monitoring.training.set(1)
        task = asyncio.create_task(self.ended(job.id))  # reaps the process even if the client disconnects
        self._watched.add(task)
        task.add_done_callback(self._forget)
        return job

    def _forget(self, task: asyncio.Task[Job]) -> None:
        self._watched.discard(task)
        self.monitoring.training.set(0)
        if not task.cancelled() and task.exception() is None:
            self.monitoring.trained(task.result())

    async def ended(self, id: str) -> Job:
        """Wait for the job's end."""
        while True:
            job = await self._in_thread(self.jobs.read, id)
            if job.ended and self.jobs.gone(id):
                return job
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    async def cancel(self, id: str) -> Job:
        """Stop a job and wait for its end; a job that has ended is not changed."""
        return await self._in_thread(self.jobs.cancel, id)

    async def states(self, id: str) -> AsyncIterator[Job]:
        """The state of a job now and after each change, until its end."""
        sent = None
        while not self.stopping.is_set():
            job = await self._in_thread(self.jobs.read, id)
            if job != sent:
                yield job
                sent = job
            if job.ended:
                return
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    def stop(self) -> None:
        """Cancel this server's training, in a thread since that takes seconds."""
        self.stopping.set()
        self._threads.submit(self.jobs.cancel_own, STOPPED)

    def close(self) -> None:
        """Wait until `stop` is done."""
        self._threads.shutdown()

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


def as_json(job: Job) -> dict[str, Any]:
    """A job under the names of GET /train."""
    fields = {name: value for name, value in asdict(job).items() if name not in ("id", "refusal")}
    error = None if job.error is None else sentence_for_clients(job.error)
    result = None if job.result is None else outcome(job.result)
    return {"job": job.id, **fields, "error": error, "result": result}


def outcome(result: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a finished training."""
    message = PROMOTED if result["promoted"] else NOT_PROMOTED.format(reason=result["promotion"])
    return {"message": message, **result}
