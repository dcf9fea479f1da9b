"""Scores of a backtest: metrics, pinball saved against baselines, and significance tests."""

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
"""Columns of forecasts.parquet: one row per stock, model, cutoff and step; prices in the stock's currency."""

GARCH = "GJR-GARCH"
ALL = "all"


@dataclass(frozen=True)
class AlignedForecasts:
    """One model's forecasts of the windows that all models have, sorted by stock and cutoff."""

    stocks: np.ndarray
    cutoffs: np.ndarray
    y: Float[np.ndarray, "n horizon"]
    quantiles: Float[np.ndarray, "n horizon 7"]

    @cached_property
    def losses(self) -> Float[np.ndarray, " n"]:
        """Pinball loss per window."""
        return pinball_by_window(self.y, self.quantiles)

    def by_origin(self) -> Float[np.ndarray, "origins stocks"]:
        """Pinball loss per origin and stock; NaN where a stock has no window."""
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
            aligned[model] = AlignedForecasts(stocks, cutoffs, y, quantiles)
        return aligned

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row per stock, model and step; `all` is the mean over stocks or steps.

        `rmse` and `mae` are in the stock's currency (NaN over several currencies), `mape` in percent. `pinball` is of
        the log return, × 1000; `against_naive` and `against_garch` are the percent saved of it, `p_naive` and `p_garch`
        the p-values of the difference (Diebold–Mariano, HAC; over all steps).
        """
        first = self.aligned[self.models[0]]
        by_step = [self._rows(ALL, step) for step in (ALL, *range(1, first.y.shape[1] + 1))]
        rows = [row for of_model in zip(*by_step, strict=True) for row in of_model]
        stocks = sorted(set(first.stocks))
        if len(stocks) > 1:
            rows += [row for stock in stocks for row in self._rows(stock, ALL)]
        return pd.DataFrame(rows)

    def terminal_table(self) -> Table:
        """A table with one row per model."""
        first = self.aligned[self.models[0]]
        count = len(set(first.stocks))
        stocks = f"{count} stocks" if count > 1 else str(first.stocks[0])
        title = (
            f"{stocks}: {len(first.y)} forecasts, made {day(first.cutoffs.min())} to {day(first.cutoffs.max())}, "
            f"each of {first.y.shape[1]} steps"
        )
        range_of_stocks = "; each: lowest and highest by stock" if count > 1 else ""
        caption = (
            f"skill: MAPE saved against last close · 80 %, 90 %: closes inside the band{range_of_stocks} · "
            f"% less: pinball saved against {GARCH} · p: p-value of that difference (Diebold–Mariano)"
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
            del scores["skill_rmse"]  # stocks with high prices would dominate it
            if stock == ALL and self.currency is None:
                scores["rmse"] = scores["mae"] = np.nan
            about = {"stock": stock, "model": model, "step": step, "windows": len(y)}
            found.append({**about, **scores, **_against(parts, model, step == ALL)})
        return found


def _against(parts: Mapping[str, AlignedForecasts], model: str, tested: bool) -> dict[str, float]:
    """Pinball saved against last close and GJR-GARCH, in percent, and the p-values of the differences."""
    found = {}
    for name, column in ((NAIVE, "naive"), (GARCH, "garch")):
        both = (parts[model], parts[name]) if name in parts else None
        # The mean over stocks of the percent saved: volatile stocks have the same weight as others.
        found[f"against_{column}"] = pinball_saved(*both) if both else np.nan
        found[f"p_{column}"] = _p_value(*both) if both and tested and name != model else np.nan
    return found


def pinball_saved(own: AlignedForecasts, other: AlignedForecasts) -> float:
    """Percent saved of the other's pinball, as the mean over stocks on which the other's loss is above 0."""
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
