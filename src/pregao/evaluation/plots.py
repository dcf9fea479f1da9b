"""Pictures of a judged forecast."""

import logging
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pregao.data.windows import day
from pregao.evaluation.report import NAIVE, Evaluation
from pregao.quantiles import LEVELS, MEDIAN

logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of its font cache

PALETTE = ("#0b6e4f", "#b5542d", "#3a5a9b", "#8a6d1f", "#7a3b7a", "#4f8f8b", "#999999", "#c2798f")

INK, MODEL, NAIVE_COLOUR, BAND = "#222222", "#0b6e4f", "#b5542d", "#0b6e4f"


def report(evaluation: Evaluation, path: Path) -> None:
    """Forecast against actual, error per step against last close, coverage against nominal, the last forecast's fan."""
    rows = _rows(evaluation)
    # An Agg figure of its own: pyplot would keep global state and look for a display.
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(11, 3 * len(rows) + 3.4), layout="constrained")
        grid = figure.add_gridspec(len(rows) + 1, 3)
        frame = evaluation.tables.forecasts
        axes = [figure.add_subplot(grid[place, :]) for place in range(len(rows))]
        for axis, (stock, step, title) in zip(axes, rows, strict=True):
            chosen = frame[(frame["step"] == step) & (frame["stock"] == stock)]
            _against_actual(axis, chosen, title, evaluation.currency)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        below = [figure.add_subplot(grid[len(rows), place]) for place in range(3)]
        _error_per_step(below[0], evaluation)
        _calibration(below[1], evaluation)
        _fan(below[2], evaluation)
        figure.suptitle(_title(evaluation), x=0.01, ha="left", fontsize=11, fontweight="bold")
        figure.savefig(path, dpi=110)


def _rows(evaluation: Evaluation) -> list[tuple[str, int, str]]:
    """Stock, step and title: one stock at three steps, or three stocks at one."""
    horizon = evaluation.windows.horizon
    stocks = [stock for stock, _ in evaluation.windows.by_stock()]
    if len(stocks) == 1:
        return [(stocks[0], step, _ahead(step)) for step in sorted({1, (horizon + 1) // 2, horizon})]
    step = (horizon + 1) // 2
    return [(stock, step, f"{stock}, {_ahead(step)}") for stock in stocks[:3]]


def _ahead(step: int) -> str:
    return "1 session ahead" if step == 1 else f"{step} sessions ahead"


def _title(evaluation: Evaluation) -> str:
    row = evaluation.scores["model"]
    naive = evaluation.scores[NAIVE]["mape"]
    return (
        f"{evaluation.stock}: MAPE {row['mape']:.3f} % against last close's {naive:.3f} % "
        f"(skill {row['skill_mape']:+.2f} %); 90 % band holds {row['coverage_90']:.1f} %"
    )


def _against_actual(axis: Axes, rows: pd.DataFrame, title: str, currency: str) -> None:
    dates = rows["date"].to_numpy()
    axis.fill_between(dates, rows["lower_90"], rows["upper_90"], color=BAND, alpha=0.15, lw=0, label="90 % band")
    axis.fill_between(dates, rows["lower_80"], rows["upper_80"], color=BAND, alpha=0.15, lw=0, label="80 % band")
    axis.plot(dates, rows["y"], color=INK, lw=1.2, label="actual")
    axis.plot(dates, rows["y_hat"], color=MODEL, lw=1.0, label="forecast")
    axis.set_title(title, loc="left")
    axis.set_ylabel(f"close, {currency}")
    axis.margins(x=0.01)


def _calibration(axis: Axes, evaluation: Evaluation) -> None:
    """How often what came lay below each quantile, against how often it should."""
    nominal = 100 * np.array(LEVELS)
    y = evaluation.windows.targets[..., None]
    axis.plot([0, 100], [0, 100], color=INK, lw=0.8, ls=":")
    for name, colour, width in ((NAIVE, NAIVE_COLOUR, 3.0), ("model", MODEL, 1.2)):
        below = 100 * (y <= evaluation.forecasts[name]).mean(axis=(0, 1))
        axis.plot(nominal, below, "o-", color=colour, ms=4, lw=width, label=name, alpha=0.9)
    axis.set_title("calibration", loc="left")
    axis.set_xlabel("quantile, %")
    axis.set_ylabel("closes below it, %")
    axis.legend(frameon=False)


def _fan(axis: Axes, evaluation: Evaluation) -> None:
    """The last judged forecast, joined to the closes that it saw."""
    _, place = next(evaluation.windows.by_stock())
    windows, quantiles = evaluation.windows.where(place), evaluation.forecasts["model"][place][-1]
    seen, came = windows.inputs[-1], windows.targets[-1]
    past, ahead = np.arange(1 - len(seen), 1), np.arange(len(came) + 1)
    fan = np.concatenate([np.full((1, len(LEVELS)), seen[-1]), quantiles])
    for low in range(MEDIAN):
        axis.fill_between(ahead, fan[:, low], fan[:, -1 - low], color=BAND, alpha=0.18, lw=0)
    axis.plot(past, seen, color=INK, lw=1.2)
    axis.plot(ahead[1:], came, color=INK, lw=1.2, ls=":")
    axis.plot(ahead, fan[:, MEDIAN], color=MODEL, lw=1.2)
    axis.set_title(f"{windows.stocks[-1]} on {day(windows.cutoffs[-1])}: 50, 80, 90 %", loc="left")
    axis.set_xlabel("sessions from the forecast")


def _error_per_step(axis: Axes, evaluation: Evaluation) -> None:
    steps = np.arange(1, evaluation.windows.horizon + 1)
    # Last close first and broad: where the two agree, and they mostly do, both stay visible.
    for name, colour, style, width in ((NAIVE, NAIVE_COLOUR, "s-", 3.5), ("model", MODEL, "o-", 1.2)):
        mape = [scores[name]["mape"] for scores in evaluation.step_scores]
        axis.plot(steps, mape, style, color=colour, ms=4, lw=width, label=name, alpha=0.9)
    axis.set_title("error per step", loc="left")
    axis.set_xlabel("sessions ahead")
    axis.set_ylabel("MAPE, %")
    axis.set_xticks(steps)
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)


def forecast_against_actual(evaluation: Evaluation, steps: Sequence[int], path: Path) -> None:
    """Forecast and bands against what came, a row a step, of the first stock."""
    stock, _ = next(evaluation.windows.by_stock())
    frame = evaluation.tables.forecasts
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(10, 2.5 * len(steps) + 0.4), layout="constrained")
        axes = figure.subplots(len(steps), squeeze=False)[:, 0]
        for axis, step in zip(axes, steps, strict=True):
            chosen = frame[(frame["step"] == step) & (frame["stock"] == stock)]
            _against_actual(axis, chosen, f"{stock}, {_ahead(step)}", evaluation.currency)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(path, dpi=100)


def error_per_step(evaluation: Evaluation, path: Path) -> None:
    """The model's MAPE by step beside last close's."""
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(6, 3.2), layout="constrained")
        axis = figure.add_subplot()
        _error_per_step(axis, evaluation)
        axis.set_title(f"{evaluation.stock}: error per step, {len(evaluation.windows)} windows", loc="left")
        figure.savefig(path, dpi=100)
