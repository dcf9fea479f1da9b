"""Time and memory of the shared model by the number of stocks: python benchmarks/scaling.py [STOCKS …] [OVERRIDE …].

Writes synthetic stocks of ten years: random walks with ranges, whose volatility has a factor in common. Each row is one
train.py of the default recipe as a new process, with its evaluation and baselines; the largest panel is also
backtested. Overrides, such as trainer.max_epochs=1, are of every training. Writes benchmarks/scaling.md.
"""

import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from commands import REPOSITORY, Checkout
from machine import machine

TABLE = Path(__file__).with_suffix(".md")
SIZES = (50, 100, 200, 400)
DAYS = pd.bdate_range("2015-01-01", "2024-12-30")
STEPS = 24
"""Prices per session, from which the range is taken."""

HEAD = "| stocks | training windows | `train.py`, s | CPU s | CPU s per stock | in fit, s | epochs | peak MB |"


def common_factor(generator: np.random.Generator) -> np.ndarray:
    """A persistent standard normal series, one value per session."""
    shocks = generator.normal(0, np.sqrt(1 - 0.98**2), len(DAYS))
    return pd.Series(shocks).ewm(alpha=0.02, adjust=False).mean().to_numpy() / 0.02


def synthetic(folder: Path, number: int, factor: np.ndarray) -> str:
    """Write the prices of one stock; returns its ticker."""
    generator = np.random.default_rng(number)
    daily = 0.02 * np.exp(0.3 * factor + 0.2 * common_factor(generator))
    overnight = np.sqrt(0.3) * daily * generator.normal(size=len(DAYS))
    moves = np.sqrt(0.7 / STEPS) * daily[:, None] * generator.normal(size=(len(DAYS), STEPS))
    paths = np.pad(moves.cumsum(axis=1), ((0, 0), (1, 0)))
    opening = np.log(50) + np.cumsum(overnight + paths[:, -1]) - paths[:, -1]
    prices = np.exp(opening[:, None] + paths)
    columns = {"open": prices[:, 0], "high": prices.max(axis=1), "low": prices.min(axis=1), "close": prices[:, -1]}
    ticker = f"{chr(65 + number // 676)}{chr(65 + number // 26 % 26)}{chr(65 + number % 26)}X3"
    pd.DataFrame({"date": DAYS, **columns}).to_csv(folder / f"{ticker}.csv", index=False, float_format="%.4f")
    return ticker


def panel_of(folder: Path, stocks: Sequence[str]) -> tuple[str, ...]:
    """The arguments that choose these stocks."""
    return f"stocks=[{','.join(stocks)}]", "start=2015-01-01", "end=2024-12-30", "source=csv", f"source.path={folder}"


def measured(checkout: Checkout, *command: str) -> tuple[float, float, float]:
    """Seconds of a command, CPU seconds and peak MB of its processes."""
    before = cpu_seconds()
    seconds, peak = checkout.measured(*command)
    return seconds, cpu_seconds() - before, peak


def cpu_seconds() -> float:
    """Of all finished child processes and their children; they do not depend on other work of the machine."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def row(checkout: Checkout, arguments: Sequence[str], size: int) -> str:
    """The table row of one training."""
    seconds, processor, peak = measured(checkout, "train.py", "stock=SHARED", *arguments)
    [file] = (checkout.home / "outputs").rglob("metrics.json")
    metrics = json.loads(file.read_text())
    file.unlink()
    return (
        f"| {size} | {metrics['n_train']:,.0f} | {seconds:,.0f} | {processor:,.0f} | {processor / size:.2f} | "
        f"{metrics['training_time']:,.0f} | {metrics['epochs']:.0f} | {peak:,.0f} |"
    )


def main(sizes: Sequence[int], overrides: Sequence[str]) -> None:
    """Print and write the table."""
    lines = [HEAD, "|---:|" + "---:|" * 7]
    print("\n".join(lines), flush=True)
    with TemporaryDirectory() as folder:
        checkout = Checkout(REPOSITORY, Path(folder) / "home")
        factor = common_factor(np.random.default_rng(6544))
        stocks = [synthetic(Path(folder), number, factor) for number in range(max(sizes))]
        for size in sizes:
            lines.append(row(checkout, (*panel_of(Path(folder), stocks[:size]), *overrides), size))
            print(lines[-1], flush=True)
        arguments = (*panel_of(Path(folder), stocks), *overrides, "models=[shared,EWMA]", "first_cutoff=2022-01-01")
        seconds, processor, peak = measured(checkout, "backtest.py", *arguments)
        settings = f"{len(stocks)} stocks, 2022-01..2024-12, half-yearly refits, `models=[shared,EWMA]`"
        lines += ["", f"Backtest of {settings}: {seconds:,.0f} s, {processor:,.0f} CPU s, peak {peak:,.0f} MB."]
        print(lines[-1], flush=True)
    recipe = f"The default recipe with {' '.join(overrides)}. " if overrides else ""
    note = f"{recipe}Peak: proportional set size of the command and its workers. Measured on: {machine()}."
    TABLE.write_text("\n".join(["# Growth with the number of stocks", "", *lines, "", note, ""]), encoding="utf-8")


if __name__ == "__main__":
    given = sys.argv[1:]
    main([int(each) for each in given if each.isdigit()] or SIZES, [each for each in given if "=" in each])
