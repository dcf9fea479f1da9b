"""Seconds of whole commands in this checkout and another one: python benchmarks/commands.py PRICES --base DIR.

PRICES contains VALE3.csv. Each command is a new process, imports included; the checkouts alternate. Measures train.py,
predict.py, a sweep (sequential and by joblib), the shared model of many synthetic stocks of ten years, and the time in
fit relative to a bare PyTorch loop (by each checkout's benchmarks/speed.py). Writes benchmarks/commands.md. A quick
trial:

    python benchmarks/commands.py PRICES --rounds 1 --runs 2 --stocks 2 --overrides model.hidden_size=4
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory, TemporaryFile

import psutil
from machine import machine

REPOSITORY = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_suffix(".md")
SECONDS_BETWEEN_SAMPLES = 0.2
FIT = """
import sys, pathlib, speed
speed.RECIPES = {"default": tuple(sys.argv[3:])}
for line in speed.fits(pathlib.Path(sys.argv[1]), int(sys.argv[2])):
    print(line)
"""

Row = tuple[str, Sequence[float]]
"""A name, and one value per checkout."""


@dataclass(frozen=True)
class Checkout:
    """A folder with this repository at some commit, and a home for its commands' files."""

    folder: Path
    home: Path

    @property
    def commit(self) -> str:
        """The abbreviated commit."""
        command = ["git", "-C", str(self.folder), "rev-parse", "--short", "HEAD"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of its commands: one thread, its code, its home."""
        own = {"PYTHONPATH": str(self.folder / "src"), "PREGAO_HOME": str(self.home), "OMP_NUM_THREADS": "1"}
        return {**os.environ, **own}

    def measured(self, program: str, *arguments: str) -> tuple[float, float]:
        """Seconds of a command, and the peak memory of its processes in MB (proportional set size)."""
        command = [sys.executable, str(self.folder / program), *arguments]
        with TemporaryFile() as log, ThreadPoolExecutor(1) as sampler:
            started = time.perf_counter()
            process = subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log)
            peak = sampler.submit(peak_memory, process)
            process.wait()
            seconds = time.perf_counter() - started
            log.seek(0)
            if process.returncode:
                raise RuntimeError(f"{command} ended with {process.returncode}: {log.read()[-2000:].decode()}")
        return seconds, peak.result()

    def fit(self, prices: Path, rounds: int, overrides: Sequence[str]) -> float:
        """Time in fit divided by that of the bare loop, from the last cell of the table of speed.py."""
        command = [sys.executable, "-c", FIT, str(prices), str(rounds), *overrides]
        run = {"cwd": self.folder / "benchmarks", "env": self.environment, "stdout": subprocess.PIPE}
        done = subprocess.run(command, check=True, text=True, **run)
        return float(done.stdout.splitlines()[-1].split("|")[-2])


def peak_memory(process: subprocess.Popen[bytes]) -> float:
    """Peak memory of a process and its descendants in MB, sampled until it ends."""
    peak = 0
    while process.returncode is None:
        with suppress(psutil.Error):  # one of them has ended
            parent = psutil.Process(process.pid)
            family = [parent, *parent.children(recursive=True)]
            peak = max(peak, sum(each.memory_full_info().pss for each in family))
        time.sleep(SECONDS_BETWEEN_SAMPLES)
    return peak / 2**20


def measured(checkouts: Sequence[Checkout], rounds: int, *command: str) -> list[list[tuple[float, float]]]:
    """Seconds and peak memory of a command, by round and checkout."""
    return [[each.measured(*command) for each in checkouts] for _ in range(rounds)]


def medians(found: Sequence[Sequence[tuple[float, float]]]) -> tuple[list[float], list[float]]:
    """Medians over rounds of seconds and of memory, by checkout."""
    columns = list(zip(*found, strict=True))
    return [median(seconds for seconds, _ in column) for column in columns], [
        median(peak for _, peak in column) for column in columns
    ]


def single(checkouts: Sequence[Checkout], given: argparse.Namespace) -> Iterator[Row]:
    """One training and one forecast."""
    stock = ("stock=VALE3", "source=csv", f"source.path={given.prices}")
    commands = {
        "train.py experiment=quickstart": ("train.py", "experiment=quickstart", *given.overrides),
        "train.py stock=VALE3": ("train.py", *stock, "end=2025-07-27", *given.overrides),
        "predict.py stock=VALE3": ("predict.py", *stock),
    }
    for name, (program, *arguments) in commands.items():
        found = measured(checkouts, given.rounds + 1, program, *arguments)
        seconds, peaks = medians(found[1:])  # the first round creates databases and caches
        yield f"`{name}`, s", seconds
        yield f"`{name}`, peak MB", peaks


def sweep(checkouts: Sequence[Checkout], given: argparse.Namespace) -> Iterator[Row]:
    """Default runs that differ only in their seed, sequential and by joblib."""
    seeds = f"seed={','.join(map(str, range(given.runs)))}"
    sweep = ("-m", "stock=VALE3", "source=csv", f"source.path={given.prices}", "end=2025-07-27", seeds)
    launchers = {
        "sequential": ("hydra/launcher=basic",),
        "joblib": ("hydra/launcher=joblib", f"hydra.launcher.n_jobs={given.cores}"),
    }
    seconds = {}
    for name, launcher in launchers.items():
        found = measured(checkouts, given.rounds, "train.py", *sweep, *launcher, *given.overrides)
        seconds[name], _ = medians(found)
        yield f"sweep of {given.runs} runs, {name}, s", seconds[name]
    basic, parallel = seconds.values()
    yield "sequential / joblib", [a / b for a, b in zip(basic, parallel, strict=True)]


def panel(checkouts: Sequence[Checkout], given: argparse.Namespace) -> Iterator[Row]:
    """Training of the shared model on many stocks."""
    sys.path.insert(0, str(REPOSITORY))
    with TemporaryDirectory() as folder:
        stocks = [synthetic(Path(folder), number) for number in range(given.stocks)]
        arguments = ("stock=SHARED", f"stocks=[{','.join(stocks)}]", "start=2015-01-01", "end=2024-12-30")
        arguments += ("source=csv", f"source.path={folder}", "data.batch_size=256", "trainer.max_epochs=4")
        arguments += tuple(given.overrides)
        found = measured(checkouts, given.panel_rounds, "train.py", *arguments)
    for name, figures in zip(("s", "peak MB"), medians(found), strict=True):
        yield f"{given.stocks} stocks of ten years, {name}", figures


def synthetic(folder: Path, number: int) -> str:
    """Write ten years of a random walk with ranges as a csv file; returns its ticker."""
    from tests.conftest import random_walk, with_ranges

    ticker = f"{chr(65 + number // 676)}{chr(65 + number // 26 % 26)}{chr(65 + number % 26)}X3"
    with_ranges(random_walk(2470, seed=number), seed=number).to_csv(folder / f"{ticker}.csv", index=False)
    return ticker


def fits(checkouts: Sequence[Checkout], given: argparse.Namespace) -> Iterator[Row]:
    """Time in fit."""
    yield "time in fit / bare loop", [each.fit(given.prices, given.rounds, given.overrides) for each in checkouts]


PARTS = {"single": single, "sweep": sweep, "panel": panel, "fit": fits}


def table(checkouts: Sequence[Checkout], given: argparse.Namespace) -> Iterator[str]:
    """The lines of the table, each when it is measured."""
    yield f"| | {' | '.join(each.commit for each in checkouts)} | last / first |"
    yield f"|---|{'---:|' * (len(checkouts) + 1)}"
    for part in given.parts:
        for name, figures in PARTS[part](checkouts, given):
            cells = " | ".join(f"{figure:,.2f}" if figure < 1000 else f"{figure:,.0f}" for figure in figures)
            yield f"| {name} | {cells} | {figures[-1] / figures[0]:.2f} |"


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prices", type=lambda text: Path(text).resolve(), help="a folder with VALE3.csv")
    parser.add_argument("--base", type=lambda text: Path(text).resolve(), help="the checkout to compare with")
    parser.add_argument("--rounds", type=int, default=5, help="of each command")
    parser.add_argument("--panel-rounds", type=int, default=1, help="of the training on many stocks")
    parser.add_argument("--runs", type=int, default=16, help="of a sweep")
    parser.add_argument("--cores", type=int, default=2, help="of a sweep by joblib")
    parser.add_argument("--stocks", type=int, default=100, help="of the shared model")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--table", type=Path, default=TABLE, help="the file to write")
    parser.add_argument("--overrides", nargs="+", default=[], help="of every training")
    return parser.parse_args()


def main(given: argparse.Namespace) -> None:
    """Print and write the table."""
    folders = [folder for folder in (given.base, REPOSITORY) if folder is not None]
    with TemporaryDirectory() as homes:
        checkouts = [Checkout(folder, Path(homes) / str(number)) for number, folder in enumerate(folders)]
        lines = []
        for line in table(checkouts, given):
            print(line, flush=True)
            lines.append(line)
    note = f"Medians of {given.rounds} alternating rounds (many stocks: {given.panel_rounds}), on: {machine()}."
    given.table.write_text("\n".join(["# Whole commands", "", *lines, "", note, ""]), encoding="utf-8")


if __name__ == "__main__":
    main(parsed())
