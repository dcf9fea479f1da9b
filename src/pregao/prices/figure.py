"""The common style of all pictures."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.figure import Figure

logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it logs every search for a font

INK, GREEN, RED = "#222222", "#0b6e4f", "#b5542d"


@contextmanager
def picture(
    path: Path, width: float, height: float, layout: Literal["constrained"] | None = "constrained"
) -> Iterator[Figure]:
    """Yield an empty figure, and write it as png at the end of the block.

    Args:
        path: the file, with any suffix.
        width: in inches.
        height: in inches.
        layout: `constrained` computes the margins by drawing twice; None leaves them to the caller.
    """
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        # Not by pyplot, which keeps global state and looks for a display.
        figure = Figure(figsize=(width, height), layout=layout)
        yield figure
        figure.savefig(path, dpi=110, format="png")


def title(figure: Figure, text: str) -> None:
    """Draw the title of the whole picture at its top left."""
    top = 1 - 0.08 / figure.get_figheight()
    figure.suptitle(text, x=0.01, y=top, ha="left", va="top", fontsize=11, fontweight="bold")
