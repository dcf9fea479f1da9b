"""Load on a real server that faults are done to, and the judge of what it answered.

A fault may cost an answer: a connection that breaks, a 503 with a sentence. It may never make a wrong one, nor lose
what was told. So every answer is kept, and in the end held against the registry's models and the log of forecasts.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pandas as pd
import sqlalchemy as sa

from pregao.api.schemas import CLOSES
from pregao.forecasting.compose import last_window
from pregao.forecasting.log import FORECASTS
from pregao.prices.symbols import Symbol
from pregao.settings import REPOSITORY, settings
from pregao.tracking import registry
from tests.api.conftest import free_port

BAD = (
    {"stock": "../../etc/passwd"},
    {"stock": "VALE3", "historical_data": [1.0] * 19},
    {"historical_data": [*CLOSES, -1.0]},
    {"stok": "VALE3"},
)
READS = ("/models", "/accuracy", "/metrics", "/statistics?limit=5", "/health")

NUMBERS = ("close", "lower_80", "upper_80", "lower_90", "upper_90")


class Supervised:
    """serve.py, started again whenever it ends, as a container's restart policy does."""

    def __init__(self, home, *overrides, launcher=None, **environment):
        self.home, self.port = Path(home), free_port()
        self.home.mkdir(parents=True, exist_ok=True)
        self.log = self.home.parent / f"{self.home.name}.log"
        program = [str(launcher or REPOSITORY / "serve.py"), f"port={self.port}", "poll=1", "retry=2", *overrides]
        self.command = [sys.executable, *program]
        self.environment = {**os.environ, "PREGAO_HOME": str(home), "OMP_NUM_THREADS": "1", **environment}
        if "MLFLOW_TRACKING_URI" not in environment:
            self.environment.pop("MLFLOW_TRACKING_URI", None)
        self.restarts = []
        self.process = None
        self.ending = threading.Event()
        self.watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._start()
        self.watcher.start()
        self.wait()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.watcher.join(10)
        for pid in self.family():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def _start(self):
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def _watch(self):
        while not self.ending.wait(0.05):
            if self.process.poll() is not None:
                started = time.monotonic()
                while not self._port_is_free():
                    time.sleep(0.02)
                self._start()
                self._first_answer(started)

    def _port_is_free(self):
        try:
            httpx.get(f"{self.url}/health", timeout=1)
        except httpx.ConnectError:
            return True
        except httpx.TransportError:
            return False
        return False

    def _first_answer(self, started):
        while not self.ending.is_set() and self.process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.post(f"{self.url}/predict", json={"historical_data": CLOSES}, timeout=5).status_code == 200:
                    self.restarts.append(time.monotonic() - started)
                    return
            time.sleep(0.02)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def wait(self, seconds=90):
        """Until it forecasts by stock."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(httpx.TransportError):
                if httpx.post(f"{self.url}/predict", json={"stock": "VALE3"}, timeout=10).status_code == 200:
                    return
            time.sleep(0.1)
        raise AssertionError(self.log.read_text()[-3000:])

    def predict(self, stock="VALE3", **options):
        return httpx.post(f"{self.url}/predict", json={"stock": stock}, timeout=40, **options)

    def get(self, path):
        return httpx.get(f"{self.url}{path}", timeout=40)

    def family(self, pid=None):
        pid = pid or self.process.pid
        try:
            threads = list(Path(f"/proc/{pid}/task").iterdir())
            children = [child for thread in threads for child in (thread / "children").read_text().split()]
        except OSError:
            return []
        return [pid, *(other for child in children for other in self.family(int(child)))]

    def process_of(self, role):
        """The number of one of its processes; None while there is none."""
        for pid in self.family():
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
                links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
                roles = {
                    "starter": pid == self.process.pid,
                    "inference": b"spawn_main" in line,
                    "training": b"pregao.training.worker" in line,
                    "HTTP": pid != self.process.pid and any("eventpoll" in link for link in links),
                }
                if roles[role]:
                    return pid
        return None

    def kill(self, role):
        """SIGKILL to one of its processes; whether there was one."""
        pid = self.process_of(role)
        if pid is not None:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        return pid is not None


class Storm:
    """Mixed requests from some clients at once, until they are enough.

    Args:
        url: of the server.
        stocks: that are asked for.
        clients: threads.
    """

    def __init__(self, url, stocks, clients=4):
        self.url, self.stocks, self.clients = url, stocks, clients
        self.counts, self.wrong = Counter(), []
        self.told, self.of_closes = {}, {}
        self.lock, self.ending = threading.Lock(), threading.Event()

    def __enter__(self):
        self.threads = [threading.Thread(target=self._ask, args=(seed,), daemon=True) for seed in range(self.clients)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        for thread in self.threads:
            thread.join(60)

    @property
    def answers(self):
        return sum(count for kind, count in self.counts.items() if kind != "no connection")

    def until(self, answers, seconds=600):
        end = time.monotonic() + seconds
        while self.answers < answers and time.monotonic() < end:
            time.sleep(0.05)

    def _ask(self, seed):
        chance = random.Random(seed)
        with httpx.Client(base_url=self.url, timeout=45) as client:
            while not self.ending.is_set():
                kind = chance.choices(("stock", "closes", "bad", "read"), (50, 25, 10, 15))[0]
                try:
                    self._judge(*getattr(self, f"_{kind}")(client, chance))
                except httpx.TransportError:
                    with self.lock:
                        self.counts["no connection"] += 1
                    time.sleep(0.02)

    def _stock(self, client, chance):
        return "stock", client.post("/predict", json={"stock": chance.choice(self.stocks)})

    def _closes(self, client, chance):
        return "closes", client.post("/predict", json={"historical_data": CLOSES})

    def _bad(self, client, chance):
        return "bad", client.post("/predict", json=chance.choice(BAD))

    def _read(self, client, chance):
        path = chance.choice(READS)
        return path, client.get(path)

    def _judge(self, kind, answer):
        with self.lock:
            self.counts[answer.status_code] += 1
            problem = self._problem(kind, answer)
            if problem:
                self.wrong.append(f"{kind}: {answer.status_code} {problem}: {answer.text[:300]}")

    def _problem(self, kind, answer):
        """What is wrong with an answer at first sight; forecasts are looked at again in the end."""
        if answer.status_code == 503:
            return None if kind == "/health" or _is_a_sentence(answer) else "without a sentence"
        if kind == "bad":
            return None if answer.status_code == 422 else "is no refusal"
        if answer.status_code != 200:
            return "is neither an answer nor a 503"
        if kind == "closes" or (kind == "stock" and answer.json()["recorded"]):
            self._keep(kind, answer.json())
        elif kind != "/metrics":
            answer.json()
        return None

    def _keep(self, kind, told):
        model = told["model"]
        rows = tuple(tuple(row[name] for name in NUMBERS) for row in told["forecast"])
        if kind == "closes":
            self.of_closes.setdefault((model["stock"], model["version"]), set()).add(rows)
        else:
            key = (told["stock"], model["stock"], model["version"], told["as_of"])
            self.told.setdefault(key, set()).add(rows)


def _is_a_sentence(answer):
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError):
        return False
    return isinstance(detail, str) and detail.strip().endswith((".", ")")) and "/tmp" not in detail


def lost(storm, uri=None):
    """Forecasts that were answered as recorded, and are not in the log or differ there."""
    engine = sa.create_engine(
        (uri or settings().forecasts_uri).replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool
    )
    with engine.connect() as connection:
        table = pd.DataFrame(connection.execute(sa.select(FORECASTS).order_by(FORECASTS.c.step)).mappings().all())
    kept = {}
    for key, part in table.groupby(["stock", "model", "version", "as_of"]) if len(table) else ():
        kept[(*key[:3], key[3].isoformat())] = tuple(map(tuple, part[list(NUMBERS)].to_numpy().tolist()))
    return [key for key, rows in storm.told.items() if rows != {kept.get(key)}]


def made_up(storm, prices):
    """Forecasts that no complete model of the registry makes from these prices: `{stock: table}`."""
    found = []
    for (stock, model, version, as_of), rows in storm.told.items():
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


def _same(found, rows):
    wanted = tuple(tuple(row[name] for name in NUMBERS) for row in rows)
    return json.dumps(list(found)) == json.dumps([wanted])
