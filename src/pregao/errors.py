"""Refusals: each exception takes the objects and composes one sentence of asked, found, allowed and next."""

import errno
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path

from pregao.settings import REPOSITORY, settings

FULL_OR_READ_ONLY = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
}

# To the last @ of the word: drivers take a password with @ or / in it as it is.
_PASSWORD = re.compile(r"//\S*@")

_PATH = re.compile(r"(?<![\w/.:])(?:(?:file|sqlite):/*)?/(?:[^\s/,;:()'\"]+/)+([^\s/,;:()'\"]*)")


class PregaoError(Exception):
    """An input or a surrounding that is refused; its text is meant for a person. Commands exit with 2."""


class InvalidSymbol(PregaoError):
    """A ticker that is no B3 ticker and none of the sample indices."""

    def __init__(self, asked: str, samples: Iterable[str]) -> None:
        super().__init__(
            f"stock={asked[:40]!r} is no ticker. A B3 ticker is four letters or digits beginning with a letter, then "
            f"one or two digits (VALE3, B3SA3, TAEE11), with or without .SA; {' and '.join(samples)} are samples that "
            "need no network. Check the spelling."
        )


class InvalidDates(PregaoError):
    """A date that is not ISO 8601, or a range that ends before it starts."""


class InvalidChoice(PregaoError):
    """A configuration key or value that is not allowed."""


class UnknownStock(PregaoError):
    """The source answers, and knows no such stock."""

    def __init__(self, symbol: object, source: str, asked: str, remedy: str) -> None:
        super().__init__(f"{symbol}: {source} knows no such stock (asked {asked}). {remedy}")


class PricesUnavailable(PregaoError):
    """No source had prices; says what was tried (`tried`, one reason a source)."""

    def __init__(self, symbol: object, tried: Sequence[str], remedy: str) -> None:
        self.tried = tuple(tried)
        super().__init__(f"{symbol}: no prices. Tried: {'; '.join(tried)}. {remedy}")


class NothingInRange(PricesUnavailable):
    """The source has the stock, and no session between the two dates."""


class BadPrices(PregaoError):
    """A table of prices that cannot be used; lists every defect found, not only the first."""

    def __init__(self, symbol: object, origin: str, defects: Sequence[str], remedy: str) -> None:
        super().__init__(f"{symbol}: {origin} cannot be used: {'; '.join(defects)}. {remedy}")


class BadQuotesFile(BadPrices):
    """A file of B3's daily quotes (COTAHIST) that is refused as a whole."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        PregaoError.__init__(
            self,
            f"{path}: this file cannot be used: {reason}. Allowed are B3's yearly, monthly and daily COTAHIST files as "
            "they are published, zipped or not. Fetch it again, or take it out of the folder.",
        )


class TooFewSessions(PregaoError):
    """A range with fewer sessions than the split needs."""

    def __init__(self, symbol: object, first: date, last: date, found: int, needed: int, why: str) -> None:
        super().__init__(
            f"{symbol}: {found} sessions from {first} to {last}, and at least {needed} are needed ({why}). "
            "Widen start= and end=, or shorten data.lookback= and data.horizon=."
        )


class BadCheckpoint(PregaoError):
    """A checkpoint or a set of weights that cannot be loaded."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"ckpt_path={path}: {reason}. Allowed is a file that a training of the same stock, dates, model.* and "
            "data.* left in its checkpoints/ folder; give that one, or leave ckpt_path out to start afresh."
        )


class Diverged(PregaoError):
    """A training whose loss is no number any more."""

    def __init__(self, epoch: int, learning_rate: float) -> None:
        super().__init__(
            f"The training diverged: in epoch {epoch} the validation loss was no finite number, with "
            f"optimizer.learning_rate={learning_rate:g}. Nothing was registered. Choose a smaller one; 5e-4 is usual."
        )


class CorruptModel(PregaoError):
    """A stored model whose files are missing, damaged, or of another network."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"The model in {folder.name}/ cannot be loaded ({reason}). It needs model.safetensors and model.json as a "
            "training run wrote them; train the stock anew with train.py."
        )


class MissingArtifact(PregaoError):
    """A file that a run should have left."""

    def __init__(self, run_id: str, name: str) -> None:
        super().__init__(
            f"The run {run_id[:8]} has no {name}: it was stopped, was shipped, or is older than that file. "
            "Choose another run, or train anew."
        )


class NoModel(PregaoError):
    """A stock without a served model."""

    def __init__(self, symbol: object, available: Sequence[str], problem: str = "") -> None:
        have = f"there are models for {', '.join(available)}" if available else "there is none for any stock yet"
        reason = f" {problem}" if problem else ""
        super().__init__(f"{symbol}: no trained model; {have}.{reason} Train one: python train.py stock={symbol}")


class NotNeeded(PregaoError):
    """A training that was wanted only if the stock had drifted; no failure, so that commands exit with 0."""

    def __init__(self, symbol: object, score: float, trained_at: str) -> None:
        super().__init__(
            f"{symbol}: nothing was trained, since if_drifted=true and the stock behaves as its model of {trained_at} "
            f"knows it: drift score {score:.2f}, a warning comes above 1. To train in any case leave if_drifted out."
        )


class TrainingRuns(PregaoError):
    """A second training, while one goes on."""

    def __init__(self, job: str | None, stock: str | None) -> None:
        self.job = job
        which = f"job {job}, {stock}" if job else "it is just starting"
        super().__init__(f"Another training runs ({which}); one at a time is allowed. Wait for it, or cancel it.")


class NoSuchJob(PregaoError):
    """A training job that is not known here."""

    def __init__(self, asked: str) -> None:
        super().__init__(f"There is no training job {asked[:40]!r}. GET /train lists the known ones.")


class InvalidCloses(PregaoError):
    """Closes that no forecast can be made from."""


class IncomparableLosses(PregaoError):
    """Two series of losses that no test of their difference can be made of."""


class StorageError(PregaoError):
    """A folder that cannot be written, or a full disk."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(
            f"{path}: cannot be written ({reason}). Free some space or give another folder: PREGAO_HOME=/some/folder. "
            "What was there before is unchanged."
        )


class TrackingUnavailable(PregaoError):
    """MLflow's database or server does not answer, or answers with what it cannot use."""

    def __init__(self, uri: str, reason: str) -> None:
        told = _PASSWORD.sub("//…@", f"MLflow at {uri} cannot be used ({reason.strip()})")
        super().__init__(
            f"{told}. Allowed is an MLflow server that runs, or a database of this "
            "MLflow: set MLFLOW_TRACKING_URI, leave it unset for mlruns/mlflow.db, or move a damaged file away."
        )


class ForecastsUnavailable(PregaoError):
    """The database of past forecasts does not answer, cannot be written, or is another program's."""

    def __init__(self, uri: str, reason: str) -> None:
        told = _PASSWORD.sub("//…@", f"The past forecasts at {uri} cannot be reached ({reason.strip()})")
        super().__init__(
            f"{told}. Forecasts go on, and are written down later. Allowed is a PostgreSQL that runs, or a sqlite file "
            "that can be written: set PREGAO_FORECASTS_URI, or leave it unset for outputs/forecasts.db."
        )


class JobsFailed(PregaoError):
    """Jobs of a sweep that failed; the others are done."""

    def __init__(self, job: int, overrides: Sequence[str], reason: str, failed: int, folder: Path) -> None:
        more = f", and {failed - 1} more failed" if failed > 1 else ""
        super().__init__(
            f"{reason} So job {job} ({' '.join(overrides)}) failed{more}; the others are in the table. Once that is "
            f"mended, the same command with hydra.sweep.dir={folder} takes up what failed."
        )


class RayUnavailable(PregaoError):
    """A Ray cluster that does not answer."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"hydra.launcher.ray.init.address={address}: no Ray cluster answers there ({reason}). Allowed is "
            "HOST:6379, ray://HOST:10001, auto for one that runs on this machine, or local to start one for this sweep."
        )


class StudyUnavailable(PregaoError):
    """A storage of studies that does not answer, or is none."""

    def __init__(self, storage: str, reason: str) -> None:
        told = _PASSWORD.sub("//…@", f"storage={storage} cannot be used ({reason.strip()})")
        super().__init__(
            f"{told}. Allowed is sqlite:////a/file.db, or postgresql://USER:PASSWORD@HOST/DATABASE where one runs."
        )


def refusal(error: BaseException) -> PregaoError | None:
    """What a person is to read of an error: the refusal or the failed storage behind it, or that MLflow failed."""
    found = refused_cause(error)
    # MLflow's own are known by name, since importing it takes a second; it wraps all that happens to it in them.
    if found is None and any(type(cause).__module__.startswith("mlflow.") for cause in causes(error)):
        return TrackingUnavailable(settings().tracking_uri, first_line(error, 300))
    return found


def refused_cause(error: BaseException) -> PregaoError | None:
    """The error itself or a cause of it, where that is a refusal or a failed storage."""
    for cause in causes(error):
        if isinstance(cause, PregaoError):
            return cause
        if isinstance(cause, OSError) and cause.errno in FULL_OR_READ_ONLY:
            return StorageError(str(cause.filename or settings().home), os.strerror(cause.errno))
        # safetensors and torch write from Rust and C++, and keep the system's reason only as text.
        if isinstance(cause, Exception) and os.strerror(errno.ENOSPC) in str(cause):
            return StorageError(settings().home, os.strerror(errno.ENOSPC))
        if isinstance(cause, sqlite3.DatabaseError):
            return _of_database(cause)
        # Sources of prices turn theirs into PricesUnavailable; what is left is the tracking server.
        if isinstance(cause, ConnectionError):
            return TrackingUnavailable(settings().tracking_uri, str(cause))
    return None


def sentence_for_clients(sentence: str) -> str:
    """Without folders of the host: a path keeps its last part."""
    for folder in (settings().home, REPOSITORY):  # a folder's name may hold spaces
        sentence = sentence.replace(f"{folder}/", "")
    return _PATH.sub(r"\1", sentence)


def first_line(error: BaseException, length: int = 200) -> str:
    """The first line of another library's message."""
    return (str(error) or repr(error)).splitlines()[0][:length]


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what caused it, and so on to the first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _of_database(error: sqlite3.DatabaseError) -> PregaoError:
    uri = settings().tracking_uri
    if error.sqlite_errorname.startswith(("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_IOERR")):
        return StorageError(uri.removeprefix("sqlite:///"), str(error))
    return TrackingUnavailable(uri, str(error))
