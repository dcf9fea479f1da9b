"""Progress bars on stderr, where that is a terminal: over epochs, over parts of a long run."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

if TYPE_CHECKING:  # Lightning takes seconds, and a search imports it later
    from pytorch_lightning.callbacks import ProgressBar

BATCHES_BETWEEN_REFRESHES = 10
"""A refresh takes as long as half a step of a small model."""


def training_progress() -> "list[ProgressBar]":
    """Lightning's bar over the batches of an epoch, with the losses; nothing where no terminal is."""
    from pytorch_lightning.callbacks import RichProgressBar

    if not sys.stderr.isatty():
        return []
    # stderr: the last line on stdout is the run's folder, for programs that read it.
    return [RichProgressBar(BATCHES_BETWEEN_REFRESHES, leave=False, console_kwargs={"stderr": True})]


@contextmanager
def parts_progress(name: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar over the parts of a run; called with how many are done, how many there are, and the next part's name."""
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, of, text: bar.update(task, completed=done, total=of, description=text)
