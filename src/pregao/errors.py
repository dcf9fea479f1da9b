"""The package's exceptions; each composes a sentence of what was asked, found and allowed, and what to do next."""

import errno
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from pregao.settings import REPOSITORY, settings, sqlite_file

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

# Up to the last @ of the word: drivers accept a password with an unescaped @ or /.
_PASSWORD = re.compile(r"//\S*@")

_PATH = re.compile(r"(?<![\w/.:])(?:(?:file|sqlite):/*)?/(?:[^\s/,;:()'\"]+/)+([^\s/,;:()'\"]*)")


class PregaoError(Exception):
    """A refused input or environment; its text is shown to the user. Commands exit with code 2."""


class InvalidSymbol(PregaoError):
    """A ticker that is neither a B3 ticker nor a sample index."""

    def __init__(self, asked: str, samples: Iterable[str]) -> None:
        super().__init__(
            f"stock={asked[:40]!r} is not a ticker. A B3 ticker is a letter, three letters or digits, and one or two "
            f"digits (VALE3, B3SA3, TAEE11), with or without .SA; {' and '.join(samples)} are samples that need no "
            "network. Check the spelling."
        )


class OddLot(InvalidSymbol):
    """A ticker of the odd-lot market."""

    def __init__(self, asked: str, stock: str) -> None:
        PregaoError.__init__(
            self,
            f"stock={asked[:40]!r} is the odd-lot market of {stock}, whose few trades have other prices. Ask for "
            f"stock={stock}.",
        )


class NotAStock(InvalidSymbol):
    """A name of a B3 index."""

    def __init__(self, asked: str, samples: Iterable[str]) -> None:
        PregaoError.__init__(
            self,
            f"stock={asked[:40]!r} is an index, and only stocks are forecast. Ask for a fund that follows it, such as "
            f"stock=BOVA11, or for a sample: {' or '.join(samples)}.",
        )


class InvalidDates(PregaoError):
    """A date that is not ISO 8601, or a range that ends before it starts."""


class InvalidChoice(PregaoError):
    """A configuration key or value that is not allowed."""


class UnknownStock(PregaoError):
    """The source answers but has no such stock."""

    def __init__(self, symbol: object, source: str, asked: str, remedy: str) -> None:
        super().__init__(f"{symbol}: {source} knows no such stock (asked {asked}). {remedy}")


class PricesUnavailable(PregaoError):
    """No source returned prices; `tried` has one reason per source."""

    def __init__(self, symbol: object, tried: Sequence[str], remedy: str) -> None:
        self.tried = tuple(tried)
        super().__init__(f"{symbol}: no prices. Tried: {'; '.join(tried)}. {remedy}")


class NothingInRange(PricesUnavailable):
    """The source has the stock, but no session between the two dates."""


class BadPrices(PregaoError):
    """A price table that cannot be used; the sentence lists every defect, not only the first."""

    def __init__(self, symbol: object, origin: str, defects: Sequence[str], remedy: str) -> None:
        super().__init__(f"{symbol}: {origin} cannot be used: {'; '.join(defects)}. {remedy}")


class BadQuotesFile(BadPrices):
    """A file of B3's daily quotes (COTAHIST) that cannot be used."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        PregaoError.__init__(
            self,
            f"{path}: this file cannot be used: {reason}. Allowed are B3's yearly, monthly and daily COTAHIST files, "
            "unmodified, zipped or not. Download it again, or remove it from the folder.",
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
            f"ckpt_path={path}: {reason}. Allowed is a file from the checkpoints/ folder of a training with the same "
            "stock, dates, model.* and data.*; give such a file, or leave out ckpt_path to start from scratch."
        )


class Diverged(PregaoError):
    """A training whose validation loss is not finite."""

    def __init__(self, epoch: int, learning_rate: float) -> None:
        super().__init__(
            f"The training diverged: in epoch {epoch} the validation loss was not finite, with "
            f"optimizer.learning_rate={learning_rate:g}. Nothing was registered. Choose a smaller learning rate; "
            "the default is 5e-4."
        )


class CorruptModel(PregaoError):
    """A stored model whose files are missing or damaged, or belong to another network."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"The model in {folder.name}/ cannot be loaded ({reason}). It needs the files that a training run wrote; "
            "train the stock again with train.py."
        )


class NotExported(PregaoError):
    """A model that cannot be served, since it has no ONNX version with the same forecasts."""

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(
            f"{model} cannot be exported to ONNX ({reason}). It can be evaluated and compared, not served."
        )


class MissingArtifact(PregaoError):
    """A file that a run does not have."""

    def __init__(self, run_id: str, name: str) -> None:
        super().__init__(
            f"The run {run_id[:8]} has no {name}: it was interrupted, its model was shipped with the package, or it "
            "was made before runs had this file. Choose another run, or train again."
        )


class NoModel(PregaoError):
    """A stock without a served model."""

    def __init__(self, symbol: object, available: Sequence[str], problem: str = "") -> None:
        have = f"there are models for {', '.join(available)}" if available else "no stock has one yet"
        reason = f" {problem}" if problem else ""
        super().__init__(f"{symbol}: no trained model; {have}.{reason} Train one: python train.py stock={symbol}")


class NotServed(PregaoError):
    """A champion that POST /predict cannot use."""

    def __init__(self, stock: str, version: int, reason: str) -> None:
        super().__init__(f"{stock} version {version} is not served: {reason}.")


class NotReady(PregaoError):
    """A version whose ONNX model is being made."""

    def __init__(self, symbol: object, version: int) -> None:
        super().__init__(
            f"{symbol}: version {version} has no ONNX model yet; it is being made, which takes seconds. Ask again, or "
            "leave out version= for the served one."
        )


class ForecastFailed(PregaoError):
    """Inference processes that do not answer."""

    def __init__(self) -> None:
        super().__init__(
            "The inference process does not answer; it is started again. Ask again in some seconds; the server's log "
            "has the reason."
        )


class NoSuchVersion(PregaoError):
    """A version of a stock's model that is not registered."""

    def __init__(self, symbol: object, asked: int, known: Sequence[int]) -> None:
        found = f"registered are {', '.join(map(str, known))}" if known else "no version is registered"
        super().__init__(
            f"{symbol}: version {asked} does not exist; {found}. Choose one of them, or leave out version= for the "
            f"served one. pregao models stock={symbol} lists them."
        )


class NoEarlierVersion(PregaoError):
    """A rollback of a stock whose served version replaced no other version."""

    def __init__(self, symbol: object, served: int) -> None:
        super().__init__(
            f"{symbol}: version {served} is served, and it replaced no earlier version of {symbol}. A rollback returns "
            f"to the version that was served before. Train another one: python train.py stock={symbol}"
        )


class AdminKeyNeeded(PregaoError):
    """A request over HTTP that only the operator may make."""

    def __init__(self, asked: str, allowed: str, configured: bool) -> None:
        why = (
            "its header X-Admin-Key is missing or wrong"
            if configured
            else "this server accepts none, because PREGAO_ADMIN_KEY is not set"
        )
        super().__init__(
            f"{asked} over HTTP needs the operator's key, and {why}. Allowed without it: {allowed}. The operator sets "
            "PREGAO_ADMIN_KEY and sends it as X-Admin-Key, or uses the command line."
        )


class TrainingTooLarge(PregaoError):
    """A training whose estimated cost is above a limit."""

    def __init__(self, cost: str, allowed: str, limit: str) -> None:
        super().__init__(
            f"This training is too large: it would need {cost}, and at most {allowed} are allowed ({limit}). Nothing "
            "was trained. Choose a smaller model, trainer.max_epochs, data.batch_size or range of dates."
        )


class LimitReached(PregaoError):
    """A training that was ended because it needed more time or memory than is allowed."""

    def __init__(self, allowed: str, limit: str) -> None:
        super().__init__(
            f"The training was ended because it needed more than {allowed} ({limit}). The served model is unchanged. "
            "Choose a smaller model, trainer.max_epochs or data.batch_size."
        )


class NotNeeded(PregaoError):
    """A training with if_drifted=true for a stock that has not drifted; not a failure: commands exit with code 0."""

    def __init__(self, symbol: object, score: float, trained_at: str) -> None:
        super().__init__(
            f"{symbol}: nothing was trained, because if_drifted=true and the stock has not drifted since its model of "
            f"{trained_at}: drift score {score:.2f}, with a warning above 1. Leave out if_drifted to train anyway."
        )


class TrainingRuns(PregaoError):
    """A training was requested while another one runs."""

    def __init__(self, job: str | None, stock: str | None) -> None:
        self.job = job
        which = f"job {job}, {stock}" if job else "it is just starting"
        super().__init__(f"Another training is running ({which}); only one is allowed. Wait for it, or cancel it.")


class NoSuchJob(PregaoError):
    """A training job that does not exist."""

    def __init__(self, asked: str) -> None:
        super().__init__(f"The training job {asked[:40]!r} does not exist. GET /train lists all jobs.")


class InvalidCloses(PregaoError):
    """Closes that a forecast cannot be made from."""


class IncomparableLosses(PregaoError):
    """Two series of losses whose difference cannot be tested for significance."""


class StorageError(PregaoError):
    """A folder that cannot be written, or a full disk."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(
            f"{path}: cannot be written ({reason}). Free some space or give another folder: PREGAO_HOME=/some/folder. "
            "Existing files are unchanged."
        )


class TrackingUnavailable(PregaoError):
    """MLflow's database or server does not answer, or cannot be used."""

    def __init__(self, uri: str, reason: str) -> None:
        found = _PASSWORD.sub("//…@", f"MLflow at {uri} cannot be used ({reason.strip()})")
        super().__init__(
            f"{found}. Allowed is a running MLflow server, or a database of the installed MLflow version: set "
            "MLFLOW_TRACKING_URI, leave it unset for mlruns/mlflow.db, or move a damaged file away."
        )


class ForecastsUnavailable(PregaoError):
    """The database of past forecasts does not answer, cannot be written, or belongs to another program."""

    def __init__(self, uri: str, reason: str) -> None:
        found = _PASSWORD.sub("//…@", f"The past forecasts at {uri} cannot be reached ({reason.strip()})")
        super().__init__(
            f"{found}. Forecasts still work, and are stored later. Allowed is a running PostgreSQL, or a writable "
            "sqlite file: set PREGAO_FORECASTS_URI, or leave it unset for outputs/forecasts.db."
        )


class JobsFailed(PregaoError):
    """Failed jobs of a sweep; the others are complete."""

    def __init__(self, job: int, overrides: Sequence[str], reason: str, failed: int, folder: Path) -> None:
        more = f", and {failed - 1} more failed" if failed > 1 else ""
        super().__init__(
            f"{reason} So job {job} ({' '.join(overrides)}) failed{more}; the others are in the table. Correct the "
            f"cause, then repeat only the failed jobs by the same command with hydra.sweep.dir={folder}."
        )


class RayUnavailable(PregaoError):
    """A Ray cluster that does not answer."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"hydra.launcher.ray.init.address={address}: no Ray cluster answers there ({reason}). Allowed is "
            "HOST:6379, ray://HOST:10001, auto for a cluster on this machine, or local to start one for this sweep."
        )


class StudyUnavailable(PregaoError):
    """A study database that does not answer, or cannot be used."""

    def __init__(self, storage: str, reason: str) -> None:
        found = _PASSWORD.sub("//…@", f"storage={storage} cannot be used ({reason.strip()})")
        super().__init__(
            f"{found}. Allowed is sqlite:////a/file.db, or a running postgresql://USER:PASSWORD@HOST/DATABASE."
        )


def refusal(error: BaseException) -> PregaoError | None:
    """The error to show to the user: as `refused_cause`, or TrackingUnavailable for an error of MLflow."""
    found = refused_cause(error)
    # MLflow's classes are recognised by module, since importing MLflow takes a second; it wraps all errors in them.
    if found is None and any(type(cause).__module__.startswith("mlflow.") for cause in causes(error)):
        return TrackingUnavailable(settings().tracking_uri, first_line(error, 300))
    return found


def refused_cause(error: BaseException) -> PregaoError | None:
    """The first PregaoError or storage failure among the error and its causes; None without one."""
    for cause in causes(error):
        if isinstance(cause, PregaoError):
            return cause
        if isinstance(cause, OSError) and cause.errno in FULL_OR_READ_ONLY:
            return StorageError(str(cause.filename or settings().home), os.strerror(cause.errno))
        # safetensors and torch write from Rust and C++, and report the system's reason only as text.
        if isinstance(cause, Exception) and os.strerror(errno.ENOSPC) in str(cause):
            return StorageError(settings().home, os.strerror(errno.ENOSPC))
        if isinstance(cause, sqlite3.DatabaseError):
            return _of_database(cause)
        # Price sources raise PricesUnavailable instead, so the connection was to the tracking server.
        if isinstance(cause, ConnectionError):
            return TrackingUnavailable(settings().tracking_uri, str(cause))
    return None


def answer_of(error: PregaoError) -> dict[str, Any]:
    """A refusal as JSON, for the process that asked for the work."""
    return {"refusal": type(error).__name__, "sentence": str(error)}


def raise_refusal(answer: Mapping[str, Any]) -> None:
    """Raise the refusal that another process answered, if it is one."""
    if "refusal" in answer:
        kind: type[PregaoError] = globals()[answer["refusal"]]
        raise kind.__new__(kind, answer["sentence"])


def sentence_for_clients(sentence: str) -> str:
    """The sentence without the host's folders: a path keeps its last part."""
    for folder in (settings().home, REPOSITORY):  # a folder's name may hold spaces
        sentence = sentence.replace(f"{folder}/", "")
    return _PATH.sub(r"\1", sentence)


def first_line(error: BaseException, length: int = 200) -> str:
    """The first line of another library's message."""
    return (str(error) or repr(error)).splitlines()[0][:length]


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, its cause, and so on to the first cause."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _of_database(error: sqlite3.DatabaseError) -> PregaoError:
    uri = settings().tracking_uri
    if error.sqlite_errorname.startswith(("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_IOERR")):
        return StorageError(sqlite_file(uri) or uri, str(error))
    return TrackingUnavailable(uri, str(error))
