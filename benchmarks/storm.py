"""Load on a real server while faults happen, and the check of its responses.

A fault may cost a response: a connection that breaks, a 503 with a sentence. It may never cause a wrong one, nor lose a
forecast that was returned as recorded. So all forecasts are kept, and compared with the registry's models and the log.
"""

import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import pandas as pd
import sqlalchemy as sa
from tests.api.conftest import Server

from pregao.api.schemas import CLOSES
from pregao.forecasting.compose import last_window
from pregao.forecasting.log import FORECASTS
from pregao.prices.symbols import Symbol
from pregao.settings import REPOSITORY, settings
from pregao.tracking import registry

BAD = (
    {"stock": "../../etc/passwd"},
    {"stock": "VALE3", "historical_data": [1.0] * 19},
    {"historical_data": [*CLOSES, -1.0]},
    {"stok": "VALE3"},
)
READS = ("/models", "/accuracy", "/metrics", "/statistics?limit=5", "/health")

NUMBERS = ("close", "lower_80", "upper_80", "lower_90", "upper_90")
Rows = tuple[tuple[float, ...], ...]


class Supervised(Server):
    """serve.py, started again whenever it ends, as a container's restart policy does."""

    def __init__(self, home: Path, *overrides: str, launcher: Path | None = None, **variables: str) -> None:
        self.restarts: list[float] = []
        self.ending = threading.Event()
        log = home.parent / f"{home.name}.log"
        super().__init__(home, "retry=2", *overrides, program=launcher or REPOSITORY / "serve.py", log=log, **variables)

    def __enter__(self) -> Self:
        self.watcher = threading.Thread(target=self._watch, daemon=True)
        self.watcher.start()
        self.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self.watcher.join(10)
        self.end()

    def _watch(self) -> None:
        while not self.ending.wait(0.05):
            if self.process.poll() is not None:
                started = time.monotonic()
                while not self._port_is_free():
                    time.sleep(0.02)
                self.start()
                if self._forecasts({"historical_data": CLOSES}):
                    self.restarts.append(time.monotonic() - started)

    def _port_is_free(self) -> bool:
        try:
            httpx.get(f"{self.url}/health", timeout=1)
        except httpx.TransportError as error:
            return isinstance(error, httpx.ConnectError)
        return False

    def _forecasts(self, body: dict[str, Any]) -> bool:
        """Wait until it returns a forecast; False where it ends before."""
        while not self.ending.is_set() and self.process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.post(f"{self.url}/predict", json=body, timeout=10).status_code == 200:
                    return True
            time.sleep(0.02)
        return False

    def wait(self, seconds: float = 90) -> None:
        """Wait until it forecasts by stock."""
        end = time.monotonic() + seconds
        while not self._forecasts({"stock": "VALE3"}):
            assert time.monotonic() < end, self.log.read_text()[-3000:]


class Storm:
    """Mixed requests from several clients.

    Args:
        url: the server's.
        stocks: of the forecasts.
        clients: threads.
    """

    def __init__(self, url: str, stocks: Sequence[str], clients: int = 4) -> None:
        self.url, self.stocks, self.clients = url, stocks, clients
        self.counts: Counter[Any] = Counter()
        self.wrong: list[str] = []
        self.recorded: dict[tuple[str, str, int, str], set[Rows]] = {}
        self.of_closes: dict[tuple[str, int], set[Rows]] = {}
        self.lock, self.ending = threading.Lock(), threading.Event()

    def __enter__(self) -> Self:
        self.threads = [threading.Thread(target=self._ask, args=(seed,), daemon=True) for seed in range(self.clients)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        for thread in self.threads:
            thread.join(60)

    @property
    def answers(self) -> int:
        """The number of responses."""
        return sum(count for kind, count in self.counts.items() if kind != "no connection")

    def _ask(self, seed: int) -> None:
        chance = random.Random(seed)
        with httpx.Client(base_url=self.url, timeout=45) as client:
            while not self.ending.is_set():
                kind = chance.choices(("stock", "closes", "bad", "read"), (50, 25, 10, 15))[0]
                try:
                    self._check(kind, self._response(client, chance, kind))
                except httpx.TransportError:
                    with self.lock:
                        self.counts["no connection"] += 1
                    time.sleep(0.02)

    def _response(self, client: httpx.Client, chance: random.Random, kind: str) -> httpx.Response:
        if kind == "read":
            return client.get(chance.choice(READS))
        bodies = {"stock": {"stock": chance.choice(self.stocks)}, "closes": {"historical_data": CLOSES}}
        return client.post("/predict", json=bodies.get(kind) or chance.choice(BAD))

    def _check(self, kind: str, answer: httpx.Response) -> None:
        with self.lock:
            self.counts[answer.status_code] += 1
            problem = self._problem(kind, answer)
            if problem:
                self.wrong.append(f"{kind}: {answer.status_code} {problem}: {answer.text[:300]}")

    def _problem(self, kind: str, answer: httpx.Response) -> str | None:
        """The fault of a response, if it has one; forecasts are compared at the end."""
        if answer.status_code == 503:
            return None if answer.url.path == "/health" or _is_a_sentence(answer) else "without a sentence"
        if kind == "bad":
            return None if answer.status_code == 422 else "is not a refusal"
        if answer.status_code != 200:
            return "is neither an answer nor a 503"
        if kind == "closes" or (kind == "stock" and answer.json()["recorded"]):
            self._keep(kind, answer.json())
        elif answer.url.path != "/metrics":
            answer.json()
        return None

    def _keep(self, kind: str, found: dict[str, Any]) -> None:
        model = found["model"]
        rows = tuple(tuple(row[name] for name in NUMBERS) for row in found["forecast"])
        if kind == "closes":
            self.of_closes.setdefault((model["stock"], model["version"]), set()).add(rows)
        else:
            key = (found["stock"], model["stock"], model["version"], found["as_of"])
            self.recorded.setdefault(key, set()).add(rows)


def _is_a_sentence(answer: httpx.Response) -> bool:
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError):
        return False
    return isinstance(detail, str) and detail.strip().endswith((".", ")")) and "/tmp" not in detail


def lost(storm: Storm) -> list[tuple[str, str, int, str]]:
    """Forecasts that were returned as recorded, and are missing in the log or differ there."""
    engine = sa.create_engine(settings().forecasts_uri, poolclass=sa.NullPool)
    with engine.connect() as connection:
        table = pd.DataFrame(connection.execute(sa.select(FORECASTS).order_by(FORECASTS.c.step)).mappings().all())
    kept = {}
    for key, part in table.groupby(["stock", "model", "version", "as_of"]) if len(table) else ():
        kept[(*key[:3], key[3].isoformat())] = tuple(map(tuple, part[list(NUMBERS)].to_numpy().tolist()))
    return [key for key, rows in storm.recorded.items() if rows != {kept.get(key)}]


def wrong_forecasts(storm: Storm, prices: Mapping[str, pd.DataFrame]) -> list[tuple[object, ...]]:
    """Forecasts that differ from those of the registry's models from these prices, `{stock: table}`."""
    found: list[tuple[object, ...]] = []
    for (stock, model, version, as_of), rows in storm.recorded.items():
        served = registry.load(Symbol.parse(model), version)
        table = prices[stock]
        window = last_window(served.model, Symbol.parse(stock), table[table["date"] <= as_of].reset_index(drop=True))
        if not _same(rows, served.model.rows(window)):
            found.append((stock, model, version, as_of))
    for (model, version), rows in storm.of_closes.items():
        served = registry.load(Symbol.parse(model), version)
        if not _same(rows, served.model.rows(served.model.window(CLOSES))):
            found.append((model, version))
    return found


def _same(found: set[Rows], rows: list[dict[str, Any]]) -> bool:
    wanted = tuple(tuple(row[name] for name in NUMBERS) for row in rows)
    return json.dumps(list(found)) == json.dumps([wanted])
