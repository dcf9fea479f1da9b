"""The Hydra callback of a sweep, named in conf/train.yaml: it runs in the process that started the sweep."""

import logging
import signal
import sys
from collections.abc import Callable
from typing import TypeVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from pregao.cli.command import REFUSED, say
from pregao.cli.refusals import sentence

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class SweepCallback(Callback):
    """Checks a sweep before its first job, and shows its table after the last."""

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        """Refuse what no job could run; after this, ctrl-C names the command that continues the sweep."""
        from pregao.tuning.sweep import begin

        folder = _or_exit(begin, config)
        message = f"Interrupted; the served model is unchanged. The same command with hydra.sweep.dir={folder} goes on."

        def interrupt(signum: int, frame: object) -> None:
            raise KeyboardInterrupt(message)

        signal.signal(signal.SIGINT, interrupt)

    def on_multirun_end(self, config: DictConfig, **kwargs: object) -> None:
        """Show one table; if a job failed, the command fails."""
        _or_exit(_show, config)


def _show(config: DictConfig) -> None:
    from pregao.cli.terminal import show_sweep
    from pregao.tuning.sweep import finish

    swept = finish(config)
    show_sweep(swept)
    if swept.failure is not None:
        raise swept.failure


def _or_exit(step: Callable[[DictConfig], Result], config: DictConfig) -> Result:
    """Run a step, or end the program: Hydra turns an exception of a callback into a warning and continues."""
    try:
        return step(config)
    except Exception as error:
        refused = sentence(error)
        if refused is None:
            logger.exception("The sweep failed.")
            sys.exit(1)
        sys.exit(say(refused, REFUSED))
