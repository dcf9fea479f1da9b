"""Scores of a backtest: metrics, pinball saved against baselines with intervals, and significance tests."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from rich.table import Table

from pregao.data.windows import REFERENCE_BORDER, day
from pregao.errors import IncomparableLosses
from pregao.evaluation.metrics import coverage, pinball_by_window, score_table
from pregao.evaluation.report import NAIVE, narrow_table
from pregao.evaluation.significance import BLOCK, UNKNOWN, Saved, diebold_mariano, loss_saved, strongest
from pregao.quantiles import LEVELS, MEDIAN, at

QUANTILES = [f"q{round(100 * level):02d}" for level in LEVELS]
COLUMNS = ["stock", "model", "cutoff", "date", "step", "y", "y_hat", *QUANTILES]
"""Columns of forecasts.parquet: one row per stock, model, cutoff and step; prices in the stock's currency."""

BAND_ENDS = [
    "" if level == 0.5 else f"-{'lo' if level < 0.5 else 'hi'}-{round(100 * abs(2 * level - 1))}" for level in LEVELS
]
"""Of the columns of `cross_validation`, by quantile level."""

GARCH = "GJR-GARCH"
TESTED = {NAIVE: "naive", GARCH: "garch"}
"""The names of these baselines in columns."""

ALL = "all"
NETWORKS = ("shared", "fine-tuned", "own")
"""The models that are not baselines."""


@dataclass(frozen=True)
class AlignedForecasts:
    """One model's forecasts of the windows that all models have, sorted by stock and cutoff."""

    stocks: np.ndarray
    cutoffs: np.ndarray
    dates: np.ndarray
    y: Float[np.ndarray, "n horizon"]
    quantiles: Float[np.ndarray, "n horizon 7"]

    @cached_property
    def losses(self) -> Float[np.ndarray, " n"]:
        """Pinball loss per window."""
        return pinball_by_window(self.y, self.quantiles)

    @cached_property
    def by_origin(self) -> Float[np.ndarray, "origins stocks"]:
        """Pinball loss per origin and stock; NaN where a stock has no window."""
        table = pd.DataFrame({"cutoff": self.cutoffs, "stock": self.stocks, "loss": self.losses})
        wide: np.ndarray = table.pivot(index="cutoff", columns="stock", values="loss").to_numpy()
        return wide

    def where(self, rows: np.ndarray | slice, steps: slice = slice(None)) -> "AlignedForecasts":
        """The forecasts of some windows and steps."""
        by_step = (each[rows, steps] for each in (self.dates, self.y, self.quantiles))
        return AlignedForecasts(self.stocks[rows], self.cutoffs[rows], *by_step)


@dataclass(frozen=True)
class WalkForward:
    """A backtest's forecasts.

    Attributes:
        forecasts: table with the columns `COLUMNS`.
        currency: currency of the errors; None if the stocks have several.
        failures: one sentence per fit or forecast that failed.
    """

    forecasts: pd.DataFrame
    currency: str | None
    failures: tuple[str, ...] = ()

    @cached_property
    def models(self) -> list[str]:
        """The models in the order of the forecasts."""
        return list(dict.fromkeys(self.forecasts["model"]))

    @cached_property
    def aligned(self) -> dict[str, AlignedForecasts]:
        """The forecasts by model, on the windows that all models have, so that their scores are comparable."""
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
            dates = rows["date"].to_numpy().reshape(-1, horizon)
            aligned[model] = AlignedForecasts(stocks, cutoffs, dates, y, quantiles)
        return aligned

    @cached_property
    def strongest(self) -> str | None:
        """The baseline with the lowest pinball on these windows; None without baselines."""
        losses = {name: part.by_origin for name, part in self.aligned.items() if name not in NETWORKS}
        return strongest(losses) if losses else None

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row per stock, model and step; `all` is the mean over stocks or steps.

        `rmse` and `mae` are in the stock's currency (NaN over several currencies), `mape` in percent. `pinball` is of
        the log return, × 1000; `against_naive`, `against_garch` and `against_strongest` are the percent saved of it,
        with `_low` and `_high` the 95 % interval over all stocks and steps. `p_naive` and `p_garch` are the p-values of
        the difference for one stock (Diebold–Mariano, HAC; over all steps).
        """
        first = self.aligned[self.models[0]]
        by_step = [self._rows(ALL, step) for step in (ALL, *range(1, first.y.shape[1] + 1))]
        rows = [row for of_model in zip(*by_step, strict=True) for row in of_model]
        stocks = sorted(set(first.stocks))
        if len(stocks) > 1:
            rows += [row for stock in stocks for row in self._rows(stock, ALL)]
        return pd.DataFrame(rows)

    def cross_validation(self) -> pd.DataFrame:
        """The forecasts in the shape of other libraries, such as utilsforecast: one row per stock, cutoff and session.

        The columns `unique_id ds cutoff y`, and for each model its median under its name, and its other quantiles as
        `NAME-lo-90 … NAME-hi-90`, the ends of the central bands.
        """
        first = self.aligned[self.models[0]]
        n, horizon = first.y.shape
        table = {
            "unique_id": np.repeat(first.stocks, horizon),
            "ds": first.dates.ravel(),
            "cutoff": np.repeat(first.cutoffs, horizon),
            "y": first.y.ravel(),
        }
        for model, part in self.aligned.items():
            flat = part.quantiles.reshape(n * horizon, len(LEVELS))
            table |= {f"{model}{end}": flat[:, place] for place, end in enumerate(BAND_ENDS)}
        return pd.DataFrame(table)

    @cached_property
    def periods(self) -> pd.DataFrame:
        """One row per model and calendar year of the cutoffs, and before and from the reference border.

        `coverage_90` is in percent; the percent saved of the pinball has intervals as in `scores`.
        """
        days = pd.DatetimeIndex(self.aligned[self.models[0]].cutoffs)
        masks = {str(year): days.year == year for year in sorted(set(days.year))}
        border = REFERENCE_BORDER.date()
        masks |= {f"before {border}": days < REFERENCE_BORDER, f"from {border}": days >= REFERENCE_BORDER}
        rows = []
        for period, mask in masks.items():
            parts = {model: found.where(mask) for model, found in self.aligned.items()} if mask.any() else {}
            for model, part in parts.items():
                about = {"period": period, "model": model, "windows": len(part.y)}
                held = coverage(part.y, at(part.quantiles, 0.05), at(part.quantiles, 0.95))
                scores = {"coverage_90": held, "pinball": float(part.losses.mean())}
                rows.append({**about, **scores, **self._against(parts, model)})
        return pd.DataFrame(rows)

    def terminal_tables(self) -> list[Table]:
        """A table with one row per model, and one of the networks by period."""
        compared = self.strongest and not set(NETWORKS).isdisjoint(self.models)
        return [self._model_table(), *([self._period_table()] if compared else [])]

    def _model_table(self) -> Table:
        """One row per model."""
        first = self.aligned[self.models[0]]
        count = len(set(first.stocks))
        stocks = f"{count} stocks" if count > 1 else str(first.stocks[0])
        title = (
            f"{stocks}: {len(first.y)} forecasts, made {day(first.cutoffs.min())} to {day(first.cutoffs.max())}, "
            f"each of {first.y.shape[1]} steps"
        )
        range_of_stocks = "; each: lowest and highest by stock" if count > 1 else ""
        saved = f"strongest baseline: {self.strongest} · % less: pinball saved against it, with a 95 % interval · "
        caption = (
            f"{saved if self.strongest else ''}skill: MAPE saved against last close · 90 %: closes inside the band"
            f"{range_of_stocks}"
        )
        figures = ["MAPE %", "skill %", "90 %", *["each"] * (count > 1), "pinball", "% less", "interval"]
        table = narrow_table(title, caption, figures, edge=False)
        scores = self.scores
        overall = scores[(scores["stock"] == ALL) & (scores["step"] == ALL)]
        for row in overall.to_dict("records"):
            own = scores[(scores["model"] == row["model"]) & (scores["stock"] != ALL)]["coverage_90"]
            cells = [f"{row['mape']:.3f}", _signed(row["skill_mape"]), f"{row['coverage_90']:.1f}"]
            cells += [*[f"{own.min():.0f}–{own.max():.0f}"] * (count > 1), f"{row['pinball']:.3f}"]
            table.add_row(str(row["model"]), *cells, *_saved_cells(row))
        return table

    def _period_table(self) -> Table:
        """One row per network and period: pinball saved against the strongest baseline."""
        title = f"Pinball saved against {self.strongest} by year, and before and from {REFERENCE_BORDER.date()}"
        table = narrow_table(title, "", ["model", "90 %", "pinball", "% less", "interval"], edge=False)
        for row in self.periods[self.periods["model"].isin(NETWORKS)].to_dict("records"):
            cells = [str(row["model"]), f"{row['coverage_90']:.1f}", f"{row['pinball']:.3f}", *_saved_cells(row)]
            table.add_row(str(row["period"]), *cells)
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
            del scores["skill_rmse"]  # stocks with high prices would dominate it
            if stock == ALL and self.currency is None:
                scores["rmse"] = scores["mae"] = np.nan
            about = {"stock": stock, "model": model, "step": step, "windows": len(y)}
            compared = self._against(parts, model, interval=stock == step == ALL)
            found.append({**about, **scores, **compared, **_p_values(parts, model, step == ALL)})
        return found

    def _against(self, parts: Mapping[str, AlignedForecasts], model: str, interval: bool = True) -> dict[str, float]:
        """Percent of the pinball saved against some baselines."""
        found = {}
        for name, column in (*TESTED.items(), (self.strongest or "", "strongest")):
            saved = pinball_saved(parts[model], parts[name], interval) if name in parts else UNKNOWN
            found[f"against_{column}"] = saved.estimate
            if interval:
                found |= {f"against_{column}_low": saved.low, f"against_{column}_high": saved.high}
        return found


def _p_values(parts: Mapping[str, AlignedForecasts], model: str, tested: bool) -> dict[str, float]:
    """Of the difference to last close and to GJR-GARCH, for a single stock."""
    single = tested and len(set(parts[model].stocks)) == 1
    return {
        f"p_{column}": _p_value(parts[model], parts[name]) if single and name in parts and name != model else np.nan
        for name, column in TESTED.items()
    }


def pinball_saved(own: AlignedForecasts, other: AlignedForecasts, interval: bool = True) -> Saved:
    """Percent saved of the other's pinball, mean over stocks: volatile stocks have the same weight as others."""
    block = max(BLOCK, 2 * own.y.shape[1]) if interval else None
    return loss_saved(own.by_origin, other.by_origin, block)


def _p_value(own: AlignedForecasts, other: AlignedForecasts) -> float:
    try:
        return diebold_mariano(own.losses, other.losses, own.y.shape[1]).p_value
    except IncomparableLosses:  # too few origins for a test
        return float("nan")


def _saved_cells(row: Mapping[Any, Any]) -> list[str]:
    low, high = row["against_strongest_low"], row["against_strongest_high"]
    return [_signed(row["against_strongest"]), "–" if np.isnan(low) else f"{low:+.2f} {high:+.2f}"]


def _signed(figure: float) -> str:
    return "–" if np.isnan(figure) else f"{figure:+.2f}"
