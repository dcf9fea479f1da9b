"""The code that makes a result: the version of the package, and the commit of its git checkout."""

import os
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from pregao.settings import REPOSITORY

UNKNOWN = "unknown"
"""The commit of an installed package, or of a checkout on a machine without git."""

DESCRIBE = ("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
"""Prints the whole hash, and `-dirty` after it if a tracked file differs from the commit."""

LONGEST_WAIT = 10.0
"""Seconds; a network disk may not answer."""


@dataclass(frozen=True)
class Code:
    """The code of this process.

    Attributes:
        version: of the package.
        commit: the whole hash, or `unknown`.
        dirty: whether tracked files differ from the commit; None if it is unknown.
    """

    version: str
    commit: str = UNKNOWN
    dirty: bool | None = None

    def __str__(self) -> str:
        changed = ", with changes" if self.dirty else ""
        return f"Pregão {self.version}, commit {self.commit[:10]}{changed}"


MADE_ELSEWHERE = Code(UNKNOWN)
"""The code of a result that was copied here, such as a shipped model."""


@cache
def code(folder: Path = REPOSITORY) -> Code:
    """The code in a folder, as git describes it at the first call of the process: later changes are not imported."""
    installed = version("pregao")
    if not (folder / ".git").exists():  # git would describe a repository around an installed package
        return Code(installed)
    # Inside a hook, git names another repository in the environment.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        described = subprocess.run(
            DESCRIBE, cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=LONGEST_WAIT
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return Code(installed)
    commit, _, changed = described.partition("-")
    return Code(installed, commit, bool(changed))
