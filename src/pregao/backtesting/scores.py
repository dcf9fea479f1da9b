"""Scores of a backtest, from its table of forecasts: metrics, savings against baselines, tests of the difference."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float
from rich.table import Table

from pregao.data.windows import day
from pregao.errors import IncomparableLosses
from pregao.evaluation.metrics import pinball_by_window, score_table
from pregao.evaluation.report import NAIVE, narrow_table
from pregao.evaluation.significance import panel_diebold_mariano
from pregao.quantiles import LEVELS, MEDIAN

QUANTILES = [f"q{round(100 * level):02d}" for level in LEVELS]
COLUMNS = ["stock", "model", "cutoff", "date", "step", "y", "y_hat", *QUANTILES]
"""Of forecasts.parquet: one row a stock, model, cutoff and step; prices in the stock's currency."""

GARCH = "GJR-GARCH"
ALL = "all"


@dataclass(frozen=True)
class AlignedForecasts:
    """One model's forecasts of the windows that every model has, in the order of stock and cutoff."""

    stocks: np.ndarray
    cutoffs: np.ndarray
    y: Float[np.ndarray, "n horizon"]
    quantiles: Float[np.ndarray, "n horizon 7"]

    @cached_property
    def losses(self) -> Float[np.ndarray, " n"]:
        """Pinball loss by window."""
        return pinball_by_window(self.y, self.quantiles)

    def by_origin(self) -> Float[np.ndarray, "origins stocks"]:
        """Pinball loss, NaN where a stock has no window at an origin."""
        table = pd.DataFrame({"cutoff": self.cutoffs, "stock": self.stocks, "loss": self.losses})
        wide: np.ndarray = table.pivot(index="cutoff", columns="stock", values="loss").to_numpy()
        return wide

    def where(self, rows: np.ndarray | slice, steps: slice = slice(None)) -> "AlignedForecasts":
        """The forecasts of some windows and steps."""
        return AlignedForecasts(self.stocks[rows], self.cutoffs[rows], self.y[rows, steps], self.quantiles[rows, steps])


@dataclass(frozen=True)
class WalkForward:
    """A backtest's forecasts.

    Attributes:
        forecasts: columns `COLUMNS`.
        currency: of the errors; None where stocks have several.
        failures: what could not be fitted or forecast, a sentence each.
    """

    forecasts: pd.DataFrame
    currency: str | None
    failures: tuple[str, ...] = ()

    @cached_property
    def models(self) -> list[str]:
        """In the order that they were asked for."""
        return list(dict.fromkeys(self.forecasts["model"]))

    @cached_property
    def aligned(self) -> dict[str, AlignedForecasts]:
        """By model, on the windows that all models have, so that their scores compare."""
        found = self.forecasts
        horizon = int(found["step"].max())
        counts = found.groupby(["stock", "cutoff"], observed=True)["model"].transform("size")
        common = found[counts == horizon * len(self.models)].sort_values(["model", "stock", "cutoff", "step"])
        aligned = {}
        for model in self.models:
            rows = common[common["model"] == model]
            firsts = rows.iloc[::horizon]
            y = rows["y"].to_numpy().reshape(-1, horizon)
            quantiles = rows[QUANTILES].to_numpy().reshape(-1, horizon, len(LEVELS))
            stocks, cutoffs = firsts["stock"].to_numpy(), firsts["cutoff"].to_numpy()
            aligned[model] = AlignedForecasts(stocks, cutoffs, y, quantiles)
        return aligned

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row per stock (and for all of them), model and step (and for all of them).

        Errors are in the stock's currency (none over stocks of several) and in percent. `pinball` is of the log return,
        × 1000; `against_naive` and `against_garch` say how much less of it there is, in percent, `p_naive` and
        `p_garch` how likely such a difference is by chance (Diebold–Mariano, HAC; over all steps).
        """
        first = self.aligned[self.models[0]]
        by_step = [self._rows(ALL, step) for step in (ALL, *range(1, first.y.shape[1] + 1))]
        rows = [row for of_model in zip(*by_step, strict=True) for row in of_model]
        stocks = sorted(set(first.stocks))
        if len(stocks) > 1:
            rows += [row for stock in stocks for row in self._rows(stock, ALL)]
        return pd.DataFrame(rows)

    def terminal_table(self) -> Table:
        """Models as rows, the windows of the scores in the title."""
        first = self.aligned[self.models[0]]
        count = len(set(first.stocks))
        stocks = f"{count} stocks" if count > 1 else str(first.stocks[0])
        title = (
            f"{stocks}: {len(first.y)} forecasts, made {day(first.cutoffs.min())} to {day(first.cutoffs.max())}, "
            f"each of {first.y.shape[1]} steps"
        )
        of_each = ", from the stock with the fewest to that with the most" if count > 1 else ""
        caption = (
            f"skill: MAPE saved against last close · 80 %, 90 %: closes inside the band{of_each} · "
            f"% less: pinball saved against {GARCH} · p: of that difference by chance (Diebold–Mariano)"
        )
        figures = ["MAPE %", "skill %", "80 %", "90 %", *["each"] * (count > 1), "pinball", "% less", "p"]
        table = narrow_table(title, caption, figures, edge=False)
        scores = self.scores
        overall = scores[(scores["stock"] == ALL) & (scores["step"] == ALL)]
        for row in overall.to_dict("records"):
            own = scores[(scores["model"] == row["model"]) & (scores["stock"] != ALL)]["coverage_90"]
            cells = [f"{row['mape']:.3f}", _signed(row["skill_mape"]), f"{row['coverage_80']:.1f}"]
            cells += [f"{row['coverage_90']:.1f}", *[f"{own.min():.0f}–{own.max():.0f}"] * (count > 1)]
            cells += [f"{row['pinball']:.3f}"]
            cells += [_signed(row["against_garch"]), "–" if np.isnan(row["p_garch"]) else f"{row['p_garch']:.2f}"]
            table.add_row(str(row["model"]), *cells)
        return table

    def _rows(self, stock: str, step: int | str) -> list[dict[str, object]]:
        """One row per model."""
        rows = slice(None) if stock == ALL else self.aligned[self.models[0]].stocks == stock
        steps = slice(None) if step == ALL else slice(int(step) - 1, int(step))
        parts = {model: found.where(rows, steps) for model, found in self.aligned.items()}
        y = parts[self.models[0]].y
        last_close = parts[NAIVE].quantiles[:, 0, MEDIAN] if NAIVE in parts else None
        found: list[dict[str, object]] = []
        for model, scores in score_table(y, {name: part.quantiles for name, part in parts.items()}, last_close).items():
            del scores["skill_rmse"]  # the stocks of the highest prices would decide it
            if stock == ALL and self.currency is None:
                scores["rmse"] = scores["mae"] = np.nan
            about = {"stock": stock, "model": model, "step": step, "windows": len(y)}
            found.append({**about, **scores, **_against(parts, model, step == ALL)})
        return found


def _against(parts: Mapping[str, AlignedForecasts], model: str, tested: bool) -> dict[str, float]:
    """Pinball saved against last close and GJR-GARCH, in percent, and the p-values of these differences."""
    found = {}
    for name, column in ((NAIVE, "naive"), (GARCH, "garch")):
        both = (parts[model], parts[name]) if name in parts else None
        # The mean over stocks of what is saved on each: a stock that moves more counts no more for it.
        found[f"against_{column}"] = saved(*both) if both else np.nan
        found[f"p_{column}"] = _p_value(*both) if both and tested and name != model else np.nan
    return found


def saved(own: AlignedForecasts, other: AlignedForecasts) -> float:
    """Percent of the other's pinball; of many stocks the mean, without those on which the other lost nothing."""
    losses = pd.DataFrame({"stock": own.stocks, "own": own.losses, "other": other.losses})
    means = losses.groupby("stock", observed=True).mean()
    ratios = (means["own"] / means["other"])[means["other"] > 0]
    return float(100 * (1 - ratios).mean())


def _p_value(own: AlignedForecasts, other: AlignedForecasts) -> float:
    try:
        return panel_diebold_mariano(own.by_origin(), other.by_origin(), own.y.shape[1]).p_value
    except IncomparableLosses:  # too few origins for a test
        return float("nan")


def _signed(figure: float) -> str:
    return "–" if np.isnan(figure) else f"{figure:+.2f}"
