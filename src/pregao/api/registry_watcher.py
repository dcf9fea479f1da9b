"""The served models of the HTTP process, which follow served.json and the registry."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cachetools import TTLCache

from pregao.api.remote_model import Infer, RemoteModel
from pregao.errors import (
    CorruptModel,
    NoModel,
    NotReady,
    NotServed,
    PregaoError,
    TrackingUnavailable,
    raise_refusal,
    refusal,
    sentence_for_clients,
)
from pregao.models.card import not_for_predict
from pregao.prices.symbols import SHARED, Symbol
from pregao.settings import settings, sqlite_file
from pregao.tracking import registry, served
from pregao.tracking.registry import Served
from pregao.tracking.served import Entry

logger = logging.getLogger(__name__)

SECONDS_OF_A_PROCESS = 300
"""Time limit of the process with MLflow and PyTorch."""


@dataclass(frozen=True)
class RemoteServed(Served):
    """A served version, whose network runs in an inference process."""

    model: RemoteModel


class RegistryWatcher:
    """Served models by ticker.

    A change by this machine replaces served.json, and is followed before the next response. A change by another machine
    is found at intervals; a process with MLflow then replaces the file. Where the registry fails, the models in memory
    stay.

    Args:
        infer: calls the inference process.

    Attributes:
        served: by ticker, SHARED included.
        problems: sentences for /health, by ticker or `registry`.
    """

    def __init__(self, infer: Infer) -> None:
        self.infer = infer
        self.served: dict[str, RemoteServed] = {}
        self.problems: dict[str, str] = {}
        self._file = os.fspath(served.served_file())
        self._stamp: object = None
        self._damaged: set[str] = set()
        self._registry_problem: dict[str, str] = {}
        self._lock = asyncio.Lock()
        self._started = asyncio.Event()
        self._one_process = asyncio.Semaphore()  # clients may ask for many versions
        self._exports: TTLCache[tuple[str, int], asyncio.Task[dict[str, Any]]] = TTLCache(100, SECONDS_OF_A_PROCESS)
        # Own threads: a registry that hangs blocks neither asyncio's, which LitServe uses too, nor a promotion,
        # which needs the files alone.
        self._registry_threads = ThreadPoolExecutor(2, "registry")
        self._files_thread = ThreadPoolExecutor(1, "served models")

    async def start(self) -> None:
        """Load the models of served.json, or the shipped ones on a new home."""
        try:
            await self._follow(self._stamp_now())
        finally:
            self._started.set()

    async def watch(self, poll: float) -> None:
        """Compare with the registry every `poll` seconds; never ends."""
        while True:
            await self.compare()
            await asyncio.sleep(poll)

    async def compare(self) -> None:
        """Look at the registry's champions; where they differ from served.json, let a process replace it."""
        loop = asyncio.get_running_loop()
        try:
            if self._damaged or not await loop.run_in_executor(self._registry_threads, self._is_current):
                await self.run("synchronise")
                self._stamp = None  # damaged files may have been made again, without a change of served.json
            self._registry_problem = {}
        except Exception as error:  # SQLAlchemy's, the network's: the models in memory stay
            self._registry_problem = {"registry": self._problem(error)}
        await self._follow(self._stamp_now())
        self.problems = {name: text for name, text in self.problems.items() if name != "registry"}
        self.problems |= self._registry_problem

    async def run(self, *task: str) -> dict[str, Any]:
        """Run a task of `tracking.registry_process`; returns its answer.

        Raises:
            TrackingUnavailable: it takes too long, or fails without a sentence.
            PregaoError: the task was refused.
        """
        command = (sys.executable, "-m", "pregao.tracking.registry_process", *task)
        async with self._one_process:
            answer = await self._answer_of(command)
        raise_refusal(answer)
        return answer

    async def _answer_of(self, command: Sequence[str]) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            output, _ = await asyncio.wait_for(process.communicate(), SECONDS_OF_A_PROCESS)
            answer: dict[str, Any] = json.loads(output.splitlines()[-1])
        except (TimeoutError, ValueError, IndexError) as error:
            raise TrackingUnavailable(settings().tracking_uri, f"{command[3]} failed, see the server's log") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return answer

    async def model(self, symbol: Symbol) -> RemoteServed:
        """The stock's served model, or the shared one, after every change by this machine.

        Raises:
            NoModel: there is neither.
        """
        await self._started.wait()  # the port is open before the models are loaded: "no model" would be wrong
        if self.changed():
            await self._follow(self._stamp_now())
        found = self.in_memory(symbol.ticker)
        if found is None:
            raise NoModel(symbol, sorted(self.served), self.problems.get(symbol.ticker, ""))
        return found

    async def version(self, symbol: Symbol, version: int) -> RemoteServed:
        """A version of the stock's model, served or not.

        Raises:
            NotReady: its ONNX model is being made.
            NoSuchVersion: the stock has no such version.
            PregaoError: it cannot be used.
        """
        current = self.served.get(symbol.ticker)
        if current is not None and current.version == version:
            return current
        loop = asyncio.get_running_loop()
        entry = await loop.run_in_executor(self._registry_threads, registry.existing_export, symbol, version)
        if entry is not None:
            return await loop.run_in_executor(self._files_thread, self._load, symbol.ticker, entry, loop)
        key = (symbol.ticker, version)
        export = self._exports.get(key)
        if export is None:
            export = self._exports[key] = asyncio.create_task(self.run("export", symbol.ticker, str(version)))
        if export.done() and (refused := export.exception()) is not None:
            raise refused
        raise NotReady(symbol, version)

    async def rollback(self, symbol: Symbol) -> int:
        """Serve the previous version of the stock's model again; returns it.

        Raises:
            NoModel: the stock has no champion.
            NoEarlierVersion: the champion replaced no version.
            PregaoError: the previous version cannot be served.
        """
        return int((await self.run("rollback", symbol.ticker))["version"])

    def in_memory(self, ticker: str) -> RemoteServed | None:
        """The stock's model, or the shared one, as last read."""
        return self.served.get(ticker) or self.served.get(SHARED)

    def changed(self) -> bool:
        """Whether this machine has changed served.json since it was last read."""
        return self._stamp_now() != self._stamp

    def close(self) -> None:
        """Stop the threads."""
        for threads in (self._registry_threads, self._files_thread):
            threads.shutdown(wait=False, cancel_futures=True)

    def _is_current(self) -> bool:
        """Whether served.json has the registry's champions and all shipped models; False where only MLflow knows it."""
        known = served.read()
        file = sqlite_file(settings().tracking_uri)
        if self._registered() and file is not None and not file.exists():
            raise FileNotFoundError(file)  # a connection would create an empty database
        found = registry.look()
        if known is None or found is None or set(served.shipped_stocks()) - found.keys() - known.problems.keys():
            return False
        damaged = known.problems.keys() & found.keys()
        return {ticker: one.version for ticker, one in known.entries.items() if ticker not in damaged} == {
            ticker: version for ticker, version in found.items() if ticker not in damaged
        }

    def _registered(self) -> bool:
        return any(found.version != served.NOT_REGISTERED for found in self.served.values())

    def _stamp_now(self) -> object:
        try:
            found = os.stat(self._file)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    async def _follow(self, stamp: object) -> None:
        """Load the models of served.json, unless another request has just done so for the same stamp."""
        async with self._lock:
            if self._started.is_set() and stamp == self._stamp:
                return
            now = self._stamp_now()  # before reading: a change meanwhile is followed next
            loop = asyncio.get_running_loop()
            self.served, self.problems = await loop.run_in_executor(self._files_thread, self._read, loop)
            self.problems |= self._registry_problem
            self._stamp = now

    def _read(self, loop: asyncio.AbstractEventLoop) -> tuple[dict[str, RemoteServed], dict[str, str]]:
        """The served models, and the problems."""
        found = served.read()
        if found is None:
            if self.served:  # mlruns was removed: the models in memory stay
                return dict(self.served), dict(self.problems)
            found = served.shipped()
        models: dict[str, RemoteServed] = {}
        problems = {stock: self._logged(sentence) for stock, sentence in found.problems.items()}
        self._damaged = set()
        for stock, entry in found.entries.items():
            known = self.served.get(stock)
            if known is not None and (known.version, known.run_id) == (entry.version, entry.run_id):
                models[stock] = known
                continue
            try:
                models[stock] = self._load(stock, entry, loop)
            except CorruptModel as error:
                self._damaged.add(stock)
                problems[stock] = self._logged(f"{stock} version {entry.version} cannot be loaded: {error}")
                if known is not None:
                    models[stock] = known
            except PregaoError as error:
                problems[stock] = self._logged(str(error))
        return models, problems

    def _load(self, stock: str, entry: Entry, loop: asyncio.AbstractEventLoop) -> RemoteServed:
        model = RemoteModel.load(entry.folder, self.infer, loop)
        unfit = not_for_predict(model.card.lookback, model.card.horizon)
        if unfit is not None:
            raise NotServed(stock, entry.version, unfit)
        return RemoteServed(model, stock, entry.version, entry.run_id, entry.folder)

    def _problem(self, error: Exception) -> str:
        known = refusal(error) or type(error).__name__
        return self._logged(f"The registry cannot be read: {known}. The models in memory are served.")

    def _logged(self, sentence: str) -> str:
        if sentence_for_clients(sentence) not in self.problems.values():
            logger.warning("%s", sentence)
        return sentence_for_clients(sentence)
