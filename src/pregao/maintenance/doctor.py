"""Damage in a home, and its repair: every check yields findings and changes nothing."""

import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from pregao.errors import CorruptModel, NoSuchJob, PregaoError, TrackingUnavailable, refusal
from pregao.forecasting.log import ForecastLog
from pregao.prices.symbols import Symbol
from pregao.settings import settings, sqlite_file
from pregao.tracking import database, paths, registry
from pregao.tracking.client import mlflow_client, prepared_client
from pregao.tracking.database import CHAMPION, KNOWN_SCHEMAS
from pregao.training.job import Job
from pregao.training.jobs import Jobs

DAY = 86_400.0
"""Seconds after which an unfinished run or file belongs to no process any more."""

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")


@dataclass(frozen=True)
class Finding:
    """Something wrong.

    Attributes:
        what: a sentence.
        remedy: what `fix` does, or what the user can do.
        fix: repairs it; None where only the user can.
    """

    what: str
    remedy: str
    fix: Callable[[], object] | None = None


def examine() -> Iterator[Finding]:
    """Every finding in the home; a database that cannot be used ends the checks of what is in it."""
    yield from _tables()
    yield from _moved()
    yield from _forecasts()
    yield from _jobs()
    yield from _temporary_files()
    if not any(_tables()):
        yield from _champions()
        yield from _runs()


def _tables() -> Iterator[Finding]:
    """A damaged database of MLflow, and an interrupted or missing migration of its tables."""
    file = sqlite_file(settings().tracking_uri)
    if file is None or not file.exists():
        return
    damage = _damage(file)
    if damage is not None:
        yield Finding(
            f"{file} is damaged ({damage}).",
            "Restore it from a backup, or move it away; then MLflow creates an empty one.",
        )
        return
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        query = "SELECT version_num FROM alembic_version"
        found = {row[0] for row in connection.execute(query)} if "alembic_version" in tables else set()
    left = sorted(table for table in tables if table.startswith("_alembic_tmp_"))
    if left or (tables and not found <= KNOWN_SCHEMAS) or (tables and not found):
        version = ", ".join(found) or "none"
        yield Finding(
            f"{file}: a migration of MLflow's tables was interrupted or is missing (version {version}"
            f"{', left over: ' + ', '.join(left) if left else ''}).",
            "The file is copied, and the tables are migrated to the installed MLflow.",
            partial(_migrate, file, left),
        )


def _migrate(file: Path, left: list[str]) -> None:
    shutil.copyfile(file, file.with_name(f"{file.name}.before-{datetime.now():%Y%m%dT%H%M%S}"))
    with closing(sqlite3.connect(file)) as connection, connection:
        for table in left:
            connection.execute(f'DROP TABLE "{table}"')
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", settings().tracking_uri]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TrackingUnavailable(settings().tracking_uri, done.stderr.strip().splitlines()[-1][:200])


def _damage(file: Path) -> str | None:
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
            return None if found == "ok" else found
    except sqlite3.DatabaseError as error:
        return str(error)


def _moved() -> Iterator[Finding]:
    with suppress(sqlite3.DatabaseError):  # a damaged database has its own finding
        found = paths.stale()
        if found:
            yield Finding(
                f"{found} addresses in MLflow's tables lead to another place of this home.",
                "They are rewritten.",
                paths.follow_home,
            )


def _forecasts() -> Iterator[Finding]:
    uri = settings().forecasts_uri
    file = sqlite_file(uri)
    if file is not None and file.exists() and (damage := _damage(file)) is not None:
        yield Finding(
            f"{file} is damaged ({damage}).",
            "It is renamed, and a new log of forecasts begins.",
            partial(_replace_log, ForecastLog(uri)),
        )


def _replace_log(log: ForecastLog) -> None:
    with suppress(PregaoError):  # the first use renames the damaged file, the second creates a new one
        log.check()
    log.check()


def _jobs() -> Iterator[Finding]:
    """Jobs whose process has died without recording its end, and folders without a job."""
    jobs = Jobs()
    for folder in jobs.folders():
        if jobs.alive(folder):
            continue
        try:
            job = Job.read(folder)
        except NoSuchJob:
            yield Finding(
                f"{folder} has no readable job.", "It is deleted.", partial(shutil.rmtree, folder, ignore_errors=True)
            )
            continue
        if not job.ended:
            yield Finding(
                f"The training {job.id} of {job.stock} is {job.state}, but its process has ended.",
                "It is recorded as failed or cancelled.",
                partial(jobs.read, job.id),
            )


def _temporary_files() -> Iterator[Finding]:
    """Files that a killed process was writing."""
    for root in (settings().data, settings().outputs, settings().mlruns):
        for file in root.rglob(".*.tmp"):
            if _TEMPORARY.fullmatch(file.name) and _age(file) > DAY:
                yield Finding(f"{file} was never finished.", "It is deleted.", partial(file.unlink, missing_ok=True))


def _champions() -> Iterator[Finding]:
    """Served versions whose files are missing or damaged."""
    for ticker, (number, _) in registry.champions().items():
        symbol = Symbol.parse(ticker)
        try:
            _load(symbol, number)
        except Exception as error:
            if not isinstance(refusal(error), CorruptModel):
                raise
            yield Finding(
                f"{ticker}: the served version {number} cannot be loaded: {refusal(error)}",
                "The newest version that can be loaded is served; without one, the stock has no model.",
                partial(_serve_another, symbol),
            )


def _load(symbol: Symbol, version: int) -> None:
    """Load both files of a version: PyTorch's weights and the ONNX model."""
    registry.trained(registry.load(symbol, version))


def _serve_another(symbol: Symbol) -> None:
    for version in registry.versions(symbol):
        with suppress(CorruptModel):
            _load(symbol, version.version)
            registry.set_champion(symbol, version.version)
            return
    mlflow_client().delete_registered_model_alias(symbol.ticker, CHAMPION)
    registry.synchronise()


def _runs() -> Iterator[Finding]:
    """MLflow runs that are still open, though their program has ended."""
    live = {_text(folder / "run") for folder in Jobs().folders() if Jobs().alive(folder)}
    with database.connect() as connection:
        if connection is None:
            return
        names = {row["experiment_id"]: row["name"] for row in database.experiments(connection, None)}
        open_runs = [run for run in database.runs(connection, None, None, None) if run["status"] == "RUNNING"]
    for run in open_runs:
        name, stock = run["tags"].get("mlflow.runName", ""), names[run["experiment_id"]]
        folder = settings().outputs / stock / name
        if name in live or time.time() - run["start_time"] / 1000 < DAY or (folder.is_dir() and _age(folder) < DAY):
            continue
        yield Finding(
            f"The run {run['run_id']} of {stock} is open since more than a day, and no program writes to it.",
            "It is closed as FAILED.",
            partial(_close, run["run_id"]),
        )


def _close(run_id: str) -> None:
    prepared_client().set_terminated(run_id, "FAILED")


def _text(file: Path) -> str | None:
    with suppress(OSError):
        return file.read_text(encoding="utf-8")
    return None


def _age(path: Path) -> float:
    """Seconds since the last change of a file, or of any file in a folder."""
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    with suppress(FileNotFoundError):
        return time.time() - max(file.stat().st_mtime for file in files)
    return 0.0
