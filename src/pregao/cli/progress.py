"""Progress bars on stderr, because stdout is for results."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

if TYPE_CHECKING:  # Lightning takes seconds to import
    from pytorch_lightning.callbacks import ProgressBar

REFRESHES_PER_SECOND = 10
"""A refresh takes 5 ms; Lightning's default of 100 per second takes a third of the time of fit."""


def training_progress() -> "list[ProgressBar]":
    """Return Lightning's progress bar in a list of callbacks; empty if stderr is not a terminal."""
    from pytorch_lightning.callbacks import RichProgressBar

    if not Console(stderr=True).is_terminal:
        return []
    # stderr: the last line of stdout is the run's folder, for programs.
    return [RichProgressBar(REFRESHES_PER_SECOND, leave=False, console_kwargs={"stderr": True})]


@contextmanager
def parts_progress(name: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar; the yielded function takes the number of finished parts, of all parts, and the next part's name."""
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, of, text: bar.update(task, completed=done, total=of, description=text)
