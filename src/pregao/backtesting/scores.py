"""Scores of a backtest: a tidy table of forecasts in; figures beside baselines, tests of difference, tables out."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pregao.data.windows import day
from pregao.errors import IncomparableLosses
from pregao.evaluation.metrics import point_scores
from pregao.evaluation.report import NAIVE
from pregao.evaluation.scores import coverage, pinball_by_window, skill
from pregao.evaluation.significance import panel_diebold_mariano
from pregao.quantiles import LEVELS, MEDIAN, at

QUANTILES = [f"q{round(100 * level):02d}" for level in LEVELS]
COLUMNS = ["stock", "model", "cutoff", "date", "step", "y", "y_hat", *QUANTILES]
"""Of forecasts.parquet: one row a stock, model, cutoff and step; prices in the stock's currency."""

GARCH = "GJR-GARCH"
ALL = "all"


@dataclass(frozen=True)
class Judged:
    """One model's forecasts of the windows that every model has, in the order of stock and cutoff."""

    stocks: np.ndarray
    cutoffs: np.ndarray
    y: Float[np.ndarray, "n horizon"]
    quantiles: Float[np.ndarray, "n horizon 7"]

    @cached_property
    def losses(self) -> Float[np.ndarray, " n"]:
        """Pinball by window."""
        return pinball_by_window(self.y, self.quantiles, np.array(LEVELS))

    def by_origin(self) -> Float[np.ndarray, "origins stocks"]:
        """Pinball, NaN where a stock has no window at an origin."""
        table = pd.DataFrame({"cutoff": self.cutoffs, "stock": self.stocks, "loss": self.losses})
        wide: np.ndarray = table.pivot(index="cutoff", columns="stock", values="loss").to_numpy()
        return wide


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
    def judged(self) -> dict[str, Judged]:
        """By model, on the windows that all models have: a score beside another's is on the same windows."""
        found = self.forecasts
        horizon = int(found["step"].max())
        counts = found.groupby(["stock", "cutoff"], observed=True)["model"].transform("size")
        common = found[counts == horizon * len(self.models)].sort_values(["model", "stock", "cutoff", "step"])
        judged = {}
        for model in self.models:
            rows = common[common["model"] == model]
            firsts = rows.iloc[::horizon]
            y = rows["y"].to_numpy().reshape(-1, horizon)
            quantiles = rows[QUANTILES].to_numpy().reshape(-1, horizon, len(LEVELS))
            judged[model] = Judged(firsts["stock"].to_numpy(), firsts["cutoff"].to_numpy(), y, quantiles)
        return judged

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row a stock (and all of them), model and step (and all of them).

        Errors are in the stock's currency (none over stocks of several) and in percent. `pinball` is of the log return,
        × 1000; `against_naive` and `against_garch` say how much less of it there is, in percent, `p_naive` and
        `p_garch` how likely such a difference is by chance (Diebold–Mariano, HAC; over all steps).
        """
        rows = [self._row(model, ALL, step) for model in self.models for step in self._steps]
        stocks = sorted(set(self.judged[self.models[0]].stocks))
        if len(stocks) > 1:
            rows += [self._row(model, stock, ALL) for stock in stocks for model in self.models]
        return pd.DataFrame(rows)

    def terminal_table(self) -> Table:
        """For a person: models as rows, what judged them in the title."""
        judged = self.judged[self.models[0]]
        count = len(set(judged.stocks))
        stocks = f"{count} stocks" if count > 1 else str(judged.stocks[0])
        title = (
            f"{stocks}: {len(judged.y)} forecasts, made {day(judged.cutoffs.min())} to {day(judged.cutoffs.max())}, "
            f"each of {judged.y.shape[1]} steps"
        )
        of_each = ", from the stock with the fewest to that with the most" if count > 1 else ""
        caption = (
            f"skill: MAPE saved against last close · 80 %, 90 %: closes inside the band{of_each} · "
            f"% less: pinball saved against {GARCH} · p: of that difference by chance (Diebold–Mariano)"
        )
        table = Table(
            title=title, caption=caption, box=SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True
        )
        table.title_justify = table.caption_justify = "left"
        table.add_column("", no_wrap=True)
        names = ["MAPE %", "skill %", "80 %", "90 %", *["each"] * (count > 1), "pinball", "% less", "p"]
        for name in names:
            table.add_column(name, justify="right", no_wrap=True)
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

    @property
    def _steps(self) -> list[int | str]:
        return [ALL, *range(1, self.judged[self.models[0]].y.shape[1] + 1)]

    def _row(self, model: str, stock: str, step: int | str) -> dict[str, object]:
        own = self._cut(model, stock, step)
        errors = point_scores(own.y, own.quantiles[..., MEDIAN])
        row: dict[str, object] = {"stock": stock, "model": model, "step": step, "windows": len(own.y)}
        row |= {name: errors[name] for name in ("rmse", "mae", "mape")}
        if stock == ALL and self.currency is None:
            row["rmse"] = row["mae"] = np.nan
        row["skill_mape"] = np.nan
        row["coverage_80"] = coverage(own.y, at(own.quantiles, 0.1), at(own.quantiles, 0.9))
        row["coverage_90"] = coverage(own.y, at(own.quantiles, 0.05), at(own.quantiles, 0.95))
        row["pinball"] = own.losses.mean()
        for name, column in ((NAIVE, "naive"), (GARCH, "garch")):
            row[f"against_{column}"] = row[f"p_{column}"] = np.nan
            if name not in self.judged:
                continue
            other = self._cut(name, stock, step)
            # The mean over stocks of what is saved on each: a stock that moves more counts no more for it.
            row[f"against_{column}"] = saved(own, other)
            if name == NAIVE:
                row["skill_mape"] = skill(errors["mape"], point_scores(other.y, other.quantiles[..., MEDIAN])["mape"])
            if step == ALL and name != model:
                row[f"p_{column}"] = _p_value(own, other)
        return row

    def _cut(self, model: str, stock: str, step: int | str) -> Judged:
        whole = self.judged[model]
        rows = slice(None) if stock == ALL else whole.stocks == stock
        steps = slice(None) if step == ALL else slice(int(step) - 1, int(step))
        return Judged(whole.stocks[rows], whole.cutoffs[rows], whole.y[rows, steps], whole.quantiles[rows, steps])


def saved(own: Judged, other: Judged) -> float:
    """Percent of the other's pinball; of many stocks the mean, without those on which the other lost nothing."""
    losses = pd.DataFrame({"stock": own.stocks, "own": own.losses, "other": other.losses})
    means = losses.groupby("stock", observed=True).mean()
    ratios = (means["own"] / means["other"])[means["other"] > 0]
    return float(100 * (1 - ratios).mean())


def _p_value(own: Judged, other: Judged) -> float:
    try:
        return panel_diebold_mariano(own.by_origin(), other.by_origin(), own.y.shape[1]).p_value
    except IncomparableLosses:  # too few origins for a test
        return float("nan")


def _signed(figure: float) -> str:
    return "–" if np.isnan(figure) else f"{figure:+.2f}"
