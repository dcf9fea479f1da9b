"""Errors and bands on the published comparison's windows: python benchmarks/reference_split.py DIR [STOCK …].

DIR contains STOCK.csv files (source=csv). Trains the shared model on all stocks before 2023-11-24, then evaluates on
each stock from that day on: the shared model, a per-stock model, the shared model fine-tuned on the stock, the shared
model without each of its parts and with three seeds, and the published network on VALE3. Uses the steps of train.py,
without MLflow and without a promotion. Writes benchmarks/reference_split.md.
"""

import logging
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from comparison import later_starts, losses, saved
from hydra import compose, initialize_config_dir
from machine import machine

from pregao.cli.command import CONF
from pregao.config import parse
from pregao.data.panel import Panel
from pregao.data.windows import day
from pregao.errors import PregaoError
from pregao.evaluation.report import NAIVE, Evaluation, baseline_forecasts
from pregao.evaluation.significance import strongest
from pregao.forecasting.historical import rolling_forecasts
from pregao.models.trained import TrainedModel
from pregao.tracking.registry import Served
from pregao.training.config import TrainConfig
from pregao.training.pipeline import Pipeline
from pregao.training.steps import build_data, fit, prepare, refit
from pregao.training.warm_start import WarmStart

TABLE = Path(__file__).with_suffix(".md")
PUBLISHED = "| VALE3 | published model | – | 1.864 | 2.992 | 1.795 | 4.27 | 2.481 | -72.1 | – | – | – |"
HEAD = (
    "| stock | recipe | RMSE R$ | last close's | mean RMSE of the steps R$ | last close's | MAPE % | last close's "
    "| skill MAPE % | in 80 % | in 90 % | pinball saved % |"
)
GARCH = "GJR-GARCH"
COMPARED = (
    GARCH,
    "GJR-GARCH refitted",
    "GJR-GARCH + width",
    "EWMA",
    "EWMA + width",
    "log-HAR",
    "GAS-t",
    "quantile regression",
)
STRENGTH = "an interval that contains 0 proves nothing."
SHARED = {
    "shared": "ibovespa",
    "shared, `model=har`": "ibovespa_har",
    "shared, `model=har`, no market": "ibovespa_no_market",
    "shared, `model=har`, no ranges": "ibovespa_no_ranges",
    "shared, pinball loss": "ibovespa_pinball",
    "shared, `model=ensemble`": "ibovespa_ensemble",
    "shared, version 0.1": "ibovespa_first_version",
    "shared, version 0.1, no recurrence": "ibovespa_no_recurrence",
    "shared, version 0.1, no online width": "ibovespa_no_online_width",
}
"""Experiments by row."""

SEEDS = (6544, 6545, 6546)


def pipeline(prices: Path, folder: str, *overrides: str) -> Pipeline:
    """A training on the reference split."""
    chosen = ["source=csv", f"source.path={prices}", "end=2025-07-27", "evaluation.split=reference", *overrides]
    with initialize_config_dir(str(CONF), version_base=None):
        return Pipeline(parse(TrainConfig, compose("train", chosen)), Path(folder))


def train(run: Pipeline, shared: TrainedModel | None = None) -> tuple[TrainedModel, Panel, float]:
    """The model, warm-started from the shared one if given; its windows; the seconds in fit."""
    config, start = run.config, None
    if shared is not None:
        served = Served(shared, "SHARED", 0, "benchmark", run.folder)
        start = WarmStart(served, config.train.learning_rate_factor)
    data = build_data(config, run.download(), config.evaluation.rule, start, since=run.dates[0])
    training = prepare(config, data.panel, run.folder, start)
    model, fitted = fit(config, run.symbol.ticker, training, data)
    refit(model, data.panel)
    return model, data.panel, fitted.seconds


def against_garch(evaluation: Evaluation) -> float:
    """Pinball loss saved compared with GJR-GARCH, in percent; NaN if that could not be fitted."""
    scores = evaluation.scores
    return 100 * (1 - scores["model"]["pinball"] / scores[GARCH]["pinball"]) if GARCH in scores else float("nan")


class Evaluator:
    """Evaluates models; the baselines of a stock are fitted once, on 2020 until the test part."""

    def __init__(self) -> None:
        self.baselines: dict[str, dict[str, np.ndarray]] = {}

    def __call__(self, model: TrainedModel, panel: Panel, stock: str) -> Evaluation:
        """The model and the baselines on the stock's test windows."""
        windows = panel.split.test.where(panel.split.test.stocks == stock)
        table = panel.prices[stock]
        if stock not in self.baselines:
            recent = {stock: table[table["date"] >= "2020-01-01"]}
            self.baselines[stock] = baseline_forecasts(windows, recent, panel.borders[1], COMPARED)
        forecasts = (
            rolling_forecasts(model, panel.histories[stock], day(panel.borders[0]), stock).at(windows.cutoffs).quantiles
        )
        return Evaluation(stock, "R$", windows, {"model": forecasts, **self.baselines[stock]})


def row(stock: str, recipe: str, evaluation: Evaluation) -> str:
    """The table row of one stock and recipe."""
    model, naive = evaluation.scores["model"], evaluation.scores[NAIVE]
    cells = [f"{model['rmse']:.3f}", f"{naive['rmse']:.3f}"]
    cells += [f"{evaluation.rmse_mean_step(name):.3f}" for name in ("model", NAIVE)]
    cells += [f"{model['mape']:.3f}", f"{naive['mape']:.3f}"]
    cells += [f"{model['skill_mape']:+.2f}", f"{model['coverage_80']:.1f}", f"{model['coverage_90']:.1f}"]
    return f"| {stock} | {recipe} | {' | '.join(cells)} | {against_garch(evaluation):+.2f} |"


def summary(recipe: str, evaluations: list[Evaluation], forecaster: str = "model") -> str:
    """The table row of a recipe, or of a baseline, over many stocks."""
    scores = [e.scores[forecaster] for e in evaluations if forecaster in e.scores]
    skills, inside = ([each[name] for each in scores] for name in ("skill_mape", "coverage_90"))
    own = losses(evaluations, forecaster)
    cells = ["–" if name == forecaster else str(saved(own, losses(evaluations, name))) for name in COMPARED]
    return (
        f"| {recipe} | {len(skills)} | {statistics.median(skills):+.3f} | {min(skills):+.2f} | "
        f"{statistics.mean(inside):.1f} | {min(inside):.1f}–{max(inside):.1f} | {' | '.join(cells)} |"
    )


def by_year(evaluations: list[Evaluation], names: Sequence[str]) -> list[str]:
    """A table of the percent saved of some baselines by calendar year of the cutoffs."""
    own = losses(evaluations, "model")
    years = pd.DatetimeIndex(own.index).year
    lines = [f"| year | cutoffs | {' | '.join(f'saved against {name} %' for name in names)} |"]
    lines.append("|---|" + "---:|" * (len(names) + 1))
    for year in sorted(set(years)):
        cells = [str(saved(own[years == year], losses(evaluations, name)[years == year])) for name in names]
        lines.append(f"| {year} | {int((years == year).sum())} | {' | '.join(cells)} |")
    return lines


def _mean(parts: tuple[Evaluation, ...]) -> Evaluation:
    """The mean over seeds of the quantiles' logarithms."""
    logs = np.mean([np.log(part.forecasts["model"]) for part in parts], axis=0)
    return replace(parts[0], forecasts={**parts[0].forecasts, "model": np.exp(logs)})


def main(prices: Path, stocks: list[str]) -> None:
    """Print and write the tables."""
    logging.disable(logging.WARNING)  # each training would warn of the same missing sessions
    with TemporaryDirectory() as folder:
        lines = [HEAD, "|---|---|" + "---:|" * 10, PUBLISHED]

        def note(line: str) -> None:
            print(line, flush=True)
            lines.append(line)

        print("\n".join(lines), flush=True)
        evaluate = Evaluator()
        published = pipeline(prices, folder, "stock=VALE3", "experiment=reference", "evaluation.split=reference")
        model, panel, _ = train(published)
        note(row("VALE3", "`experiment=reference`", evaluate(model, panel, "VALE3")))
        found: dict[str, list[Evaluation]] = {}
        together = f"stocks=[{','.join(stocks)}]"
        shared, seconds = {}, []
        for name, experiment in SHARED.items():
            run = pipeline(prices, folder, f"experiment={experiment}", together)
            shared[name], panel, fit = train(run)
            if experiment == "ibovespa":
                seconds.append(fit)
            found[name] = [evaluate(shared[name], panel, stock) for stock in panel.stocks]
            print(summary(name, found[name]), flush=True)
        seeds = [found["shared"]]
        for seed in SEEDS[1:]:
            run = pipeline(prices, folder, "experiment=ibovespa", together, f"seed={seed}")
            model, panel, fit = train(run)
            seconds.append(fit)
            seeds.append([evaluate(model, panel, stock) for stock in panel.stocks])
        found["shared, mean of 3 seeds"] = [_mean(parts) for parts in zip(*seeds, strict=True)]
        for stock in stocks:
            for recipe, start in (("its own", None), ("fine-tuned", shared["shared"])):
                run = pipeline(prices, folder, f"stock={stock}", *(["experiment=no_pooling"] if start is None else []))
                try:
                    model, panel, _ = train(run, start)
                except PregaoError as error:
                    note(f"| {stock} | {recipe} | not evaluated: {error} |")
                    continue
                found.setdefault(recipe, []).append(evaluate(model, panel, stock))
                if start is not None:
                    note(row(stock, "default", found[recipe][-1]))
        against = " | ".join(f"saved against {name} %" for name in COMPARED)
        head = f"| recipe | stocks | median skill MAPE % | worst | in 90 %, mean | by stock | {against} |"
        sums = [head, "|---|" + "---:|" * (5 + len(COMPARED))]
        sums += [summary(name, parts) for name, parts in found.items()]
        sums += [summary(name, found["fine-tuned"], name) for name in COMPARED]
        default = found["fine-tuned"]
        best = strongest({name: losses(default, name).to_numpy() for name in COMPARED})
        sums += ["", f"Strongest baseline: {best}. The default, `fine-tuned`, by year of the cutoff; {STRENGTH}", ""]
        sums += by_year(default, list(dict.fromkeys((best, "log-HAR", "EWMA", GARCH))))
        print("\n".join(sums))
        note_text = (
            f"Training data: from 2015 for the shared model{later_starts(prices, stocks, '2015-01-01')}, from 2020 for "
            f"the per-stock and the fine-tuned ones{later_starts(prices, stocks, '2020-01-01')}; the baselines are "
            "fitted on the same closes from 2020 to 2023-11-23. The test windows have their targets in "
            "2023-11-24..2025-07-27; the bands of version 0.1 use the online width known at each cutoff. `saved`: "
            "pinball, mean over stocks, with a 95 % interval by a circular block bootstrap over dates (blocks of 20 "
            "sessions). GJR-GARCH is (1,1,1)-t, simulated by 4,000 antithetic paths; refitted: every half-year; + "
            "width: with the online width of version 0.1. `default` is the shared model "
            "fine-tuned on the stock. Seed 6544, except for the mean of three. Fit of the shared model: "
            f"{min(seconds):.0f}–{max(seconds):.0f} s per seed.\n\n"
            f"Measured on: {machine()}. To repeat: `make bench PRICES=DIR`."
        )
        text = ["# The reference split", "", *sums, "", *lines, "", note_text, ""]
        TABLE.write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    main(folder, sys.argv[2:] or sorted(path.stem for path in folder.glob("*.csv") if path.stem != "BVSP"))
