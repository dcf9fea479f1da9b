"""The served models of the HTTP process: loaded at the start, then followed as the registry changes."""

import asyncio
import logging
import os
from concurrent.futures import ThreadPoolExecutor

from pregao.errors import NoModel, refusal, sentence_for_clients
from pregao.prices.symbols import SHARED, Symbol
from pregao.settings import settings
from pregao.tracking import registry
from pregao.tracking.registry import Served
from pregao.training.promotion import not_for_predict

logger = logging.getLogger(__name__)


class RegistryWatcher:
    """Served models by ticker.

    What this machine changes is announced by the stamp of a file, and followed before the next answer; what other
    machines change is found at intervals. Where the registry fails, the models in memory stay.

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
        self._looked = asyncio.Event()
        # A thread apart: a registry that hangs must not hold up LitServe, which shares asyncio's threads.
        self._thread = ThreadPoolExecutor(1, "registry")

    async def start(self) -> None:
        """Load the served models; the shipped ones are registered where they are not yet."""
        try:
            await self._follow(self._stamp_now())
        finally:
            self._looked.set()

    async def watch(self, poll: float) -> None:
        """Look every `poll` seconds for changes by other machines; never ends."""
        while True:
            await asyncio.sleep(poll)
            await self._follow(None)

    async def model(self, symbol: Symbol) -> Served:
        """The stock's served model, or the shared one, after every change that this machine has announced.

        Raises:
            NoModel: there is neither.
        """
        await self._looked.wait()  # the port is open before the models are loaded: "no model" would be untrue
        if self.changed():
            await self._follow(self._stamp_now())
        served = self.in_memory(symbol.ticker)
        if served is None:
            raise NoModel(symbol, sorted(self.served), self.problems.get(symbol.ticker, ""))
        return served

    def in_memory(self, ticker: str) -> Served | None:
        """The stock's model, or the shared one, as of the last look."""
        return self.served.get(ticker) or self.served.get(SHARED)

    def changed(self) -> bool:
        """Whether a change has been announced since the last look."""
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
        """Load what the registry says now, unless another request has just done so for the same stamp."""
        async with self._lock:
            if stamp is not None and stamp == self._stamp:
                return
            now = self._stamp_now()  # before the look: a change during the look is followed next
            look = asyncio.get_running_loop().run_in_executor(self._thread, self._look)
            self.served, self.problems = await look
            self._stamp = now

    def _look(self) -> tuple[dict[str, Served], dict[str, str]]:
        """The served models, and the problems."""
        try:
            if self.served:
                _refuse_a_lost_database()
            champions = registry.champions()
        except Exception as error:  # of MLflow, SQLAlchemy, the network: the models in memory stay
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
                served.pop(stock, None)  # it is the champion no longer
                problems[stock] = self._logged(f"{stock} version {version} is not served: {unfit}.")
        for stock in set(registry.shipped_stocks()) - champions.keys() - served.keys():
            try:
                served[stock] = registry.champion(Symbol.parse(stock))
            except Exception as error:
                problems[stock] = self._problem(f"{stock}, which ships, cannot be registered", error)
        for stock in self.served.keys() - champions.keys():
            problems[stock] = f"{stock}: the registry has no champion any more; the one in memory is served."
        return served, problems

    def _problem(self, what: str, error: Exception) -> str:
        return self._logged(f"{what}: {refusal(error) or type(error).__name__}. What is in memory is served.")

    def _logged(self, sentence: str) -> str:
        if sentence_for_clients(sentence) not in self.problems.values():
            logger.warning("%s", sentence)
        return sentence_for_clients(sentence)


def _refuse_a_lost_database() -> None:
    """Looking into a database that is gone would make a new, empty one."""
    file = settings().tracking_uri.removeprefix("sqlite:///")
    if file != settings().tracking_uri and not os.path.exists(file):
        raise FileNotFoundError(file)
