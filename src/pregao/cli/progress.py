"""Progress bars on stderr, since stdout is for results: of a training, and of a run with many parts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

if TYPE_CHECKING:  # Lightning takes seconds, and a search imports it later
    from pytorch_lightning.callbacks import ProgressBar

REFRESHES_PER_SECOND = 10
"""A refresh takes 5 ms: Lightning's default, a hundred a second, takes a third of the processor time in fit."""


def training_progress() -> "list[ProgressBar]":
    """Return Lightning's bar as the callbacks of a training; no callback where stderr is not a terminal."""
    from pytorch_lightning.callbacks import RichProgressBar

    if not Console(stderr=True).is_terminal:
        return []
    # stderr: the last line on stdout is the run's folder, for programs that read it.
    return [RichProgressBar(REFRESHES_PER_SECOND, leave=False, console_kwargs={"stderr": True})]


@contextmanager
def parts_progress(name: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar; call the result with the number of finished parts, the number of all, and the next part's name."""
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, of, text: bar.update(task, completed=done, total=of, description=text)
