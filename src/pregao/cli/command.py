"""The commands' common skin: Hydra around a task, refusals as one sentence, exit codes 0, 1, 2, 130 and 143."""

import functools
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from pregao.errors import NotNeeded, StorageError, TrackingUnavailable, causes, refusal
from pregao.prices.symbols import Symbol
from pregao.settings import REPOSITORY, settings

CONF = REPOSITORY / "conf"

REFUSED, INTERRUPTED, TERMINATED = 2, 130, 143

NOT_A_GROUP = "Config group override must be"
"""How Hydra's only refusal that is a bare ValueError begins: model=5."""

STARTED = time.time()

logger = logging.getLogger(__name__)

Task = Callable[[DictConfig], None]
Result = TypeVar("Result")


class Terminated(KeyboardInterrupt):
    """SIGTERM: whoever cleans up after ctrl-C cleans up after this."""


def command(name: str) -> Callable[[Task], Callable[[], None]]:
    """Turn a task into a program that is configured by conf/<name>.yaml."""

    def decorate(task: Task) -> Callable[[], None]:
        entry = hydra.main(version_base=None, config_path=str(CONF), config_name=name)(_refusing(task))

        @functools.wraps(task)
        def program() -> None:
            sys.exit(_exit_code(entry))

        return program

    return decorate


class Sweeping(Callback):
    """Hydra calls it where a sweep was started: before the first job, and after the last."""

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        """Refuse what no job could do; from here on, ctrl-C ends with the command that goes on."""
        from pregao.tuning.sweep import begin

        folder = _or_exit(begin, config)
        sentence = (
            f"Interrupted; the served model is unchanged. The same command with hydra.sweep.dir={folder} goes on."
        )

        def interrupt(signum: int, frame: object) -> None:
            raise KeyboardInterrupt(sentence)

        signal.signal(signal.SIGINT, interrupt)

    def on_multirun_end(self, config: DictConfig, **kwargs: object) -> None:
        """One table; a job that failed is the command's failure."""
        _or_exit(_show_sweep, config)


def _show_sweep(config: DictConfig) -> None:
    from pregao.cli.terminal import show_sweep
    from pregao.tuning.sweep import finish

    swept = finish(config)
    show_sweep(swept)
    if swept.failure is not None:
        raise swept.failure


def _or_exit(step: Callable[[DictConfig], Result], config: DictConfig) -> Result:
    """Hydra turns what a callback raises into a warning, and goes on."""
    try:
        return step(config)
    except Exception as error:
        sentence = _refusal(error)
        if sentence is None:
            logger.exception("The sweep failed.")
            sys.exit(1)
        sys.exit(_say(sentence, REFUSED))


def run_folder(stock: str) -> str:
    """Where a stock's runs go: named by the Symbol, so that no argument can lead outside outputs/."""
    return str(settings().outputs / Symbol.parse(stock).ticker)


OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
OmegaConf.register_new_resolver("outputs", lambda: str(settings().outputs), replace=True)


def _refusing(task: Task) -> Task:
    """A refusal ends the program before Hydra reports it as a crash, and leaves no run folder behind."""

    @functools.wraps(task)
    def wrapped(cfg: DictConfig) -> None:
        try:
            task(cfg)
        except Exception as error:
            sentence = _refusal(error)
            if sentence is None:
                raise
            code = 0 if isinstance(refusal(error), NotNeeded) else REFUSED
            if HydraConfig.get().output_subdir is not None and not _is_worth_keeping(error):
                _remove(Path(HydraConfig.get().runtime.output_dir))
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                logger.error("%s", sentence)
                if code == 0:
                    return
                raise  # the other jobs go on; Hydra then names the one that was refused
            sys.exit(_say(sentence, code))

    return wrapped


def _is_worth_keeping(error: Exception) -> bool:
    """A tracker that went away is no refused input: what was done can be gone on with. Nor is a disk that got full."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    if any((folder / "parts").glob("*.parquet")):  # of a backtest
        return isinstance(refusal(error), TrackingUnavailable | StorageError)
    return isinstance(refusal(error), TrackingUnavailable) and (folder / "checkpoints/last.ckpt").is_file()


def _remove(folder: Path) -> None:
    # hydra.run.dir= may name a folder of the user's, with much else in it.
    if any(path.lstat().st_mtime < STARTED for path in folder.rglob("*")):
        return
    shutil.rmtree(folder, ignore_errors=True)
    for parent in (folder.parent, folder.parent.parent):
        if settings().outputs not in parent.parents or any(parent.iterdir()):
            return
        parent.rmdir()


def _exit_code(entry: Callable[[], None]) -> int:
    # Hydra would turn every exception into exit code 1; this makes it let them through.
    os.environ["HYDRA_FULL_ERROR"] = "1"  # assigned: a 0 that the user's shell has set would bring the traces back
    # A log that finds the disk full would print a traceback at each of its lines.
    logging.raiseExceptions = False
    signal.signal(signal.SIGTERM, _terminate)
    try:
        entry()
    except Terminated:
        return _say("Terminated; the served model is unchanged.", TERMINATED)
    except KeyboardInterrupt as stop:  # one that can be gone on with brings a sentence of its own
        return _say(str(stop) or "Interrupted; the served model is unchanged.", INTERRUPTED)
    except Exception as error:
        sentence = _refusal(error)
        if sentence is None:
            raise
        return _say(sentence, REFUSED)
    return 0


def _terminate(signum: int, frame: object) -> None:
    raise Terminated


def _say(sentence: str, code: int) -> int:
    sys.stderr.write(f"{sentence}\n")
    return code


def _refusal(error: Exception) -> str | None:
    """The sentence for a person, or None for what is our own mistake."""
    refused = refusal(error)
    if refused is not None:
        return str(refused)
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    if isinstance(error, HydraException | OmegaConfBaseException) or str(error).startswith(NOT_A_GROUP):
        return _unknown_choice(error)
    return None


def _unreadable(error: OverrideParseException) -> str:
    reason = error.message.splitlines()[0].removeprefix("LexerNoViableAltException: ")
    return (
        f"{error.override[:80]!r} cannot be read ({reason[:200]}). Write key=value; a value with spaces, commas, "
        "accents or brackets goes into quotes within quotes: 'key=\"value\"'. All keys: --help."
    )


def _unknown_choice(error: Exception) -> str:
    """Hydra's reason; for a mistyped key, the nearest one that exists."""
    keys = (ConfigKeyError, ConfigAttributeError)
    missing = next((cause for cause in causes(error) if isinstance(cause, keys)), None)
    if missing is None or missing.full_key is None or not isinstance(missing.parent_node, DictConfig):
        reason = " ".join(str(error).split("Config search path")[0].split()).removesuffix(".")
        return f"{reason}. All choices: --help."
    group, _, key = str(missing.full_key).rpartition(".")
    siblings = [str(name) for name in missing.parent_node if name != "hydra"]
    near = get_close_matches(key, siblings, n=1)
    hint = f" Did you mean {'.'.join([group, near[0]] if group else near)}?" if near else ""
    where = f"in {group}" if group else "at the top"
    return f"{missing.full_key}: there is no such setting.{hint} Allowed {where}: {', '.join(siblings)}. More: --help."
