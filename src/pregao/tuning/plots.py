"""Plots of a search."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from pregao.prices.figure import GREEN, INK, picture


def history(numbers: Sequence[int], values: Sequence[float], metric: str, folder: Path) -> None:
    """Draw history.png: the metric of each complete trial, and the best so far."""
    with picture(folder / "history.png", 8, 4) as figure:
        axis = figure.add_subplot()
        axis.scatter(numbers, values, s=14, color=GREEN, alpha=0.6, label="trial")
        if len(values):
            order = np.argsort(numbers)
            best = np.minimum.accumulate(np.asarray(values)[order])
            axis.step(np.asarray(numbers)[order], best, where="post", color=INK, label="best so far")
            axis.legend(frameon=False)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set(xlabel="trial", ylabel=metric)


def importance(shares: Mapping[str, float], metric: str, folder: Path) -> None:
    """Draw importance.png: the share of the metric's variance per setting."""
    with picture(folder / "importance.png", 8, 4) as figure:
        axis = figure.add_subplot()
        names = list(shares)[::-1]
        axis.barh(names, [100 * shares[name] for name in names], color=GREEN)
        axis.set(xlabel=f"percent of the variance of {metric}", title="" if names else "needs two complete trials")
