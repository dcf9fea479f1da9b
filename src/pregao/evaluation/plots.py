"""The figure of an evaluation."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from pregao.data.windows import day
from pregao.evaluation.report import NAIVE, Evaluation
from pregao.prices.figure import GREEN, INK, RED, picture, title
from pregao.quantiles import LEVELS, MEDIAN

MODEL, NAIVE_COLOUR = GREEN, RED


def report(evaluation: Evaluation, path: Path) -> None:
    """Forecast against actual, error per step against last close, calibration, and the bands of the last forecast."""
    rows = _rows(evaluation)
    width, height = 11, 3 * len(rows) + 3.4
    forecasts = evaluation.tables.forecasts
    # Fixed margins, in inches: constrained layout would double the drawing time.
    edges = {"left": 0.85 / width, "right": 1 - 0.3 / width, "bottom": 0.85 / height, "top": 1 - 0.6 / height}
    with picture(path, width, height, layout=None) as figure:
        grid = figure.add_gridspec(len(rows) + 1, 3, **edges, hspace=0.25, wspace=0.22)
        axes = [figure.add_subplot(grid[place, :]) for place in range(len(rows))]
        for axis, (stock, step, heading) in zip(axes, rows, strict=True):
            chosen = forecasts[(forecasts["step"] == step) & (forecasts["stock"] == stock)]
            against_actual(axis, chosen, heading, evaluation.currency)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=4, frameon=False)
        error, calibration, last = (figure.add_subplot(grid[len(rows), place]) for place in range(3))
        error_per_step(error, evaluation)
        _calibration(calibration, evaluation)
        _last_forecast(last, evaluation)
        title(figure, _summary(evaluation))


def _rows(evaluation: Evaluation) -> list[tuple[str, int, str]]:
    """Stock, step and title: one stock at three steps, or three stocks at one."""
    horizon = evaluation.windows.horizon
    stocks = [stock for stock, _ in evaluation.windows.by_stock()]
    if len(stocks) == 1:
        return [(stocks[0], step, ahead(step)) for step in sorted({1, (horizon + 1) // 2, horizon})]
    step = (horizon + 1) // 2
    return [(stock, step, f"{stock}, {ahead(step)}") for stock in stocks[:3]]


def ahead(step: int) -> str:
    """A step in words."""
    return "1 session ahead" if step == 1 else f"{step} sessions ahead"


def _summary(evaluation: Evaluation) -> str:
    row = evaluation.scores["model"]
    naive = evaluation.scores[NAIVE]["mape"]
    return (
        f"{evaluation.stock}: MAPE {row['mape']:.3f} % against last close's {naive:.3f} % "
        f"(skill {row['skill_mape']:+.2f} %); 90 % band holds {row['coverage_90']:.1f} %; "
        f"pinball saved against {evaluation.strongest}, the strongest baseline: {evaluation.saved.estimate:+.2f} %"
    )


def against_actual(axis: Axes, rows: pd.DataFrame, heading: str, currency: str) -> None:
    """Forecasts and bands of one stock and step against the actual closes."""
    dates = rows["date"].to_numpy()
    axis.fill_between(dates, rows["lower_90"], rows["upper_90"], color=MODEL, alpha=0.15, lw=0, label="90 % band")
    axis.fill_between(dates, rows["lower_80"], rows["upper_80"], color=MODEL, alpha=0.15, lw=0, label="80 % band")
    axis.plot(dates, rows["y"], color=INK, lw=1.2, label="actual")
    axis.plot(dates, rows["y_hat"], color=MODEL, lw=1.0, label="forecast")
    axis.set_title(heading, loc="left")
    axis.set_ylabel(f"close, {currency}")
    axis.margins(x=0.01)


def _calibration(axis: Axes, evaluation: Evaluation) -> None:
    """Percent of the closes below each quantile, against its level."""
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


def _last_forecast(axis: Axes, evaluation: Evaluation) -> None:
    """The bands of the last forecast after the closes of its window."""
    _, place = next(evaluation.windows.by_stock())
    windows, quantiles = evaluation.windows.where(place), evaluation.forecasts["model"][place][-1]
    known, actual = windows.inputs[-1], windows.targets[-1]
    past, coming = np.arange(1 - len(known), 1), np.arange(len(actual) + 1)
    bands = np.concatenate([np.full((1, len(LEVELS)), known[-1]), quantiles])
    for low in range(MEDIAN):
        axis.fill_between(coming, bands[:, low], bands[:, -1 - low], color=MODEL, alpha=0.18, lw=0)
    axis.plot(past, known, color=INK, lw=1.2)
    axis.plot(coming[1:], actual, color=INK, lw=1.2, ls=":")
    axis.plot(coming, bands[:, MEDIAN], color=MODEL, lw=1.2)
    axis.set_title(f"{windows.stocks[-1]} on {day(windows.cutoffs[-1])}: 50, 80, 90 %", loc="left")
    axis.set_xlabel("sessions from the forecast")


def error_per_step(axis: Axes, evaluation: Evaluation) -> None:
    """The MAPE of the model and of last close at each step."""
    steps = np.arange(1, evaluation.windows.horizon + 1)
    # Last close first, as a thick line: both stay visible where the two are equal.
    for name, colour, style, width in ((NAIVE, NAIVE_COLOUR, "s-", 3.5), ("model", MODEL, "o-", 1.2)):
        mape = [scores[name]["mape"] for scores in evaluation.step_scores]
        axis.plot(steps, mape, style, color=colour, ms=4, lw=width, label=name, alpha=0.9)
    axis.set_title("error per step", loc="left")
    axis.set_xlabel("sessions ahead")
    axis.set_ylabel("MAPE, %")
    axis.set_xticks(steps)
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)
