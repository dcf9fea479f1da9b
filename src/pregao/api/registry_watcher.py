"""The served models of the HTTP process, which follow the registry."""

import asyncio
import logging
import os
from concurrent.futures import ThreadPoolExecutor

from pregao.errors import NoModel, refusal, sentence_for_clients
from pregao.prices.symbols import SHARED, Symbol
from pregao.settings import settings, sqlite_file
from pregao.tracking import registry
from pregao.tracking.registry import Served
from pregao.training.promotion import not_for_predict

logger = logging.getLogger(__name__)


class RegistryWatcher:
    """Served models by ticker.

    A change by this machine replaces a file, and is followed before the next response; a change by another machine is
    found at intervals. Where the registry fails, the models in memory stay.

    Attributes:
        served: by ticker, SHARED included.
        problems: sentences for /health, by ticker or `registry`.
    """

    def __init__(self) -> None:
        self.served: dict[str, Served] = {}
        self.problems: dict[str, str] = {}
        self._changes = os.fspath(registry.changes())
        self._stamp: object = None
        self._lock = asyncio.Lock()
        self._started = asyncio.Event()
        # A separate thread: a registry that hangs must not block asyncio's threads, which LitServe uses too.
        self._thread = ThreadPoolExecutor(1, "registry")

    async def start(self) -> None:
        """Load the served models, and register the shipped ones that are not yet registered."""
        try:
            await self._follow(self._stamp_now())
        finally:
            self._started.set()

    async def watch(self, poll: float) -> None:
        """Read the registry every `poll` seconds; never ends."""
        while True:
            await asyncio.sleep(poll)
            await self._follow(None)

    async def model(self, symbol: Symbol) -> Served:
        """The stock's served model, or the shared one, after every change by this machine.

        Raises:
            NoModel: there is neither.
        """
        await self._started.wait()  # the port is open before the models are loaded: "no model" would be wrong
        if self.changed():
            await self._follow(self._stamp_now())
        served = self.in_memory(symbol.ticker)
        if served is None:
            raise NoModel(symbol, sorted(self.served), self.problems.get(symbol.ticker, ""))
        return served

    def in_memory(self, ticker: str) -> Served | None:
        """The stock's model, or the shared one, as last read."""
        return self.served.get(ticker) or self.served.get(SHARED)

    def changed(self) -> bool:
        """Whether this machine has changed the registry since it was last read."""
        return self._stamp_now() != self._stamp

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _stamp_now(self) -> object:
        try:
            found = os.stat(self._changes)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    async def _follow(self, stamp: object) -> None:
        """Load the registry's models, unless another request has just done so for the same stamp."""
        async with self._lock:
            if stamp is not None and stamp == self._stamp:
                return
            now = self._stamp_now()  # before reading: a change meanwhile is followed next
            loop = asyncio.get_running_loop()
            self.served, self.problems = await loop.run_in_executor(self._thread, self._read)
            self._stamp = now

    def _read(self) -> tuple[dict[str, Served], dict[str, str]]:
        """The served models, and the problems."""
        try:
            if self.served:
                _raise_if_database_is_missing()
            champions = registry.champions()
        except Exception as error:  # MLflow's, SQLAlchemy's, the network's: the models in memory stay
            return dict(self.served), {"registry": self._problem("The registry cannot be read", error)}
        served, problems = dict(self.served), {}
        for stock, (version, run_id) in champions.items():
            known = served.get(stock)
            if known is not None and (known.version, known.run_id) == (version, run_id):
                continue
            try:
                found = registry.load(Symbol.parse(stock), version)
            except Exception as error:
                problems[stock] = self._problem(f"{stock} version {version} cannot be loaded", error)
                continue
            unfit = not_for_predict(found.model.card.lookback, found.model.card.horizon)
            if unfit is None:
                served[stock] = found
            else:
                served.pop(stock, None)  # no longer the champion
                problems[stock] = self._logged(f"{stock} version {version} is not served: {unfit}.")
        for stock in set(registry.shipped_stocks()) - champions.keys() - served.keys():
            try:
                served[stock] = registry.champion(Symbol.parse(stock))
            except Exception as error:
                problems[stock] = self._problem(f"The shipped model of {stock} cannot be registered", error)
        for stock in self.served.keys() - champions.keys():
            problems[stock] = f"{stock}: the registry has no champion any more; the model in memory is served."
        return served, problems

    def _problem(self, what: str, error: Exception) -> str:
        return self._logged(f"{what}: {refusal(error) or type(error).__name__}. The models in memory are served.")

    def _logged(self, sentence: str) -> str:
        if sentence_for_clients(sentence) not in self.problems.values():
            logger.warning("%s", sentence)
        return sentence_for_clients(sentence)


def _raise_if_database_is_missing() -> None:
    """A connection to a missing database would create an empty one."""
    file = sqlite_file(settings().tracking_uri)
    if file is not None and not file.exists():
        raise FileNotFoundError(file)
