"""Run a function as a command: Hydra composes its settings, a refusal is one sentence, exit codes 0, 1, 2, 130, 143."""

import functools
import gc
import inspect
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from pregao.cli.refusals import sentence
from pregao.config import CONF
from pregao.errors import NotNeeded, StorageError, TrackingUnavailable, refusal
from pregao.files import remove_folder
from pregao.prices.symbols import Symbol
from pregao.settings import settings, sqlite_uri

REFUSED, INTERRUPTED, TERMINATED = 2, 130, 143

STARTED = time.time()

# Imports create many permanent objects. With Python's default of 700 the collector scans them repeatedly, which takes
# 10 % of the time of a command.
gc.set_threshold(100_000)

logger = logging.getLogger(__name__)

Task = Callable[[DictConfig], None]


class Terminated(KeyboardInterrupt):
    """SIGTERM; a KeyboardInterrupt, so that the cleanup after ctrl-C also runs."""


def run_folder(stock: str) -> str:
    """Return the folder of a stock's runs; the name is a parsed Symbol, so it cannot lead outside outputs/."""
    return str(settings().outputs / Symbol.parse(stock).ticker)


OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
OmegaConf.register_new_resolver("database", lambda name: sqlite_uri(settings().outputs / name), replace=True)
OmegaConf.register_new_resolver("outputs", lambda: str(settings().outputs), replace=True)


def command(name: str) -> Callable[[Task], Callable[[], None]]:
    """Make a command of a function: its settings are conf/<name>.yaml, its --help is the docstring."""

    def decorate(task: Task) -> Callable[[], None]:
        entry = hydra.main(version_base=None, config_path=str(CONF), config_name=name)(_exit_on_refusal(task))

        @functools.wraps(task)
        def program() -> None:
            OmegaConf.register_new_resolver("usage", lambda: inspect.getdoc(task), replace=True)
            sys.exit(_exit_code(entry))

        return program

    return decorate


def _exit_on_refusal(task: Task) -> Task:
    """On a refusal, remove the run folder and exit before Hydra reports a crash."""

    @functools.wraps(task)
    def wrapped(cfg: DictConfig) -> None:
        try:
            task(cfg)
        except Exception as error:
            refused = sentence(error)
            if refused is None:
                raise
            code = 0 if isinstance(refusal(error), NotNeeded) else REFUSED
            if HydraConfig.get().output_subdir is not None and not _can_resume(error):
                _remove(Path(HydraConfig.get().runtime.output_dir))
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                logger.error("%s", refused)
                if code == 0:
                    return
                raise  # other jobs still run; Hydra reports the refused job
            sys.exit(say(refused, code))

    return wrapped


def _can_resume(error: Exception) -> bool:
    """Whether the folder has finished work to resume after an MLflow failure or a full disk."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    if any((folder / "parts").glob("*.parquet")):  # a backtest
        return isinstance(refusal(error), TrackingUnavailable | StorageError)
    return isinstance(refusal(error), TrackingUnavailable) and (folder / "checkpoints/last.ckpt").is_file()


def _remove(folder: Path) -> None:
    # hydra.run.dir= may be an existing folder with files of the user.
    if any(path.lstat().st_mtime < STARTED for path in folder.rglob("*")):
        return
    remove_folder(folder, settings().outputs)


def _exit_code(entry: Callable[[], None]) -> int:
    # Without it Hydra turns each exception into exit code 1. Overwritten, because the shell may have set 0.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # On a full disk, logging would print a traceback per log line.
    logging.raiseExceptions = False
    signal.signal(signal.SIGTERM, _terminate)
    try:
        entry()
    except Terminated:
        return say("Terminated; the served model is unchanged.", TERMINATED)
    except KeyboardInterrupt as stop:  # a run that can be resumed gives its own sentence
        return say(str(stop) or "Interrupted; the served model is unchanged.", INTERRUPTED)
    except Exception as error:
        refused = sentence(error)
        if refused is None:
            raise
        return say(refused, REFUSED)
    return 0


def _terminate(signum: int, frame: object) -> None:
    raise Terminated


def say(text: str, code: int) -> int:
    """Write a sentence to stderr and return the exit code."""
    sys.stderr.write(f"{text}\n")
    return code
