"""10,000 mixed requests while processes are killed and disk writes fail: python benchmarks/faults.py.

The real server, restarted whenever it ends, as by a container's restart policy, with the requests and checks of
storm.py. Also measures the cost of logging a forecast. Writes benchmarks/faults.md.
"""

import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import httpx
import pandas as pd
from machine import machine

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from storm import Storm, Supervised, lost, wrong_forecasts
from tests.conftest import random_walk

TABLE = Path(__file__).with_suffix(".md")
REQUESTS = 10_000
EACH = 2
STOCKS = ("VALE3", "PETR4", "ITUB4")
SEED = 6544
ADMIN = {"X-Admin-Key": "benchmark"}
"""The key of promote=always, for versions that change while clients ask."""
MANY = [f"AAA{letter}3" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
WITHOUT_LOG = Path(__file__).with_name("without_log.py")


def breaks(server: Supervised) -> dict[str, Callable[[], bool]]:
    """The faults by name; each call returns whether the fault happened."""

    def train() -> bool:
        overrides = {"model.hidden_size": 4, "trainer.max_epochs": 50, "promote": "always"}
        body = {"stock": "PETR4", "inicio": "2020-01-01", "fim": "2024-12-30", "overrides": overrides}
        try:
            answer = httpx.post(f"{server.url}/train?wait=false", json=body, headers=ADMIN, timeout=30)
            return answer.status_code == 202
        except httpx.TransportError:
            return False

    def killed_training() -> bool:
        until = time.monotonic() + 30
        while not server.process_of("training") and time.monotonic() < until:
            train()
            time.sleep(0.2)
        time.sleep(random.uniform(0, 5))
        return server.kill("training")

    return {
        "inference process killed": lambda: server.kill("inference"),
        "HTTP process killed": lambda: server.kill("HTTP"),
        "starter killed": lambda: server.kill("starter"),
        "training killed": killed_training,
        "training started": train,
        "disk full for a second": lambda: _disk_is_full(server),
    }


def _disk_is_full(server: Supervised) -> bool:
    """For a second, the HTTP process cannot write to files."""
    process = server.process_of("HTTP")
    if process is None:
        return False
    try:
        previous = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, previous[1]))
        time.sleep(1)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, previous)
    except OSError:  # the process was killed
        return False
    return True


def storm_of(folder: Path, tables: dict[str, pd.DataFrame]) -> list[str]:
    """Send requests during faults; returns the table of their results."""
    home = folder / "home"
    os.environ["PREGAO_HOME"] = str(home)
    chance, happened = random.Random(SEED), Counter[str]()
    started = time.monotonic()
    source = ("source=csv", f"source.path={folder}")
    supervised = Supervised(home, *source, PREGAO_ADMIN_KEY=ADMIN["X-Admin-Key"])
    with supervised as server, Storm(server.url, STOCKS, 6) as storm:
        faults = breaks(server)
        due = Counter(dict.fromkeys(faults, EACH))
        while storm.answers < REQUESTS or due:
            time.sleep(chance.uniform(0.5, 3))
            name = chance.choice(sorted(due) or sorted(faults))
            if faults[name]():
                happened[name] += 1
                due -= Counter({name: 1})
            if chance.random() < 0.7:
                server.wait()
        server.wait()
        restarts = list(server.restarts)
        time.sleep(3)
    lines = ["| what | found | target |", "|---|---:|---:|"]
    refusals = storm.counts[503]
    lines += [
        f"| answers, to 6 clients in {time.monotonic() - started:.0f} s | {storm.answers:,} | ≥ {REQUESTS:,} |",
        f"| of these, 503 with a message | {refusals:,} | – |",
        f"| wrong answers, and 5xx other than 503 with a message | {len(storm.wrong)} | 0 |",
        f"| forecasts that the log lacks or has otherwise (of {len(storm.recorded)}) | {len(lost(storm))} | 0 |",
        f"| forecasts that no complete registered model makes | {len(wrong_forecasts(storm, tables))} | 0 |",
        f"| restart to first answer, median of {len(restarts)} | {median(restarts):.1f} s | ≤ 5 s |",
        f"| restart to first answer, slowest | {max(restarts):.1f} s | – |",
    ]
    faults_by_name = ", ".join(f"{name} {count} ×" for name, count in sorted(happened.items()))
    return [
        *lines,
        "",
        f"Faults, at random times: {faults_by_name}. Broken or refused connections: {storm.counts['no connection']:,}.",
        *[f"- {wrong}" for wrong in storm.wrong[:10]],
    ]


def milliseconds(client: httpx.Client, stock: str) -> float:
    """Milliseconds to a complete answer."""
    started = time.perf_counter()
    answer = client.post("/predict", json={"stock": stock})
    assert answer.status_code == 200, answer.text
    return 1000 * (time.perf_counter() - started)


def times(folder: Path, home: str, launcher: Path | None) -> tuple[list[float], list[float]]:
    """Milliseconds of the first request for each of many stocks, and of later ones."""
    serve = Supervised(folder / home, "source=csv", f"source.path={folder}", "retry=100000", launcher=launcher)
    with serve as server, httpx.Client(base_url=server.url, timeout=60) as client:
        first = [milliseconds(client, stock) for stock in MANY]
        return first, [milliseconds(client, stock) for _ in range(10) for stock in MANY]


def cost_of_a_write(folder: Path, rounds: int = 3) -> list[str]:
    """Send the same requests to a server with the log and one without it, in alternating rounds."""
    found: dict[bool, list[tuple[list[float], list[float]]]] = {True: [], False: []}
    for number in range(rounds):
        for logs in (True, False):
            found[logs].append(times(folder, f"{number}-{logs}", None if logs else WITHOUT_LOG))
    lines = [
        "| p50 of /predict by stock, ms | with the log | without | difference | target |",
        "|---|---:|---:|---:|---:|",
    ]
    for place, (what, wanted) in enumerate((("first in a session", "–"), ("all others, cached", "≤ 1"))):
        own, other = ([median(one[place]) for one in found[logs]] for logs in (True, False))
        added = median(a - b for a, b in zip(own, other, strict=True))
        lines.append(f"| {what} | {median(own):.2f} | {median(other):.2f} | {added:+.2f} | {wanted} |")
    return lines


def main() -> None:
    """Print and write the tables."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for seed, stock in enumerate(STOCKS):
            random_walk(n=1600, seed=seed).to_csv(folder / f"{stock}.csv", index=False)
        tables = {stock: pd.read_csv(folder / f"{stock}.csv", parse_dates=["date"]) for stock in STOCKS}
        for seed, stock in enumerate(MANY):
            random_walk(n=1600, seed=seed).to_csv(folder / f"{stock}.csv", index=False)
        lines = [*storm_of(folder, tables), "", *cost_of_a_write(folder)]
    text = "\n".join(
        ["# Faults", "", *lines, "", f"Seed {SEED}. On: {machine()}. To repeat: `python benchmarks/faults.py`.", ""]
    )
    print(text)
    TABLE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
