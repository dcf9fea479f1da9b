"""False alarms, power and value of drift warnings: python benchmarks/drift.py DIR.

DIR contains STOCK.csv files (source=csv). False alarms and power are measured on simulated stocks: GJR-GARCH returns
fitted to each real stock, which change only where this script changes them. The value is measured on the real stocks,
by two backtests: one refits the model every half-year, the other never. Writes benchmarks/drift.md.
"""

import logging
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import pandas as pd
from arch import arch_model
from hydra import compose, initialize_config_dir
from machine import machine

from pregao.backtesting.backtest import Backtest
from pregao.backtesting.config import BacktestConfig
from pregao.cli.command import CONF
from pregao.config import parse
from pregao.evaluation.drift import SESSIONS, STRIDE, drift, summary
from pregao.evaluation.metrics import pinball_by_window
from pregao.prices.downloader import Downloader
from pregao.quantiles import LEVELS

TABLE = Path(__file__).with_suffix(".md")
FIRST, LAST = "2022-01-01", "2025-07-31"
PATHS, LATER = 8, 500
FACTORS = {"nothing": 1.0, "volatility × 1.5": 1.5, "volatility × 2": 2.0, "volatility × 0.6": 0.6}
QUANTILES = [f"q{int(100 * level):02d}" for level in LEVELS]


def closes_of(prices: Path) -> dict[str, pd.DataFrame]:
    """Adjusted closes of the stocks with two years of prices before 2022."""
    downloader = Downloader("csv", prices)
    stocks = sorted(path.stem for path in prices.glob("*.csv") if path.stem != "BVSP")
    tables = {stock: downloader.closes(stock, "2015-01-01", LAST) for stock in stocks}
    return {stock: table for stock, table in tables.items() if (table["date"] < FIRST).sum() > 500}


def scores(reference: dict[str, object] | None, closes: np.ndarray, after: int) -> np.ndarray:
    """Drift score at every fifth close from a position on."""
    found = [drift(reference, closes[: end + 1]) for end in range(after, len(closes), STRIDE)]
    return np.array([np.nan if one is None else one.score for one in found])


def simulated(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Warnings on unchanged and on changed simulated stocks."""
    found: dict[str, list[tuple[float, bool]]] = {name: [] for name in FACTORS}
    rng = np.random.default_rng(6544)
    for table in tables.values():
        closes = table.loc[table["date"] < FIRST, "close"].to_numpy()
        returns = 100 * np.diff(np.log(closes))
        model = arch_model(returns, mean="Zero", p=1, o=1, q=1, dist="t")
        parameters = model.fit(disp="off", show_warning=False).params
        for _ in range(PATHS):
            model.distribution._generator = np.random.default_rng(rng.integers(2**32))
            path = model.simulate(parameters, len(returns) + LATER)["data"].to_numpy() / 100
            reference = summary(np.exp(np.append(0, path[: len(returns)].cumsum())))
            for name, factor in FACTORS.items():
                changed = np.where(np.arange(len(path)) < len(returns), 1, factor) * path
                after = scores(reference, np.exp(np.append(0, changed.cumsum())), len(returns) + SESSIONS) > 1
                found[name].append((float(after.mean()), bool(after.any())))
    lines = ["| change | sessions with a warning % | paths with one within two years % |", "|---|---:|---:|"]
    for name, rows in found.items():
        share, some = np.mean(rows, axis=0)
        lines.append(f"| {name} | {100 * share:.1f} | {100 * some:.0f} |")
    return lines


def losses(prices: Path, stocks: list[str], refit_every: int) -> pd.Series:
    """Pinball loss of the shared model by stock and cutoff."""
    chosen = ["source=csv", f"source.path={prices}", f"stocks=[{','.join(stocks)}]", "models=[shared]"]
    with initialize_config_dir(str(CONF), version_base=None):
        overrides = [f"refit_every={refit_every}", f"end={LAST}", f"first_cutoff={FIRST}"]
        config = parse(BacktestConfig, compose("backtest", ["panel=ibovespa", *chosen, *overrides]))
    with TemporaryDirectory() as home:
        os.environ["PREGAO_HOME"] = home
        folder = Path(home) / "backtest"
        Backtest(config, folder).run()
        table = pd.read_parquet(folder / "forecasts.parquet")
    table = table.sort_values(["stock", "cutoff", "step"])
    shape = (-1, table["step"].nunique())
    y, quantiles = table["y"].to_numpy().reshape(shape), table[QUANTILES].to_numpy().reshape(*shape, len(LEVELS))
    index = table.loc[table["step"] == 1, ["stock", "cutoff"]]
    return pd.Series(pinball_by_window(y, quantiles), pd.MultiIndex.from_frame(index))


def real(prices: Path, tables: dict[str, pd.DataFrame]) -> list[str]:
    """Pinball loss by drift score, and its reduction by refits."""
    scored = {}
    for stock, table in tables.items():
        reference = summary(table.loc[table["date"] < FIRST, "close"].to_numpy())
        for end in np.flatnonzero(table["date"] >= FIRST):
            now = drift(reference, table["close"].to_numpy()[: end + 1])
            scored[stock, table["date"].iloc[end]] = np.nan if now is None else now.score
    old, new = (losses(prices, list(tables), every) for every in (1200, 6))
    both = pd.DataFrame({"old": old, "new": new, "score": pd.Series(scored)}).dropna()
    lines = [
        "| drift score | stocks | share of forecasts % | pinball, never refitted | refitted every half-year "
        "| saved % |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    bins = {
        "all": (0, np.inf),
        "≤ 0.5": (0, 0.5),
        "0.5–0.75": (0.5, 0.75),
        "0.75–1": (0.75, 1),
        "> 1, a warning": (1, np.inf),
    }
    for name, (low, high) in bins.items():
        part = both[(both["score"] > low) & (both["score"] <= high)]
        means = part[["old", "new"]].mean()
        cells = [str(part.index.get_level_values(0).nunique()), f"{100 * len(part) / len(both):.1f}"]
        cells += [f"{means['old']:.3f}", f"{means['new']:.3f}", f"{100 * (1 - means['new'] / means['old']):+.2f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    by_stock = 100 * (both["score"] > 1).groupby(level=0).mean()
    worst = by_stock.nlargest(3)
    most = ", ".join(f"{stock} {share:.1f}" for stock, share in worst.items() if share)
    return [*lines, "", f"Sessions with a warning, by stock: 0–{by_stock.max():.1f} %; most: {most}."]


def main(prices: Path) -> None:
    """Print and write the tables."""
    logging.disable(logging.WARNING)
    started = perf_counter()
    tables = closes_of(prices)
    parts = ["# Drift", "", "## Simulated stocks", "", *simulated(tables)]
    print("\n".join(parts), flush=True)
    parts += ["", "## Real stocks, and the reduction of the loss by a newer model", "", *real(prices, tables)]
    parts += [
        "",
        f"{len(tables)} stocks; the training part is 2015..2021, the test part 2022-01..2025-07. Simulated: {PATHS} "
        f"paths per stock, two years after the training part, scored at every fifth session from the {SESSIONS}th on. "
        f"Pinball loss of the log return, × 1000. Seed 6544. Run time: {perf_counter() - started:.0f} s. Measured on: "
        f"{machine()}. To repeat: `python benchmarks/drift.py DIR`.",
    ]
    text = "\n".join(parts) + "\n"
    print(text)
    TABLE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
