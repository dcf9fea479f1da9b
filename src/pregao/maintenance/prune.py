"""Old runs, versions and folders of a home, beyond the newest ones."""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pregao.settings import settings
from pregao.tracking import removal
from pregao.training.jobs import Jobs

_TIME = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d.*")
"""The name of a run folder."""


@dataclass(frozen=True)
class Removal:
    """Something to delete: a sentence, and the deletion."""

    what: str
    remove: Callable[[], object]


def removals(keep: int) -> Iterator[Removal]:
    """Everything beyond the `keep` newest of each stock and kind; the served versions and running trainings stay."""
    for found in removal.old(keep):
        what = f"{len(found.runs)} runs and {len(found.versions)} versions of {found.stock} in MLflow"
        yield Removal(what, partial(removal.remove, found))
    for folder in (*_run_folders(keep), *_downloads(keep)):
        yield Removal(f"{folder} ({_megabytes(folder):.1f} MB)", partial(shutil.rmtree, folder))


def _run_folders(keep: int) -> Iterator[Path]:
    jobs = Jobs()
    live = {(folder / "run").read_text("utf-8") for folder in jobs.folders() if jobs.alive(folder)}
    for group in _subfolders(settings().outputs):
        runs = sorted(folder for folder in _subfolders(group) if _TIME.fullmatch(folder.name))
        yield from (folder for folder in runs[:-keep] if folder.name not in live)


def _downloads(keep: int) -> Iterator[Path]:
    """Versions of a server that were downloaded, by `registry`."""
    for stock in _subfolders(settings().mlruns / "versions"):
        yield from sorted(_subfolders(stock), key=lambda folder: folder.stat().st_mtime)[:-keep]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
