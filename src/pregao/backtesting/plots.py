"""The plot of a backtest."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from pregao.backtesting.scores import ALL, WalkForward, pinball_saved
from pregao.evaluation.report import NAIVE
from pregao.prices.figure import GREEN, INK, RED, picture
from pregao.quantiles import LEVELS, at

PALETTE = (GREEN, RED, "#3a5a9b", "#8a6d1f", "#7a3b7a", "#4f8f8b", "#999999", "#c2798f")


def backtest(walk: WalkForward, path: Path) -> None:
    """Draw pinball saved per half-year, coverage per stock, skill against last close per step, and calibration."""
    colours = dict(zip(walk.models, PALETTE * 3, strict=False))
    with picture(path, 11, 7.5) as figure:
        axes = figure.subplots(2, 2)
        _saved_by_half_year(axes[0, 0], walk, colours)
        _coverage_by_stock(axes[0, 1], walk, colours)
        _skill_per_step(axes[1, 0], walk, colours)
        _all_calibrations(axes[1, 1], walk, colours)
        handles, labels = axes[1, 1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 8), frameon=False)


def _saved_by_half_year(axis: Axes, walk: WalkForward, colours: dict[str, str]) -> None:
    against = walk.strongest or walk.models[0]
    other = walk.aligned[against]
    days = pd.DatetimeIndex(other.cutoffs)
    halves = 2 * days.year + (days.month > 6)
    times = np.unique(halves)
    for model, colour in colours.items():
        own = walk.aligned[model]
        parts = [(own.where(halves == time), other.where(halves == time)) for time in times]
        figures = [pinball_saved(*both, interval=False).estimate for both in parts]
        if model != against:
            axis.plot(times, figures, "o-", color=colour, ms=4, lw=1.2, label=model)
    axis.axhline(0, color=INK, lw=0.8, ls=":")
    axis.set_title(f"pinball saved against {against}, by half-year of the forecast, %", loc="left")
    shown = times[:: max(1, -(-len(times) // 7))]
    axis.set_xticks(shown, [f"{time // 2}H{time % 2 + 1}" for time in shown])


def _coverage_by_stock(axis: Axes, walk: WalkForward, colours: dict[str, str]) -> None:
    stocks = sorted(set(walk.aligned[walk.models[0]].stocks))
    for model, colour in colours.items():
        own = walk.aligned[model]
        inside = (at(own.quantiles, 0.05) <= own.y) & (own.y <= at(own.quantiles, 0.95))
        held = [100 * inside[own.stocks == stock].mean() for stock in stocks]
        axis.plot(held, np.arange(len(stocks)), "o", color=colour, ms=4, label=model, alpha=0.8)
    axis.axvline(90, color=INK, lw=0.8, ls=":")
    axis.set_yticks(np.arange(len(stocks)), stocks, fontsize=7 if len(stocks) > 10 else 9)
    axis.margins(y=0.05 if len(stocks) > 1 else 1)
    axis.set_title("closes inside the 90 % band, %", loc="left")


def _skill_per_step(axis: Axes, walk: WalkForward, colours: dict[str, str]) -> None:
    """The skill of the MAPE; the curves of the MAPE itself would overlap."""
    steps = np.arange(1, walk.aligned[walk.models[0]].y.shape[1] + 1)
    scores = walk.scores[(walk.scores["stock"] == ALL) & (walk.scores["step"] != ALL)]
    for model, colour in colours.items():
        skill = scores.loc[scores["model"] == model, "skill_mape"].to_numpy(np.float64)
        if model != NAIVE and np.isfinite(skill).all():
            axis.plot(steps, skill, "o-", color=colour, ms=3, lw=1.2, label=model, alpha=0.8)
    axis.axhline(0, color=INK, lw=0.8, ls=":")
    axis.set_title("MAPE saved against last close, per step, %", loc="left")
    axis.set_xlabel("sessions ahead")
    axis.set_xticks(steps[:: max(1, len(steps) // 10)])


def _all_calibrations(axis: Axes, walk: WalkForward, colours: dict[str, str]) -> None:
    nominal = 100 * np.array(LEVELS)
    for model, colour in colours.items():
        own = walk.aligned[model]
        below = 100 * (own.y[..., None] <= own.quantiles).mean(axis=(0, 1))
        axis.plot(nominal, below - nominal, "o-", color=colour, ms=4, lw=1.2, label=model)
    axis.axhline(0, color=INK, lw=0.8, ls=":")
    axis.set_title("closes below each quantile, minus its nominal share, points", loc="left")
    axis.set_xlabel("quantile, %")
