"""Progress bars on stderr: over epochs, over parts of a long run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn


@contextmanager
def parts_progress(name: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar over the parts of a run; called with how many are done, how many there are, and what comes next."""
    with _bar() as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, of, text: bar.update(task, completed=done, total=of, description=text)


def _bar() -> Progress:
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


class EpochProgress(Callback):
    """A bar over the epochs, on stderr; nothing where no terminal is."""

    def __init__(self) -> None:
        self.bar = _bar()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the empty bar; a resumed run starts where it was left."""
        self.task = self.bar.add_task("training", total=trainer.max_epochs, completed=trainer.current_epoch)
        if trainer.is_global_zero:
            self.bar.start()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """One epoch further, with its validation loss."""
        loss = trainer.callback_metrics["val_loss"].item()
        self.bar.update(self.task, advance=1, description=f"training · validation loss {loss:.4f}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the line back."""
        self.bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the line and the cursor back after ctrl-C too."""
        self.bar.stop()
