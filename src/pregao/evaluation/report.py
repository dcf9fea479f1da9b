"""A judged forecast: its figures beside the baselines' on the same windows, as metrics, tables and files."""

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

from pregao.data.windows import Windows, day
from pregao.errors import PregaoError
from pregao.evaluation.baselines import BASELINES, LastClose
from pregao.evaluation.metrics import point_scores
from pregao.evaluation.scores import coverage, pinball, skill
from pregao.quantiles import LEVELS, MEDIAN, at, bands

logger = logging.getLogger(__name__)

Quantiles = Float[np.ndarray, "n horizon 7"]

NAIVE = LastClose.name
"""The baseline that every skill is measured against."""

BESIDE = (NAIVE, "drift", "mean return", "EWMA", "GJR-GARCH")
"""The baselines of every report: the naive ones, and the two whose bands are hardest to beat."""


FIGURES = ("rmse", "mae", "mape", "skill_rmse", "skill_mape", "coverage_80", "coverage_90", "pinball")
"""Those of a forecaster that one line of a table holds."""


@dataclass(frozen=True)
class Evaluation:
    """Forecasts of the judged windows.

    Attributes:
        stock: the ticker, or SHARED for a panel.
        currency: of the errors.
        windows: what the forecasts saw, and what came.
        forecasts: quantiles by forecaster, the model under `model`, the baselines under their names.
    """

    stock: str
    currency: str
    windows: Windows
    forecasts: dict[str, Quantiles]

    @cached_property
    def scores(self) -> dict[str, dict[str, float]]:
        """By forecaster: errors, skill against last close in percent, coverage in percent, pinball."""
        return self._scores(slice(None))

    @cached_property
    def by_stock(self) -> pd.DataFrame:
        """`stock forecaster rmse mae mape skill_rmse skill_mape coverage_80 coverage_90 pinball`, a row each."""
        return pd.DataFrame(
            {"stock": stock, "forecaster": name} | {figure: row[figure] for figure in FIGURES}
            for stock, place in self.windows.by_stock()
            for name, row in self._scores(place).items()
        )

    @cached_property
    def by_step(self) -> pd.DataFrame:
        """The same with a column `step`, a row each."""
        rows = []
        for stock, place in self.windows.by_stock():
            for step in range(1, self.windows.horizon + 1):
                scores = self._scores(place, slice(step - 1, step))
                rows += [
                    {"stock": stock, "forecaster": name, "step": step} | {figure: row[figure] for figure in FIGURES}
                    for name, row in scores.items()
                ]
        return pd.DataFrame(rows)

    @property
    def metrics(self) -> dict[str, float]:
        """The figures of a run under the names that MLflow and metrics.json promise."""
        model, naive = self.scores["model"], self.scores[NAIVE]
        overall = ("rmse", "mape", "mae")
        return {
            **{f"final_{name}": model[name] for name in overall},
            **{f"naive_{name}": naive[name] for name in (*overall, "pinball")},
            **{name: value for name, value in model.items() if name not in overall},
        }

    def frame(self) -> pd.DataFrame:
        """Every forecast of the model, tidy: one row a window and step."""
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

    def save(self, folder: Path) -> None:
        """Write evaluation.csv, scores.csv and steps.csv."""
        self.frame().to_csv(folder / "evaluation.csv", index=False, date_format="%Y-%m-%d", float_format="%.6f")
        self.by_stock.to_csv(folder / "scores.csv", index=False, float_format="%.6f")
        self.by_step.to_csv(folder / "steps.csv", index=False, float_format="%.6f")

    def terminal_table(self) -> Table:
        """For a person: forecasters as rows, the windows they were judged on in the title."""
        title = (
            f"{self.stock}: {len(self.windows)} judged windows, {day(self.windows.dates[0, 0])} to "
            f"{day(self.windows.dates[-1, -1])}, errors over {self.windows.horizon} steps"
        )
        caption = "skill: MAPE saved against last close · in 80 %, 90 %: percent of the closes inside the band"
        # Narrow enough for 80 columns.
        table = Table(title=title, caption=caption, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        table.title_justify = table.caption_justify = "left"
        table.add_column("", no_wrap=True)
        errors = (f"RMSE {self.currency}", f"MAE {self.currency}", "MAPE %", "skill %")
        for name in (*errors, "in 80 %", "in 90 %", "pinball"):
            table.add_column(name, justify="right", no_wrap=True)
        for name, row in self.scores.items():
            skill_mape = f"{row['skill_mape']:+.2f}" if math.isfinite(row["skill_mape"]) else "–"
            cells = [f"{row['rmse']:.3f}", f"{row['mae']:.3f}", f"{row['mape']:.3f}", skill_mape]
            cells += [f"{row['coverage_80']:.1f}", f"{row['coverage_90']:.1f}", f"{row['pinball']:.3f}"]
            table.add_row(name, *cells, style="bold" if name == "model" else None)
        return table

    def _scores(self, place: slice, steps: slice = slice(None)) -> dict[str, dict[str, float]]:
        y, last = self.windows.targets[place, steps], self.windows.inputs[place, -1]
        scores = {}
        for name, forecast in self.forecasts.items():
            quantiles = forecast[place, steps]
            scores[name] = point_scores(y, quantiles[..., MEDIAN]) | {
                "coverage_80": coverage(y, at(quantiles, 0.1), at(quantiles, 0.9)),
                "coverage_90": coverage(y, at(quantiles, 0.05), at(quantiles, 0.95)),
                "pinball": pinball(y, quantiles, last, np.array(LEVELS)),
            }
        naive = scores[NAIVE]
        for row in scores.values():
            row |= {f"skill_{error}": skill(row[error], naive[error]) for error in ("rmse", "mape")}
        return scores


def baseline_forecasts(
    windows: Windows, prices: Mapping[str, pd.DataFrame], until: np.datetime64, names: Sequence[str] = BESIDE
) -> dict[str, Quantiles]:
    """Quantiles of the baselines for these windows, each fitted on a stock's closes before a date.

    One that refuses a stock (a price that never moves has no variance to estimate) is left out, and the log says why.
    """
    found = {}
    for name in names:
        try:
            parts = [_baseline(name, windows.where(place), prices[stock], until) for stock, place in windows.by_stock()]
        except PregaoError as error:
            logger.warning("%s", error)
            continue
        found[name] = np.concatenate(parts)
    return found


def _baseline(name: str, windows: Windows, prices: pd.DataFrame, until: np.datetime64) -> Quantiles:
    days, closes = prices["date"].to_numpy("datetime64[ns]"), prices["close"].to_numpy(np.float64)
    origins = np.searchsorted(days, windows.cutoffs)
    return BASELINES[name]().fit(closes[days < until]).quantiles(closes, origins, windows.horizon)
