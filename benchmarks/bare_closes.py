"""Bands of closes without a history, on stocks that the model has not seen: python benchmarks/bare_closes.py DIR.

DIR contains STOCK.csv files (source=csv). Each of four groups of stocks is forecast by a shared model of the other
stocks, trained on days before 2023-11-24, from the last 20, 60 or 250 closes alone, as predict.py closes=[…] does.
EWMA gets the same closes. Writes benchmarks/bare_closes.md.
"""

import logging
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from comparison import saved
from machine import machine
from reference_split import STRENGTH, pipeline, train

from pregao.data.panel import Panel
from pregao.data.windows import REFERENCE_BORDER, REFERENCE_END
from pregao.evaluation.baselines.base import History
from pregao.evaluation.baselines.empirical import Ewma
from pregao.evaluation.metrics import coverage, pinball_by_window
from pregao.models.trained import TrainedModel
from pregao.prices.downloader import Downloader
from pregao.quantiles import LEVELS
from pregao.training.steps import refit

TABLE = Path(__file__).with_suffix(".md")
HORIZON = 10
GROUPS = 4

GIVEN = (20, 60, 250)
"""Numbers of given closes."""

EVERY = 2
"""Sessions between two forecasts."""

MODELS = {"default": "ibovespa", "`model=har`": "ibovespa_har"}
"""Experiments by row."""


@dataclass(frozen=True)
class Scores:
    """The scores of one stock: percent of the closes in the 90 % band, and pinball losses by cutoff."""

    inside: float
    model: pd.Series
    ewma: pd.Series


def left_out(stocks: list[str]) -> list[list[str]]:
    """The groups of stocks."""
    return [stocks[place::GROUPS] for place in range(GROUPS)]


def trained_on(prices: Path, folder: str, stocks: list[str], experiment: str) -> tuple[TrainedModel, Panel]:
    """A shared model as train.py makes it, and its panel."""
    run = pipeline(prices, folder, f"experiment={experiment}", f"stocks=[{','.join(stocks)}]")
    model, panel, _ = train(run)
    refit(model, panel)
    return model, panel


def ewma_shape(histories: Mapping[str, pd.DataFrame]) -> np.ndarray:
    """EWMA's quantiles `[horizon, levels]` of the log return in units of its scale, mean over these stocks."""
    shapes = []
    for stock, table in histories.items():
        history, ewma = History.of(table[table["date"] < REFERENCE_BORDER], stock), Ewma()
        last = np.array([len(history) - 1])
        moves = ewma.log_returns(ewma.estimate(history), history, last, HORIZON, LEVELS)
        shapes.append(moves[0] / ewma.scale(history.logs, np.diff(history.logs))[-1])
    return np.mean(shapes, axis=0)


def ewma_quantiles(given: list[np.ndarray], shape: np.ndarray) -> np.ndarray:
    """Quantiles `[n, horizon, levels]`; the variance of each forecast comes from its given closes."""
    logs = [np.log(closes) for closes in given]
    scales = np.array([Ewma().scale(each, np.diff(each))[-1] for each in logs])
    last = np.array([closes[-1] for closes in given])
    return last[:, None, None] * np.exp(scales[:, None, None] * shape)


def scores(model: TrainedModel, table: pd.DataFrame, count: int, shape: np.ndarray) -> Scores:
    """The scores of forecasts after `count` closes, whose targets are test days."""
    closes, dates = table["close"].to_numpy(), table["date"].to_numpy()
    first = max(int((table["date"] < REFERENCE_BORDER).sum()), count)
    ends = np.arange(first, len(table) - HORIZON + 1, EVERY)  # the place of the first target
    given = [closes[end - count : end] for end in ends]
    targets = np.array([closes[end : end + HORIZON] for end in ends])
    windows = [model.window(each.tolist()) for each in given]
    inputs, measures = (np.array([getattr(w, name) for w in windows]) for name in ("closes", "volatilities"))
    own = model.quantiles(inputs, measures, [""] * len(windows))
    losses = [pinball_by_window(targets, each) for each in (own, ewma_quantiles(given, shape))]
    inside = coverage(targets, own[..., 0], own[..., -1])
    return Scores(inside, *(pd.Series(each, dates[ends - 1]) for each in losses))


def row(name: str, count: int, found: dict[str, Scores]) -> str:
    """The table row of a model and a number of closes."""
    inside = [each.inside for each in found.values()]
    model, ewma = (pd.DataFrame({s: getattr(f, of) for s, f in found.items()}) for of in ("model", "ewma"))
    cells = [name, str(count), str(len(found)), f"{statistics.mean(inside):.1f}"]
    cells += [f"{min(inside):.1f}–{max(inside):.1f}", str(saved(model.sort_index(), ewma.sort_index()))]
    return f"| {' | '.join(cells)} |"


def main(prices: Path) -> None:
    """Print and write the table."""
    logging.disable(logging.WARNING)  # each training would warn of the same missing sessions
    stocks = sorted(path.stem for path in prices.glob("*.csv") if path.stem != "BVSP")
    tables = {stock: Downloader("csv", prices).prices(stock, "2015-01-01", REFERENCE_END).table for stock in stocks}
    lines = ["| model | closes | stocks | in 90 %, mean | by stock | saved against EWMA % |", "|---|" + "---:|" * 5]
    for name, experiment in MODELS.items():
        found: dict[int, dict[str, Scores]] = {count: {} for count in GIVEN}
        with TemporaryDirectory() as folder:
            for group in left_out(stocks):
                model, panel = trained_on(prices, folder, [each for each in stocks if each not in group], experiment)
                shape = ewma_shape(panel.prices)
                for count in GIVEN:
                    found[count] |= {stock: scores(model, tables[stock], count, shape) for stock in group}
        lines += [row(name, count, found[count]) for count in GIVEN]
        print("\n".join(lines), flush=True)
    note = (
        f"Each stock is forecast by a shared model of the other stocks without its group ({GROUPS} groups), trained on "
        f"days before {REFERENCE_BORDER.date()}, from its last closes alone: no dates, no ranges, no ticker. Every "
        f"second session; targets are in {REFERENCE_BORDER.date()}..{REFERENCE_END}. EWMA's variance comes from the "
        "same closes, starting at their mean square; its quantiles are fitted on the other stocks before the test days "
        "(mean of their shapes), since 20 closes do not determine quantiles 10 sessions ahead. `saved`: pinball, mean "
        "over stocks, with a 95 % interval by a circular block bootstrap over dates; "
        f"{STRENGTH} Seed 6544.\n\n"
        f"Measured on: {machine()}. To repeat: `make bench PRICES=DIR`."
    )
    TABLE.write_text("\n".join(["# Bare closes", "", *lines, "", note, ""]), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
