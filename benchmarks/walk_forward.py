"""Walk-forward 2022-01..2025-07, half-yearly refits, all stocks of DIR: python benchmarks/walk_forward.py DIR.

DIR contains STOCK.csv files (source=csv). Runs the Backtest of backtest.py in a temporary home. Writes
benchmarks/walk_forward.md.
"""

import logging
import os
import sys
from collections.abc import Hashable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from comparison import later_starts
from hydra import compose, initialize_config_dir
from machine import machine

from pregao.backtesting.backtest import Backtest
from pregao.backtesting.config import BacktestConfig
from pregao.backtesting.scores import ALL, NETWORKS, WalkForward, pinball_saved
from pregao.cli.command import CONF
from pregao.config import parse
from pregao.data.windows import REFERENCE_BORDER
from pregao.evaluation.significance import Saved

TABLE = Path(__file__).with_suffix(".md")
PREVIOUS = "version 0.1"


def overall(scores: pd.DataFrame) -> list[str]:
    """One row per model, over all stocks and steps."""
    head = (
        "| model | MAPE % | skill % | in 80 % | in 90 % | by stock | pinball | saved against GJR-GARCH % "
        "| saved against last close % |"
    )
    lines = [head, "|---|" + "---:|" * 8]
    for row in scores[(scores["stock"] == ALL) & (scores["step"] == ALL)].to_dict("records"):
        own = scores[(scores["model"] == row["model"]) & (scores["stock"] != ALL)]["coverage_90"]
        cells = [f"{row['mape']:.3f}", f"{row['skill_mape']:+.2f}", f"{row['coverage_80']:.1f}"]
        cells += [f"{row['coverage_90']:.1f}", f"{own.min():.1f}–{own.max():.1f}", f"{row['pinball']:.3f}"]
        cells += [interval(row, "garch"), interval(row, "naive")]
        lines.append(f"| {row['model']} | {' | '.join(cells)} |")
    return lines


def interval(row: Mapping[Hashable, Any], column: str) -> str:
    """Percent saved, with its interval."""
    return str(Saved(*(row[f"against_{column}{end}"] for end in ("", "_low", "_high"))))


def baselines(walk: WalkForward) -> list[str]:
    """The names of the baselines."""
    return [name for name in walk.models if name not in (*NETWORKS, PREVIOUS)]


def by_period(walk: WalkForward, network: str = "shared") -> list[str]:
    """One row per period, of a network."""
    cutoffs = "cutoffs" if network == "shared" else f"cutoffs, {network}"
    head = f"| {cutoffs} | windows | in 90 % | pinball | saved against {walk.strongest} % | saved against GJR-GARCH % |"
    lines = [head, "|---|" + "---:|" * 5]
    for row in walk.periods[walk.periods["model"] == network].to_dict("records"):
        cells = [str(row["windows"]), f"{row['coverage_90']:.1f}", f"{row['pinball']:.3f}"]
        cells += [interval(row, "strongest"), interval(row, "garch")]
        lines.append(f"| {row['period']} | {' | '.join(cells)} |")
    return lines


def by_baseline(walk: WalkForward) -> list[str]:
    """One row per baseline, and of version 0.1: percent of its pinball that the network saves, by period."""
    network = walk.aligned["shared"]
    late = network.cutoffs >= REFERENCE_BORDER.to_datetime64()
    masks = {"all": np.full(len(late), True), "before 2023-11-24": ~late, "from 2023-11-24": late}
    lines = [f"| saved against % | {' | '.join(masks)} |", "|---|" + "---:|" * len(masks)]
    for name in (*baselines(walk), PREVIOUS):
        other = walk.aligned[name]
        cells = [str(pinball_saved(network.where(mask), other.where(mask))) for mask in masks.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def by_month(walk: WalkForward) -> list[str]:
    """One row per model: closes inside the 90 % band, by step and in the worst calendar month, all stocks together."""
    lines = ["| model | in 90 %, by step | worst month of targets | in it, % |", "|---|---:|---|---:|"]
    for name in ("shared", PREVIOUS, *baselines(walk)):
        part = walk.aligned[name]
        inside = (part.quantiles[..., 0] <= part.y) & (part.y <= part.quantiles[..., -1])
        steps = 100 * inside.mean(axis=0)
        months = pd.PeriodIndex(part.dates.ravel(), freq="M")
        by_month = 100 * pd.Series(inside.ravel()).groupby(months).mean()
        lines.append(f"| {name} | {steps.min():.1f}–{steps.max():.1f} | {by_month.idxmin()} | {by_month.min():.1f} |")
    return lines


def walk(prices: Path, stocks: list[str], experiment: str) -> tuple[WalkForward, float]:
    """The backtest of an experiment, and its seconds."""
    chosen = [
        f"experiment/backtest={experiment}",
        f"stocks=[{','.join(stocks)}]",
        "source=csv",
        f"source.path={prices}",
    ]
    with initialize_config_dir(str(CONF), version_base=None):
        config = parse(BacktestConfig, compose("backtest", chosen))
    with TemporaryDirectory() as home:
        os.environ["PREGAO_HOME"] = home
        outcome = Backtest(config, Path(home) / "backtest").run()
    return outcome.walk, outcome.seconds


def by_stock(scores: pd.DataFrame) -> list[str]:
    """One row per stock, of the network."""
    lines = ["| stock | windows | MAPE % | skill % | in 90 % | saved against GJR-GARCH % | p |", "|---|" + "---:|" * 6]
    for row in scores[(scores["model"] == "shared") & (scores["stock"] != ALL)].to_dict("records"):
        cells = [str(row["windows"]), f"{row['mape']:.3f}", f"{row['skill_mape']:+.2f}", f"{row['coverage_90']:.1f}"]
        cells += [f"{row['against_garch']:+.2f}", f"{row['p_garch']:.3f}"]
        lines.append(f"| {row['stock']} | {' | '.join(cells)} |")
    return lines


def main(prices: Path) -> None:
    """Print and write the tables."""
    logging.disable(logging.WARNING)
    stocks = sorted(path.stem for path in prices.glob("*.csv") if path.stem != "BVSP")
    current, seconds = walk(prices, stocks, "walk_forward")
    before, _ = walk(prices, stocks, "walk_forward_first_version")
    both = pd.concat([current.forecasts, before.forecasts.assign(model=PREVIOUS)], ignore_index=True)
    compared = WalkForward(both, current.currency)
    note = (
        f"{len(stocks)} stocks; cutoffs from 2022-01-01, targets up to 2025-07-31; the network and every baseline are "
        f"refitted every half-year on all closes since 2015{later_starts(prices, stocks, '2015-01-01')}. `+ width`: "
        "with the online width known at each cutoff, as version 0.1. `saved`: pinball, mean over stocks, with a 95 % "
        "interval by a circular block bootstrap over dates (blocks of 20 sessions); p: Diebold–Mariano test of one "
        "stock. Choices of the model and of the online width were made on data until 2023-11-23: only the later period "
        f"is untouched. Seed 6544. Run time: {seconds:.0f} s."
        f"\n\nMeasured on: {machine()}. To repeat: `make bench PRICES=DIR`."
    )
    parts = [by_period(current), by_baseline(compared), by_month(compared), overall(current.scores)]
    tables = [line for part in (*parts, by_stock(current.scores)) for line in (*part, "")]
    fine_tuned = ["## The default recipe: fine-tuned on each stock", "", *by_period(current, "fine-tuned"), ""]
    first = ["# Walk-forward", "", f"Strongest baseline: {current.strongest}.", ""]
    text = "\n".join([*first, *tables, note, "", *fine_tuned])
    print(text)
    TABLE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
