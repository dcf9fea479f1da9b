"""A judged forecast: its figures beside the baselines' on the same windows, as metrics, tables and files."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pregao.evaluation import baselines
from pregao.evaluation.baselines import Closes, Inputs
from pregao.evaluation.intervals import symmetric_offsets
from pregao.evaluation.metrics import coverage, pinball, point_scores, skill
from pregao.quantiles import LEVELS, MEDIAN, at, bands
from pregao.windows import Split, Windows, day

Quantiles = Float[np.ndarray, "n horizon 7"]

NAIVE = "last close"
"""The baseline that every skill is measured against."""


@dataclass(frozen=True)
class Evaluation:
    """Forecasts of the judged windows.

    Attributes:
        stock: the ticker.
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
        scores = {name: self._scores(quantiles) for name, quantiles in self.forecasts.items()}
        naive = scores[NAIVE]
        for row in scores.values():
            row |= {f"skill_{error}": skill(row[error], naive[error]) for error in ("rmse", "mape")}
        return scores

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
                "stock": self.stock,
                "cutoff": np.repeat(self.windows.cutoffs, horizon),
                "date": self.windows.dates.ravel(),
                "step": np.tile(np.arange(1, horizon + 1), n),
                "y": self.windows.targets.ravel(),
                "y_hat": quantiles[:, MEDIAN],
            }
            | bands(quantiles)
        )

    def save(self, folder: Path) -> None:
        """Write evaluation.csv."""
        self.frame().to_csv(folder / "evaluation.csv", index=False, date_format="%Y-%m-%d", float_format="%.6f")

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

    def _scores(self, quantiles: Quantiles) -> dict[str, float]:
        y, last = self.windows.targets, self.windows.inputs[:, -1]
        return point_scores(y, quantiles[..., MEDIAN]) | {
            "coverage_80": coverage(y, at(quantiles, 0.1), at(quantiles, 0.9)),
            "coverage_90": coverage(y, at(quantiles, 0.05), at(quantiles, 0.95)),
            "pinball": pinball(y, quantiles, last, np.array(LEVELS)),
        }


def baseline_forecasts(split: Split) -> dict[str, Quantiles]:
    """Last close, drift and mean return on the test part, with bands from their own validation residuals."""
    horizon = split.test.horizon
    daily = np.log(split.train.inputs[:, 1:] / split.train.inputs[:, :-1]).mean()
    points: dict[str, Callable[[Inputs, int], Closes]] = {
        NAIVE: baselines.last_close,
        "drift": baselines.drift,
        "mean return": partial(baselines.mean_return, daily=daily),
    }
    known, fitted, judged = split.validation.targets, split.validation.inputs, split.test.inputs
    return {name: _banded(point(judged, horizon), known, point(fitted, horizon)) for name, point in points.items()}


def _banded(
    point: Float[np.ndarray, "n horizon"], known: Float[np.ndarray, "v horizon"], fitted: Float[np.ndarray, "v horizon"]
) -> Quantiles:
    root_step = np.sqrt(np.arange(1, point.shape[1] + 1))
    offsets = symmetric_offsets(np.log(known / fitted) / root_step, LEVELS)
    quantiles: Quantiles = point[..., None] * np.exp(offsets * root_step[:, None])
    return quantiles
