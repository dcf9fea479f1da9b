"""The Hydra callback of sweeps, set in conf/train.yaml; it runs in the process that started the sweep."""

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
    """Checks a sweep before its first job and prints its table after the last."""

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        """Refuse settings that no job can use, and let ctrl-C print the command that resumes the sweep."""
        from pregao.tuning.sweep import begin

        folder = _run_or_exit(begin, config)
        message = f"Interrupted; the served model is unchanged. To resume, repeat it with hydra.sweep.dir={folder}"

        def interrupt(signum: int, frame: object) -> None:
            raise KeyboardInterrupt(message)

        signal.signal(signal.SIGINT, interrupt)

    def on_multirun_end(self, config: DictConfig, **kwargs: object) -> None:
        """Print the table; the command fails if a job failed."""
        _run_or_exit(_show, config)


def _show(config: DictConfig) -> None:
    from pregao.cli.terminal import show_sweep
    from pregao.tuning.sweep import finish

    swept = finish(config)
    show_sweep(swept)
    if swept.failure is not None:
        raise swept.failure


def _run_or_exit(step: Callable[[DictConfig], Result], config: DictConfig) -> Result:
    """Exit on an exception, because Hydra only logs exceptions of callbacks and continues."""
    try:
        return step(config)
    except Exception as error:
        refused = sentence(error)
        if refused is None:
            logger.exception("The sweep failed.")
            sys.exit(1)
        sys.exit(say(refused, REFUSED))
