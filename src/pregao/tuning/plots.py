"""Pictures of a search."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pregao.evaluation.plots import INK, MODEL


def history(numbers: Sequence[int], values: Sequence[float], metric: str, folder: Path) -> None:
    """history.png: every finished trial, and the best so far."""
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axis = _figure()
        axis.scatter(numbers, values, s=14, color=MODEL, alpha=0.6, label="trial")
        if len(values):
            order = np.argsort(numbers)
            best = np.minimum.accumulate(np.asarray(values)[order])
            axis.step(np.asarray(numbers)[order], best, where="post", color=INK, label="best so far")
            axis.legend(frameon=False)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set(xlabel="trial", ylabel=metric)
        figure.savefig(folder / "history.png", dpi=110)


def importance(shares: Mapping[str, float], metric: str, folder: Path) -> None:
    """importance.png: the share of the metric's variance that each setting accounts for."""
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axis = _figure()
        names = list(shares)[::-1]
        axis.barh(names, [100 * shares[name] for name in names], color=MODEL)
        axis.set(xlabel=f"percent of the variance of {metric}", title="" if names else "two finished trials are needed")
        figure.savefig(folder / "importance.png", dpi=110)


def _figure() -> tuple[Figure, Axes]:
    # An Agg figure of its own: pyplot would keep global state and look for a display.
    figure = Figure(figsize=(8, 4), layout="constrained")
    return figure, figure.add_subplot()
