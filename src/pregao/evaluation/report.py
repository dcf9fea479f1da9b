"""The evaluation of a model next to its baselines on the same windows, as metrics, tables and files."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pregao.data.parallel import map_stocks
from pregao.data.windows import Windows, day
from pregao.evaluation.baselines import LastClose, baselines_named, stock_forecasts
from pregao.evaluation.metrics import pinball_by_window, score_table
from pregao.evaluation.significance import BLOCK, Losses, Saved, loss_saved, strongest
from pregao.quantiles import LEVELS, MEDIAN, bands

logger = logging.getLogger(__name__)

Quantiles = Float[np.ndarray, "n horizon 7"]

NAIVE = LastClose.name
"""The baseline that every skill is measured against."""

REPORTED = (NAIVE, "drift", "mean return", "EWMA", "GJR-GARCH", "log-HAR")
"""The baselines of a report: the naive ones, and those with the best bands that are quickly fitted."""

FORECASTS, SCORES, STEPS = FILES = ("evaluation.csv", "scores.csv", "steps.csv")

ERROR = "error"

MARK = "†"
"""In tables, after a baseline that some stocks lack."""

Scores = dict[str, dict[str, float]]
"""By forecaster, its metrics by name."""


@dataclass(frozen=True)
class EvaluationTables:
    """The tables in a run's folder.

    Attributes:
        forecasts: every forecast of the model, `stock cutoff date step y y_hat lower_80 … upper_90`, in the stock's
            currency.
        scores: metrics of the model and its baselines over all steps, one row per stock and forecaster.
        steps: metrics per step, with a column `step`.
    """

    forecasts: pd.DataFrame
    scores: pd.DataFrame
    steps: pd.DataFrame

    @classmethod
    def read(cls, folder: Path) -> "EvaluationTables":
        """Read the files that `save` wrote.

        Raises:
            OSError: a file is missing.
        """
        forecasts = pd.read_csv(folder / FORECASTS, parse_dates=["cutoff", "date"])
        return cls(forecasts, pd.read_csv(folder / SCORES), pd.read_csv(folder / STEPS))

    def save(self, folder: Path) -> None:
        """Write evaluation.csv, scores.csv and steps.csv."""
        for table, name in ((self.forecasts, FORECASTS), (self.scores, SCORES), (self.steps, STEPS)):
            table.to_csv(folder / name, index=False, date_format="%Y-%m-%d", float_format="%.6f")

    def of_stock(self, stock: str) -> "EvaluationTables":
        """The rows of one stock."""
        tables = (self.forecasts, self.scores, self.steps)
        return EvaluationTables(*(table[table["stock"] == stock].reset_index(drop=True) for table in tables))

    def at_step(self, step: int) -> pd.DataFrame:
        """The forecasts of one step, oldest first, with `error` = 100 (y − y_hat) / y, in percent."""
        rows = self.forecasts[self.forecasts["step"] == step].sort_values("date")
        return rows.assign(**{ERROR: 100 * (rows["y"] - rows["y_hat"]) / rows["y"]})


@dataclass(frozen=True)
class Evaluation:
    """Forecasts of the test set.

    Attributes:
        stock: the ticker, or SHARED for a panel.
        currency: of the errors.
        windows: the test windows, with the actual closes.
        forecasts: quantiles by forecaster, the model under `model`, the baselines under their names; NaN in the rows
            of a stock that a baseline cannot be fitted on.
        note: a reservation about the scores, shown with them.
    """

    stock: str
    currency: str
    windows: Windows
    forecasts: dict[str, Quantiles]
    note: str = ""

    @cached_property
    def scores(self) -> Scores:
        """By forecaster: errors, skill against last close in percent, coverage in percent, pinball."""
        return self._scores(slice(None), slice(None))

    @cached_property
    def step_scores(self) -> list[Scores]:
        """`scores` of each step alone."""
        return [self._scores(slice(None), slice(step, step + 1)) for step in range(self.windows.horizon)]

    @cached_property
    def strongest(self) -> str:
        """The baseline with the lowest pinball on these windows."""
        return strongest({name: losses for name, losses in self._losses.items() if name != "model"})

    @cached_property
    def saved(self) -> Saved:
        """Percent of the strongest baseline's pinball that the model saves, mean over the stocks that have both."""
        model, baseline = self._losses["model"], self._losses[self.strongest]
        return loss_saved(np.where(np.isnan(baseline), np.nan, model), baseline, max(BLOCK, 2 * self.windows.horizon))

    @cached_property
    def _losses(self) -> dict[str, Losses]:
        """Pinball per cutoff and stock, by forecaster."""
        index = [self.windows.cutoffs, self.windows.stocks]
        return {
            name: pd.Series(pinball_by_window(self.windows.targets, quantiles), index).unstack().to_numpy()
            for name, quantiles in self.forecasts.items()
        }

    def rmse_mean_step(self, forecaster: str) -> float:
        """The mean over steps of the RMSE of each step, as published results report it; `rmse` pools all errors."""
        return float(np.mean([scores[forecaster]["rmse"] for scores in self.step_scores]))

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The metrics of a run, by their names in MLflow and metrics.json."""
        model, naive = self.scores["model"], self.scores[NAIVE]
        overall = ("rmse", "mape", "mae")
        return {
            **{f"final_{name}": model[name] for name in overall},
            **{f"naive_{name}": naive[name] for name in (*overall, "pinball")},
            "final_rmse_mean_step": self.rmse_mean_step("model"),
            "naive_rmse_mean_step": self.rmse_mean_step(NAIVE),
            **{
                f"{name}_step_{step}": scores["model"][name]
                for name in ("rmse", "mape")
                for step, scores in enumerate(self.step_scores, start=1)
            },
            **{name: value for name, value in model.items() if name not in overall},
        }

    @cached_property
    def tables(self) -> EvaluationTables:
        """Scores per stock and per step, and every forecast of the model."""
        scores, steps = [], []
        for stock, place in self.windows.by_stock():
            found = self._scores(place, slice(None))
            scores += [{"stock": stock, "forecaster": name, **row} for name, row in found.items()]
            for step in range(self.windows.horizon):
                found = self._scores(place, slice(step, step + 1))
                steps += [{"stock": stock, "forecaster": name, "step": step + 1, **row} for name, row in found.items()]
        return EvaluationTables(self._frame(), pd.DataFrame(scores), pd.DataFrame(steps))

    def _frame(self) -> pd.DataFrame:
        """Every forecast of the model, one row per window and step."""
        n, horizon = self.windows.targets.shape
        quantiles = self.forecasts["model"].reshape(n * horizon, len(LEVELS))
        return pd.DataFrame(
            {
                "stock": np.repeat(self.windows.stocks, horizon),
                "cutoff": np.repeat(self.windows.cutoffs, horizon),
                "date": self.windows.dates.ravel(),
                "step": np.tile(np.arange(1, horizon + 1), n),
                "y": self.windows.targets.ravel(),
                "y_hat": quantiles[:, MEDIAN],
            }
            | bands(quantiles)
        )

    def terminal_table(self) -> Table:
        """One row per forecaster; at most 80 columns wide."""
        title = (
            f"{self.stock}: {len(self.windows)} test windows, {day(self.windows.dates[0, 0])} to "
            f"{day(self.windows.dates[-1, -1])}, errors over {self.windows.horizon} steps"
        )
        caption = (
            f"strongest baseline: {self.strongest}; of its pinball the model saves {self.saved} % · skill: MAPE "
            "reduction against last close · in 80 %, 90 %: closes inside the band, percent"
        )
        if self.note:
            caption = f"{self.note} · {caption}"
        missing = {name: self._missing(name) for name in self.scores}
        partly = {name: f" {MARK}" if stocks else "" for name, stocks in missing.items()}
        if lacking := sorted(set().union(*missing.values())):
            caption += f" · {MARK} without {', '.join(lacking)}"
        errors = (f"RMSE {self.currency}", f"MAE {self.currency}", "MAPE %", "skill %")
        table = narrow_table(title, caption, [*errors, "in 80 %", "in 90 %", "pinball"])
        for name, row in self.scores.items():
            skill_mape = f"{row['skill_mape']:+.2f}" if math.isfinite(row["skill_mape"]) else "–"
            cells = [f"{row['rmse']:.3f}", f"{row['mae']:.3f}", f"{row['mape']:.3f}", skill_mape]
            cells += [f"{row['coverage_80']:.1f}", f"{row['coverage_90']:.1f}", f"{row['pinball']:.3f}"]
            table.add_row(name + partly[name], *cells, style="bold" if name == "model" else None)
        return table

    def _missing(self, name: str) -> list[str]:
        """The stocks that a baseline could not be fitted on."""
        forecast = self.forecasts[name]
        return [stock for stock, place in self.windows.by_stock() if np.isnan(forecast[place.start, 0, 0])]

    def _scores(self, place: slice, steps: slice) -> Scores:
        y, last_close = self.windows.targets[place, steps], self.windows.inputs[place, -1]
        scores: Scores = {}
        for name, forecast in self.forecasts.items():
            quantiles = forecast[place, steps]
            known = np.isfinite(quantiles[:, 0, 0])
            if known.all():  # a mask would copy the forecasts
                scores |= score_table(y, {name: quantiles}, last_close)
            elif known.any():
                scores |= score_table(y[known], {name: quantiles[known]}, last_close[known])
        return scores


def narrow_table(title: str, caption: str, figures: Sequence[str], edge: bool = True) -> Table:
    """An empty terminal table: a column of names, and columns of numbers."""
    table = Table(title=title, caption=caption, box=SIMPLE_HEAD, pad_edge=False, show_edge=edge, collapse_padding=True)
    table.title_justify = table.caption_justify = "left"
    table.add_column("", no_wrap=True)
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def baseline_forecasts(
    windows: Windows, prices: Mapping[str, pd.DataFrame], until: np.datetime64, names: Sequence[str] = REPORTED
) -> dict[str, Quantiles]:
    """Quantiles of the baselines for these windows, each fitted on a stock's closes before `until`.

    A baseline that cannot be fitted on a stock (such as one whose price never changes) is left out of that stock, with
    a warning: its rows are NaN. A baseline that no stock has is left out. The last close is always there.
    """
    names = list(dict.fromkeys((NAIVE, *names)))
    baselines, arguments = baselines_named(names, "evaluation.baselines"), []
    for stock, place in windows.by_stock():
        table = prices[stock]
        past = table[table["date"] < until]
        arguments.append((baselines, stock, past, table, windows.cutoffs[place], windows.horizon))
    parts = map_stocks(stock_forecasts, arguments)
    found: dict[str, Quantiles] = {}
    for (stock, place), (forecasts, refused) in zip(windows.by_stock(), parts, strict=True):
        for name, error in refused.items():
            logger.warning("%s: %s is left out. %s", stock, name, error)
        for name, quantiles in forecasts.items():
            unknown = np.full((len(windows), *quantiles.shape[1:]), np.nan)
            found.setdefault(name, unknown)[place] = quantiles
    return {name: found[name] for name in names if name in found}
