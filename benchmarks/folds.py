"""The choice of the network on folds before 2023-11-24: python benchmarks/folds.py DIR.

DIR contains STOCK.csv files (source=csv). For each test year until the reference border, every network is trained on
all earlier days of all stocks and compared with the panel model of the same days. Writes benchmarks/folds.md.
"""

import logging
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from hydra import compose, initialize_config_dir
from machine import machine

from pregao.cli.command import CONF
from pregao.config import parse
from pregao.data.panel import Panel
from pregao.data.windows import borders_before, day
from pregao.evaluation.metrics import pinball_by_window
from pregao.forecasting.historical import rolling_forecasts
from pregao.models.trained import TrainedModel
from pregao.training.config import TrainConfig
from pregao.training.pipeline import Pipeline
from pregao.training.steps import build_data, fit, prepare, refit

TABLE = Path(__file__).with_suffix(".md")
FOLDS = {
    "2020": ("2020-01-02", "2020-12-31"),
    "2021": ("2021-01-04", "2021-12-31"),
    "2022": ("2022-01-03", "2022-12-31"),
    "2023 until 11-23": ("2023-01-02", "2023-11-23"),
}
"""The first and the last day of each test part."""

TRAIN = 0.88
"""Fraction of the earlier windows for training, as in experiment=ibovespa; the others select the epoch."""

PANEL = "ibovespa_har"
NETWORKS = {
    "version 0.1": "ibovespa_first_version",
    "LSTM on the panel model, pinball loss": "ibovespa_pinball",
    "LSTM on the panel model, log variance (default)": "ibovespa",
}

ENSEMBLE = {"version 0.1": " (`model=ensemble`)"}

Forecasts = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""By stock: actual closes [n, horizon] and quantiles [n, horizon, 7]."""


def configuration(prices: Path, stocks: list[str], experiment: str) -> TrainConfig:
    """The settings of an experiment on these stocks."""
    chosen = ["source=csv", f"source.path={prices}", f"experiment={experiment}", f"stocks=[{','.join(stocks)}]"]
    with initialize_config_dir(str(CONF), version_base=None):
        return parse(TrainConfig, compose("train", chosen))


def forecasts(config: TrainConfig, histories: Mapping[str, pd.DataFrame], first: str, last: str) -> Forecasts:
    """Train before the first day, and forecast from it on."""
    known = {stock: table[table["date"] <= last].reset_index(drop=True) for stock, table in histories.items()}
    known = {stock: table for stock, table in known.items() if (table["date"] < first).sum() > 130}
    data = build_data(config, known, partial(borders_before, test=np.datetime64(first, "ns"), train=TRAIN))
    with TemporaryDirectory() as folder:
        model, _ = fit(config, "SHARED", prepare(config, data.panel, Path(folder)), data)
    refit(model, data.panel)
    return {stock: _of_stock(model, data.panel, stock) for stock in data.panel.stocks}


def _of_stock(model: TrainedModel, panel: Panel, stock: str) -> tuple[np.ndarray, np.ndarray]:
    windows = panel.split.test.where(panel.split.test.stocks == stock)
    rolling = rolling_forecasts(model, panel.histories[stock], day(panel.borders[0]), stock)
    return windows.targets, rolling.at(windows.cutoffs).quantiles


def mean(one: Forecasts, other: Forecasts) -> Forecasts:
    """The mean of the quantiles' logarithms."""
    return {stock: (y, np.sqrt(quantiles * other[stock][1])) for stock, (y, quantiles) in one.items()}


def saved(one: Forecasts, other: Forecasts) -> float:
    """Percent of the other's pinball loss that one saves, mean over stocks."""
    ours, theirs = ({stock: pinball_by_window(*each).mean() for stock, each in made.items()} for made in (one, other))
    return float(np.mean([100 * (1 - ours[stock] / theirs[stock]) for stock in ours]))


def _line(name: str, row: list[float]) -> str:
    return f"| {name} | {' | '.join(f'{each:+.2f}' for each in (*row, np.mean(row)))} |"


def main(prices: Path) -> None:
    """Print and write the table."""
    logging.disable(logging.WARNING)
    stocks = sorted(path.stem for path in prices.glob("*.csv") if path.stem != "BVSP")
    with TemporaryDirectory() as folder:
        histories = Pipeline(configuration(prices, stocks, PANEL), Path(folder)).download()
    rows: dict[str, list[float]] = {}
    means: dict[str, list[float]] = {}
    for first, last in FOLDS.values():
        panel = forecasts(configuration(prices, stocks, PANEL), histories, first, last)
        for name, experiment in NETWORKS.items():
            made = forecasts(configuration(prices, stocks, experiment), histories, first, last)
            rows.setdefault(name, []).append(saved(made, panel))
            means.setdefault(name, []).append(saved(mean(made, panel), panel))
    lines = [f"| network | {' | '.join(FOLDS)} | mean |", "|---|" + "---:|" * (len(FOLDS) + 1)]
    for name, row in rows.items():
        lines += [_line(name, row), _line(f"mean of that and the panel model{ENSEMBLE.get(name, '')}", means[name])]
    note = (
        f"Percent of the panel model's pinball loss saved, mean over {len(stocks)} stocks, by test year; each model is "
        "trained on the days before that year, from 2015. Seed 6544. The default keeps the panel model's bands where "
        "training did not lower the validation loss.\n\n"
        f"Measured on: {machine()}. To repeat: `make bench PRICES=DIR`."
    )
    text = "\n".join(["# Choices on folds", "", *lines, "", note, ""])
    print(text)
    TABLE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
