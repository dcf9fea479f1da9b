"""Pictures of a judged forecast."""

import logging
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pregao.evaluation.report import NAIVE, Evaluation

logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of its font cache

INK, MODEL, NAIVE_COLOUR, BAND = "#222222", "#0b6e4f", "#b5542d", "#0b6e4f"


def report(evaluation: Evaluation, path: Path) -> None:
    """Forecast against actual at the first, a middle and the last step; error per step against last close."""
    horizon = evaluation.windows.horizon
    steps = sorted({1, (horizon + 1) // 2, horizon})
    # An Agg figure of its own: pyplot would keep global state and look for a display.
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(11, 3 * len(steps) + 3), layout="constrained")
        axes = figure.subplots(len(steps) + 1, 1)
        frame = evaluation.frame()
        for axis, step in zip(axes, steps, strict=False):
            _against_actual(axis, frame[frame["step"] == step], step, evaluation.currency)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        _error_per_step(axes[-1], evaluation)
        figure.suptitle(_title(evaluation), x=0.01, ha="left", fontsize=11, fontweight="bold")
        figure.savefig(path, dpi=110)


def _title(evaluation: Evaluation) -> str:
    row = evaluation.scores["model"]
    naive = evaluation.scores[NAIVE]["mape"]
    return (
        f"{evaluation.stock}: MAPE {row['mape']:.3f} % against last close's {naive:.3f} % "
        f"(skill {row['skill_mape']:+.2f} %); 90 % band holds {row['coverage_90']:.1f} %"
    )


def _against_actual(axis: Axes, rows: pd.DataFrame, step: int, currency: str) -> None:
    dates = rows["date"].to_numpy()
    axis.fill_between(dates, rows["lower_90"], rows["upper_90"], color=BAND, alpha=0.15, lw=0, label="90 % band")
    axis.plot(dates, rows["y"], color=INK, lw=1.2, label="actual")
    axis.plot(dates, rows["y_hat"], color=MODEL, lw=1.0, label="forecast")
    ahead = "1 session ahead" if step == 1 else f"{step} sessions ahead"
    axis.set_title(ahead, loc="left")
    axis.set_ylabel(f"close, {currency}")
    axis.margins(x=0.01)


def _error_per_step(axis: Axes, evaluation: Evaluation) -> None:
    steps = np.arange(1, evaluation.windows.horizon + 1)
    # Last close first and broad: where the two agree, and they mostly do, both stay visible.
    for name, colour, style, width in ((NAIVE, NAIVE_COLOUR, "s-", 3.5), ("model", MODEL, "o-", 1.2)):
        mape = [evaluation.scores[name][f"mape_step_{step}"] for step in steps]
        axis.plot(steps, mape, style, color=colour, ms=4, lw=width, label=name, alpha=0.9)
    axis.set_title("error per step", loc="left")
    axis.set_xlabel("sessions ahead")
    axis.set_ylabel("MAPE, %")
    axis.set_xticks(steps)
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)
