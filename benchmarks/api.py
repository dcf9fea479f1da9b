"""Speed of the API compared with two peers, in alternating rounds: python benchmarks/api.py [ROUNDS].

Everything runs on the loopback interface, on synthetic prices. Writes
benchmarks/api.md.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from machine import machine

from pregao.prices.calendar import last_finished_session, sessions
from pregao.settings import REPOSITORY

TABLE = Path(__file__).with_suffix(".md")
SECONDS = 3.0
WARM_UP = 1.0

BY_STOCK = {"stock": "VALE3"}
BY_CLOSES = {"historical_data": [50 + (7 * i % 11) / 10 for i in range(20)]}
CLIENTS = (1, 16, 64)


@dataclass
class Client(asyncio.Protocol):
    """One connection, which sends the next request as soon as it has its answer."""

    request: bytes
    until: float
    latencies: list[float] = field(default_factory=list)
    wrong: int = 0
    buffer: bytearray = field(default_factory=bytearray)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - uvloop's class is not a subclass of asyncio's
        """Send the first request."""
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        """Send the request."""
        self.asked = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Collect an answer, and send the next request."""
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        headers = bytes(self.buffer[:head]).lower()
        length = int(headers.split(b"content-length:")[1].split(b"\r\n")[0])
        if len(self.buffer) < head + 4 + length:
            return
        now = time.perf_counter()
        self.latencies.append(now - self.asked)
        self.wrong += not headers.startswith(b"http/1.1 200")
        self.buffer.clear()
        if now < self.until:
            self.ask()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Mark this connection as done."""
        self.done.set()


def post(path: str, body: object) -> bytes:
    """The bytes of a request."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(data)}"
    return head.encode() + b"\r\n\r\n" + data


async def _load(port: int, request: bytes, clients: int, seconds: float) -> list[float]:
    loop, until = asyncio.get_running_loop(), time.perf_counter() + seconds
    made = [Client(request, until) for _ in range(clients)]
    for client in made:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)
    await asyncio.wait_for(asyncio.gather(*(client.done.wait() for client in made)), seconds + 60)
    wrong = sum(client.wrong for client in made)
    assert not wrong, f"{wrong} answers were not 200"
    return [latency for client in made for latency in client.latencies]


def load(port: int, body: object, clients: int, seconds: float = SECONDS) -> list[float]:
    """Seconds until each answer."""
    import uvloop

    return uvloop.run(_load(port, post("/predict", body), clients, seconds))


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(port: int, path: str, timeout: float = 60) -> Any:  # noqa: ANN401 - JSON
    """The JSON of a GET."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=timeout) as answer:
        return json.load(answer)


def ask(port: int, path: str, body: object, timeout: float = 600) -> Any:  # noqa: ANN401
    """The JSON of a POST."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.load(answer)


def wait_for(port: int, path: str, body: object | None = None, limit: float = 60) -> None:
    """Wait until the server answers."""
    end = time.perf_counter() + limit
    while True:
        with contextlib.suppress(OSError):
            _ = get(port, path, 5) if body is None else ask(port, path, body, 5)
            return
        assert time.perf_counter() < end, f"{path} did not answer within {limit} s"
        time.sleep(0.02)


@contextlib.contextmanager
def running(command: list[str], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server, stopped by SIGTERM."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    process = subprocess.Popen(command, env=env, cwd=REPOSITORY / "benchmarks", stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def ours(port: int, prices: Path) -> list[str]:
    """The command of Pregão's server."""
    return [sys.executable, str(REPOSITORY / "serve.py"), f"port={port}", "source=csv", f"source.path={prices}"]


def make_prices(folder: Path) -> None:
    """Ten years of a random walk up to the last finished session."""
    days = sessions("BVMF", pd.Timestamp("2015-01-01").date(), last_finished_session("BVMF"))
    returns = np.random.default_rng(0).normal(0.0003, 0.02, len(days))
    pd.DataFrame({"date": days, "close": (50 * np.exp(returns.cumsum())).round(4)}).to_csv(
        folder / "VALE3.csv", index=False
    )


def p99(latencies: list[float]) -> float:
    """The 99th percentile, in milliseconds."""
    return 1000 * quantiles(latencies, n=100)[98]


def throughput(folder: Path, rounds: int) -> list[str]:
    """Requests per second of each server, in alternating rounds."""
    ports = {name: free_port() for name in ("ours", "onnx", "torch")}
    uvicorn = [sys.executable, "-m", "uvicorn", "peers:bare", "--no-access-log", "--log-level", "warning"]
    found: dict[tuple[str, str, int], list[list[float]]] = {}
    with contextlib.ExitStack() as servers:
        servers.enter_context(running(ours(ports["ours"], folder), PREGAO_HOME=str(folder)))
        for runtime in ("onnx", "torch"):
            chosen = {"PREGAO_BENCHMARK_MODEL": str(REPOSITORY / "models/VALE3"), "PREGAO_BENCHMARK_RUNTIME": runtime}
            servers.enter_context(running([*uvicorn, "--port", str(ports[runtime])], **chosen))
        for port in ports.values():
            wait_for(port, "/predict", BY_CLOSES)
        time.sleep(20)  # the registry process of a new home
        for number in range(rounds + 1):
            for what, body in (("by stock", BY_STOCK), ("historical_data", BY_CLOSES)):
                for clients in CLIENTS:
                    for name, port in ports.items():
                        latencies = load(port, body, clients, SECONDS if number else WARM_UP)
                        if number:
                            found.setdefault((what, name, clients), []).append(latencies)
    lines = [
        "| /predict, answers per second | ours | FastAPI + ONNX | FastAPI + torch | ours / FastAPI + ONNX | target |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for what in ("by stock", "historical_data"):
        for clients in CLIENTS:
            rates = {name: [len(one) / SECONDS for one in found[what, name, clients]] for name in ports}
            ratio = median(a / b for a, b in zip(rates["ours"], rates["onnx"], strict=True))
            cells = " | ".join(f"{median(rates[name]):,.0f}" for name in ports)
            target = "≥ 1.0" if clients > 1 else "stated"
            lines.append(f"| {what}, {clients} connection{'s' * (clients > 1)} | {cells} | {ratio:.2f} | {target} |")
            print(lines[-1], flush=True)
    lone = [[1000 * median(one) for one in found["historical_data", name, 1]] for name in ("ours", "onnx")]
    price = median(ours - theirs for ours, theirs in zip(*lone, strict=True))
    lines.append(f"\nLitServe's queue costs a lone client {price:.2f} ms per forecast from closes.")
    return lines


def during_a_training(port: int, rounds: int) -> list[str]:
    """The 99th percentile, idle and during a training, at a load below the machine's capacity."""
    lines = []
    overrides = {"trainer.max_epochs": 1000, "trainer.patience": 1000, "promote": "never"}
    training = {"stock": "VALE3", "inicio": "2015-01-01", "fim": "2025-07-28", "overrides": overrides}
    for what, body in (("by stock", BY_STOCK), ("historical_data", BY_CLOSES)):
        pairs, middles = [], []
        steady(port, body, seconds=1)
        for _ in range(rounds):
            idle = steady(port, body)
            job = ask(port, "/train?wait=false", training)["job"]
            while get(port, f"/train/{job}")["epoch"] < 1:
                time.sleep(0.2)
            busy = steady(port, body)
            cancel = urllib.request.Request(f"http://127.0.0.1:{port}/train/{job}", method="DELETE")
            urllib.request.urlopen(cancel, timeout=60).close()
            time.sleep(0.5)
            pairs.append((p99(idle), p99(busy)))
            middles.append((1000 * median(idle), 1000 * median(busy)))
        (idle_ms, busy_ms), (idle_mid, busy_mid) = (
            [median(column) for column in zip(*found, strict=True)] for found in (pairs, middles)
        )
        ratio = median(b / a for a, b in pairs)
        lines.append(
            f"| /predict {what}, p99 during a training / idle "
            f"| {ratio:.2f} ({busy_ms:.2f} / {idle_ms:.2f} ms; median {busy_mid:.2f} / {idle_mid:.2f}) | ≤ 2 |"
        )
        print(lines[-1], flush=True)
    return lines


def steady(port: int, body: object, rate: int = 100, seconds: float = 6) -> list[float]:
    """Seconds until each answer, for requests at a fixed rate that does not wait for earlier answers."""

    async def run() -> list[float]:
        loop, found = asyncio.get_running_loop(), []
        started = time.perf_counter()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
            client = Client(post("/predict", body), 0)
            await loop.create_connection(lambda client=client: client, "127.0.0.1", port)
            found.append(client)
        await asyncio.wait_for(asyncio.gather(*(client.done.wait() for client in found)), 60)
        return [latency for client in found for latency in client.latencies]

    import uvloop

    return uvloop.run(run())


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    children = [child for thread in threads for child in (thread / "children").read_text().split()]
    return [pid, *(other for child in children for other in family(int(child)))]


def memory(pid: int) -> float:
    """Proportional set size of a process and its descendants, in MB."""
    total = 0
    for process in family(pid):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def start_and_stop(home: Path, prices: Path, training: bool = False) -> tuple[float, float, float]:
    """Seconds to the first 200 of /predict, MB, seconds from SIGTERM to the last process gone."""
    port, started = free_port(), time.perf_counter()
    with running(ours(port, prices), PREGAO_HOME=str(home)) as process:
        wait_for(port, "/predict", BY_CLOSES)
        up = time.perf_counter() - started
        wait_for(port, "/health")
        ask(port, "/predict", BY_STOCK)
        size = memory(process.pid)
        if training:
            overrides = {"trainer.max_epochs": 1000, "trainer.patience": 1000, "promote": "never"}
            body = {"stock": "VALE3", "inicio": "2015-01-01", "fim": "2025-07-28", "overrides": overrides}
            job = ask(port, "/train?wait=false", body)["job"]
            while get(port, f"/train/{job}")["epoch"] < 1:
                time.sleep(0.2)
        processes, ended = family(process.pid), time.perf_counter()
        process.send_signal(signal.SIGTERM)
        while any(alive(pid) for pid in processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        return up, size, time.perf_counter() - ended


def alive(pid: int) -> bool:
    """Whether the process exists, zombies included."""
    return Path(f"/proc/{pid}").exists()


def life(prices: Path, rounds: int) -> list[str]:
    """Seconds to start and to stop, and memory."""
    fresh, known, trained = [], [], []
    for _ in range(rounds):
        with TemporaryDirectory() as home:
            fresh.append(start_and_stop(Path(home), prices))
            known.append(start_and_stop(Path(home), prices))
            trained.append(start_and_stop(Path(home), prices, training=True))
    seconds, size, end = (median(column) for column in zip(*known, strict=True))
    lines = [
        f"| first 200 of /predict, on a home that has a database | {seconds:.1f} s | ≤ 2.5 s |",
        f"| first 200 of /predict, on a fresh home | {median(row[0] for row in fresh):.1f} s | ≤ 4 s |",
        f"| PSS of all processes after the start | {size:.0f} MB | ≤ 350 MB |",
        f"| SIGTERM to the last process gone | {end:.1f} s | ≤ 10 s |",
        f"| SIGTERM during a training to the last process gone | {median(row[2] for row in trained):.1f} s | ≤ 10 s |",
    ]
    print("\n".join(lines), flush=True)
    return lines


def after_work(prices: Path, predictions: int = 50_000, trainings: int = 5) -> list[str]:
    """MB after many predictions and some trainings."""
    with TemporaryDirectory() as home:
        port = free_port()
        with running(ours(port, prices), PREGAO_HOME=home) as process:
            wait_for(port, "/health")
            done = 0
            while done < predictions:
                done += sum(len(load(port, body, 16)) for body in (BY_STOCK, BY_CLOSES))
            small = {"trainer.max_epochs": 2, "promote": "never"}
            for _ in range(trainings):
                ask(port, "/train", {"stock": "VALE3", "inicio": "2020-01-01", "fim": "2025-07-28", "overrides": small})
            size = memory(process.pid)
    lines = [f"| PSS after {done:,} predictions and {trainings} trainings | {size:.0f} MB | ≤ 350 MB |"]
    print(lines[0], flush=True)
    return lines


def restart(prices: Path, rounds: int, clients: int = 6) -> list[str]:
    """Seconds from SIGTERM to the next 200 while clients go on asking."""
    found = []
    with TemporaryDirectory() as home:
        port, stopped = free_port(), threading.Event()

        def keep_asking() -> None:
            while not stopped.is_set():
                with contextlib.suppress(OSError):
                    ask(port, "/predict", BY_CLOSES, 5)

        with running(ours(port, prices), PREGAO_HOME=home):
            wait_for(port, "/health")
            time.sleep(20)
        threads = [threading.Thread(target=keep_asking) for _ in range(clients)]
        process = subprocess.Popen(
            ours(port, prices), env={**os.environ, "PREGAO_HOME": home}, stdout=subprocess.DEVNULL
        )
        wait_for(port, "/predict", BY_CLOSES)
        for thread in threads:
            thread.start()
        for _ in range(rounds):
            time.sleep(1)
            started = time.perf_counter()
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            process = subprocess.Popen(
                ours(port, prices), env={**os.environ, "PREGAO_HOME": home}, stdout=subprocess.DEVNULL
            )
            wait_for(port, "/predict", BY_CLOSES)
            found.append(time.perf_counter() - started)
        stopped.set()
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    lines = [f"| restart under {clients} clients, SIGTERM to the next 200 | {median(found):.1f} s | ≤ 3 s |"]
    print(lines[0], flush=True)
    return lines


def fill(home: Path, count: int = 1000, metrics: int = 30) -> None:
    """An MLflow database with many runs."""
    os.environ["PREGAO_HOME"] = str(home)
    from pregao.prices.symbols import Symbol
    from pregao.tracking import runs

    for stock in ("VALE3", "PETR4"):
        for number in range(count // 2):
            with runs.start_run(Symbol.parse(stock), f"run {number}") as run:
                run.params({f"param_{i}": i for i in range(20)})
                run.metrics({f"metric_{i}": number + i / 10 for i in range(metrics)})


def of_statistics(prices: Path, rounds: int) -> list[str]:
    """Seconds of GET /statistics with 1,000 runs, transfer included."""
    with TemporaryDirectory() as home:
        fill(Path(home))
        port = free_port()
        with running(ours(port, prices), PREGAO_HOME=home):
            wait_for(port, "/health")
            found = []
            for _ in range(rounds + 1):
                started = time.perf_counter()
                answer = get(port, "/statistics")
                found.append(time.perf_counter() - started)
                assert sum(len(experiment["runs"]) for experiment in answer["experiments"]) >= 1000
    return [f"| GET /statistics, 1,000 runs × 30 metrics, warm | {median(found[1:]):.2f} s | ≤ 0.3 s |"]


def main(rounds: int) -> None:
    """Print and write the tables."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        make_prices(folder)
        rates = throughput(folder, rounds)
        port = free_port()
        with running(ours(port, folder), PREGAO_HOME=name):
            wait_for(port, "/health")
            lines = during_a_training(port, rounds)
        lines += life(folder, min(rounds, 3)) + after_work(folder) + restart(folder, min(rounds, 3))
        lines += of_statistics(folder, rounds)
    table = "\n".join([*rates, "", "| what | found | target |", "|---|---:|---:|", *lines])
    text = (
        f"{table}\n\nMedians of {rounds} alternating rounds of {SECONDS:g} s; an asyncio client on the same machine, "
        f"loopback, keep-alive. During a training: 100 requests per second. On: {machine()}. To repeat: "
        "`python benchmarks/api.py`.\n"
    )
    print(text)
    TABLE.write_text(f"# Speed of the API\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
