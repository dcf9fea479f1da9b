"""Stocks with a short history, forecast from a panel of the others: python benchmarks/new_listings.py DIR.

DIR contains STOCK.csv files (source=csv). For each stock the panel model (experiment=ibovespa_har) is trained on the
other stocks before 2023-11-24. The stock shows only its last sessions before that day: the panel model fits intercept
and scale on them, and the baselines are fitted on the same sessions. All are evaluated on the windows from that day on.
Writes benchmarks/new_listings.md.
"""

import logging
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from comparison import later_starts, losses, saved
from machine import machine
from reference_split import pipeline

from pregao.data.panel import Panel
from pregao.data.variance import SPANS
from pregao.data.windows import REFERENCE_BORDER, day
from pregao.errors import PregaoError
from pregao.evaluation.baselines import LogHar
from pregao.evaluation.baselines.base import History
from pregao.evaluation.report import Evaluation, baseline_forecasts
from pregao.forecasting.historical import rolling_forecasts
from pregao.models.trained import TrainedModel
from pregao.tracking.registry import Served
from pregao.training.pipeline import Pipeline
from pregao.training.steps import build_data, fit, prepare, refit
from pregao.training.warm_start import WarmStart

TABLE = Path(__file__).with_suffix(".md")
SESSIONS = (250, 500, 1000)
START = "2015-01-01"
WHOLE = "log-HAR, whole means"
COMPARED = ("log-HAR", WHOLE, "EWMA", "GJR-GARCH")
HEAD = "| sessions before 2023-11-24, at most | stocks | in 90 %, mean | by stock |"


class WholeMeansLogHar(LogHar):
    """log-HAR that is fitted only on sessions with a whole half-year before them."""

    name = WHOLE

    @staticmethod
    def at(measures: Any, fit: History, history: History, origins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # noqa: ANN401
        """The measures, unknown in the first half-year of the fit part."""
        past, now = LogHar.at(measures, fit, history, origins)
        past[: SPANS[-1] - 1] = np.nan
        return past, now


def shown(prices: pd.DataFrame, sessions: int) -> pd.DataFrame:
    """The last sessions before the border, and all from the border on."""
    first = int((prices["date"] < REFERENCE_BORDER).sum()) - sessions
    return prices.iloc[max(first, 0) :].reset_index(drop=True)


def fitted(
    run: Pipeline, prices: Mapping[str, pd.DataFrame], start: WarmStart | None = None
) -> tuple[TrainedModel, Panel]:
    """The panel model of these histories, and their windows."""
    config = run.config
    data = build_data(config, prices, config.evaluation.rule, start)
    model, _ = fit(config, run.symbol.ticker, prepare(config, data.panel, run.folder, start), data)
    refit(model, data.panel)
    return model, data.panel


def evaluated(run: Pipeline, prices: pd.DataFrame, start: WarmStart) -> Evaluation:
    """The stock on the panel's model and the baselines, all fitted on this history before the border."""
    stock = run.symbol.ticker
    model, panel = fitted(run, {stock: prices}, start)
    windows = panel.split.test
    rolling = rolling_forecasts(model, prices, day(panel.borders[0]), stock).at(windows.cutoffs)
    baselines = baseline_forecasts(windows, panel.prices, panel.borders[1], COMPARED)
    return Evaluation(stock, "R$", windows, {"model": rolling.quantiles, **baselines})


def row(sessions: int, evaluations: list[Evaluation]) -> str:
    """The table row of one length of history."""
    inside, own = [each.scores["model"]["coverage_90"] for each in evaluations], losses(evaluations, "model")
    cells = [str(saved(own, losses(evaluations, name))) for name in COMPARED]
    return (
        f"| {sessions:,} | {len(evaluations)} | {statistics.mean(inside):.1f} | {min(inside):.1f}–{max(inside):.1f} | "
        f"{' | '.join(cells)} |"
    )


def main(prices: Path, stocks: list[str]) -> None:
    """Print and write the table."""
    logging.disable(logging.WARNING)  # each training would warn of the same missing sessions
    found: dict[int, list[Evaluation]] = {sessions: [] for sessions in SESSIONS}
    with TemporaryDirectory() as folder:
        panel = pipeline(prices, folder, "experiment=ibovespa_har", f"stocks=[{','.join(stocks)}]")
        histories = {name: table[table["date"] >= START] for name, table in panel.download().items()}
        for stock, history in histories.items():
            shared, _ = fitted(panel, {name: table for name, table in histories.items() if name != stock})
            run = pipeline(prices, folder, f"stock={stock}", "model=har")
            start = WarmStart(Served(shared, "SHARED", 0, "benchmark", run.folder), 1.0)
            for sessions, evaluations in found.items():
                try:
                    evaluations.append(evaluated(run, shown(history, sessions), start))
                except PregaoError as error:
                    print(f"{stock}, {sessions} sessions: not evaluated: {error}", flush=True)
            print(stock, flush=True)
    lines = [f"{HEAD}{''.join(f' saved against {name} % |' for name in COMPARED)}"]
    lines += ["|---:|" + "---:|" * (3 + len(COMPARED)), *(row(*each) for each in found.items())]
    print("\n".join(lines))
    note = (
        "The panel model is trained on the other stocks (leave-one-out, from 2015"
        f"{later_starts(prices, stocks, START)}, targets before 2023-11-24). Intercept and scale of the stock "
        "are fitted on its own sessions, and the baselines on the same sessions. Test windows have their targets in "
        f"2023-11-24..2025-07-27. `{WHOLE}` leaves out the first half-year of its fit part; log-HAR, as in the other "
        "tables, uses a mean once a quarter of its span is known: more sessions to fit. `saved`: pinball, mean over "
        "stocks, with a 95 % interval by a circular block bootstrap over dates (blocks of 20 sessions).\n\n"
        f"Measured on: {machine()}. To repeat: `make bench PRICES=DIR`."
    )
    TABLE.write_text("\n".join(["# Stocks with a short history", "", *lines, "", note, ""]), encoding="utf-8")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    main(folder, sys.argv[2:] or sorted(path.stem for path in folder.glob("*.csv") if path.stem != "BVSP"))
