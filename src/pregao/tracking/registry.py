"""The model registry: the versions of a stock's model, and the one that is served.

The champions of a local registry are read from its tables in milliseconds (database.py). MLflow's client, whose import
takes seconds, reads other registries and makes all changes.

A registered model has two aliases: `champion` is the version that is served, and promotion compares every new version
with `best` (training/promotion.py). Its tag `served_versions` has the versions that were served, oldest first.
"""

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pregao.errors import CorruptModel, NoEarlierVersion, NoModel, NoSuchVersion, PregaoError, refused_cause
from pregao.models.forecaster import Forecaster
from pregao.models.onnx import ONNX, OnnxModel
from pregao.prices.symbols import Symbol
from pregao.quantiles import PRICES
from pregao.settings import settings, sqlite_file
from pregao.tracking import database, remote
from pregao.tracking.client import MODEL, every_page, mlflow_client, prepared_client, store_lock
from pregao.tracking.code import MADE_ELSEWHERE
from pregao.tracking.database import BEST, CHAMPION, Version
from pregao.tracking.served import Entry, ServedModels, export_folder, publish, replace_all, shipped_stocks

if TYPE_CHECKING:
    from pregao.models.trained import TrainedModel
    from pregao.tracking.runs import Run

METRICS = "metrics.json"
"""Beside a shipped model; a trained version's are in its run."""

CODE = Path(__file__).with_name("pyfunc.py")

NEEDED = ("torch", "safetensors", "pandas")
"""The requirements of a registered model.

Pregão is not among them: no package index has it, and a stranger who registered its name could run code here.
"""


SERVED = "served_versions"
"""Tag of a registered model: the versions that were served, oldest first, without those that a rollback left."""

MOST_REMEMBERED = 200
"""Versions in that tag; MLflow limits the length of a tag."""


@dataclass(frozen=True)
class Served:
    """A registered version of a stock's model."""

    model: Forecaster
    stock: str
    version: int
    run_id: str
    folder: Path
    """Of the registered files, weights included."""


@dataclass(frozen=True)
class Registered:
    """A version of a stock's model, whether it is served or not.

    Attributes:
        version: its number.
        run_id: its run.
        started: when the run started.
        metrics: of the run, among them those of the test windows.
        served: whether it is or was served.
        champion: whether it is served now.
        best: whether promotion compares later versions with it.
    """

    version: int
    run_id: str
    started: datetime
    metrics: dict[str, float]
    served: bool
    champion: bool
    best: bool


def champion(symbol: Symbol) -> Served:
    """Return the stock's served model; a shipped one is registered at its first use.

    Raises:
        NoModel: the stock has no model; names the stocks that have one.
        CorruptModel: its files are damaged.
    """
    found = _champions(symbol.ticker).get(symbol.ticker)
    if found is None and symbol.ticker in shipped_stocks():
        found = _register_shipped(symbol)
    if found is None:
        raise NoModel(symbol, served_stocks())
    return _loaded(symbol, found)


def load(symbol: Symbol, version: int) -> Served:
    """Return a version of a stock's model, read back from the registry.

    Raises:
        NoSuchVersion: names the versions that there are.
        CorruptModel: its files are damaged or missing.
    """
    return _loaded(symbol, _version(symbol, version))


def trained(served: Served) -> "TrainedModel":
    """Return a registered version with its PyTorch network.

    Raises:
        CorruptModel: its files are damaged or missing.
    """
    from pregao.models.trained import TrainedModel

    return TrainedModel.load(served.folder)


def champions() -> dict[str, tuple[int, str]]:
    """Return version and run of each stock's served model, from the registry."""
    return {ticker: (found.version, found.run_id) for ticker, found in _champions().items()}


def served_stocks() -> list[str]:
    """Return the tickers that have a served model, shipped ones included."""
    return sorted({*_champions(), *shipped_stocks()})


def look() -> dict[str, int] | None:
    """Return the version of each champion, cheaply and without MLflow's client; None where only the client knows it.

    Raises:
        StorageError: the disk fails.
        TrackingUnavailable: MLflow does not answer.
    """
    uri = settings().tracking_uri
    if uri.startswith("http"):
        return remote.champions()
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        return {}
    with database.connect() as connection:
        if connection is None:
            return None
        return {ticker: found.version for ticker, found in database.champions(connection).items()}


def synchronise() -> None:
    """Register the shipped models, and let the registry's champions answer, each from its ONNX model.

    A champion without one, or with damaged files, is replaced by the version that was served before it; without one the
    shared model answers. /health shows the reason.
    """
    problems = {}
    for ticker in set(shipped_stocks()) - _champions().keys():
        try:
            _register_shipped(Symbol.parse(ticker))
        except PregaoError as error:
            problems[ticker] = f"The shipped model of {ticker} cannot be registered: {error}"
    entries = {}
    for ticker, champion in _champions().items():
        symbol = Symbol.parse(ticker)
        try:
            entries[ticker] = exported(symbol, champion.version)
        except PregaoError as error:
            problems[ticker] = f"{ticker} version {champion.version} cannot be served: {error}"
            entries |= _earlier(symbol)
    replace_all(ServedModels(entries, problems))


def _earlier(symbol: Symbol) -> dict[str, Entry]:
    """Return the last version before the champion that can be served; empty without one."""
    for version in reversed(_served_versions(symbol)[:-1]):
        with suppress(PregaoError):
            return {symbol.ticker: exported(symbol, version)}
    return {}


def exported(symbol: Symbol, number: int) -> Entry:
    """Return a version with an ONNX model, which is made once.

    Raises:
        NoSuchVersion: names the versions that there are.
        NotExported: it has no ONNX model with the same forecasts.
        CorruptModel: its files are damaged.
    """
    version = _version(symbol, number)
    folder, model = _onnx(symbol, version)
    if model is None:
        from pregao.models.export import export
        from pregao.models.trained import TrainedModel

        export(TrainedModel.load(_files(symbol, version)), folder)
    return Entry(version.version, version.run_id, folder)


def existing_export(symbol: Symbol, number: int) -> Entry | None:
    """Return a version whose ONNX model is on this machine's disk; None without one. MLflow's client is not used.

    Raises:
        NoSuchVersion: the stock has no such version, as far as MLflow's tables can be read.
    """
    with database.connect() as connection:
        version = None if connection is None else database.version(connection, symbol.ticker, number)
        if connection is not None and version is None:
            raise NoSuchVersion(symbol, number, database.versions(connection, symbol.ticker))
    if version is not None and version.folder is not None:
        folder, model = _onnx(symbol, version)
        return None if model is None else Entry(number, version.run_id, folder)
    for folder in (
        *export_folder(symbol.ticker, number, "").parent.glob(f"{symbol.ticker}-{number}-*"),
        *(settings().mlruns / "versions" / symbol.ticker).glob(f"{number}-*/artifacts/{MODEL}"),
    ):
        if (folder / ONNX).exists():
            name = folder.name if folder.name != MODEL else folder.parents[1].name
            return Entry(number, name.rpartition("-")[2], folder)
    return None


def _onnx(symbol: Symbol, version: Version) -> tuple[Path, OnnxModel | None]:
    """Return a version's ONNX model and its folder; without an undamaged one, None and the folder of its export."""
    folder = export_folder(symbol.ticker, version.version, version.run_id)
    for found in (_files(symbol, version), folder):
        if (found / ONNX).exists():
            with suppress(CorruptModel):
                return found, OnnxModel.load(found)
    return folder, None


def set_champion(symbol: Symbol, version: int) -> None:
    """Serve this version from now on; where no version is the best one yet, the one before is.

    Raises:
        NotExported: it has no ONNX model with the same forecasts; the champion is not changed.
    """
    entry = exported(symbol, version)
    history = _served_versions(symbol)
    if best(symbol) is None:
        set_best(symbol, history[-1] if history else version)
    _serve(symbol, [*(known for known in history if known != version), version], entry)


def previous(symbol: Symbol) -> int:
    """Return the version that was served before the champion.

    Raises:
        NoModel: the stock has no champion.
        NoEarlierVersion: the champion replaced no version.
    """
    history = _served_versions(symbol)
    if not history:
        raise NoModel(symbol, served_stocks())
    if len(history) == 1:
        raise NoEarlierVersion(symbol, history[0])
    return history[-2]


def rollback(symbol: Symbol) -> Served:
    """Serve the previous version again, and return it; its files are loaded first.

    A second rollback goes one version further back. If the version that is left was the best one, the returned one is
    the best from now on.

    Raises:
        NoModel: the stock has no champion.
        NoEarlierVersion: the champion replaced no version.
        NoSuchVersion: the previous version was deleted from the registry.
        CorruptModel: its files are damaged; the champion is not changed.
    """
    served = load(symbol, previous(symbol))
    entry = exported(symbol, served.version)
    *history, left = _served_versions(symbol)
    if best(symbol) == left:
        set_best(symbol, served.version)
    _serve(symbol, history, entry)
    return served


def versions(symbol: Symbol) -> list[Registered]:
    """Return every version of the stock's model, newest first."""
    client = prepared_client()
    found = every_page(client.search_model_versions, f"name = '{symbol.ticker}'")
    history, known = _served_versions(symbol), best(symbol)

    def listed(one: Any) -> Registered:  # noqa: ANN401 - MLflow has no types
        number, run = int(one.version), client.get_run(one.run_id)
        return Registered(
            version=number,
            run_id=one.run_id,
            started=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
            metrics=run.data.metrics,
            served=number in history,
            champion=number in history[-1:],
            best=number == known,
        )

    return sorted(map(listed, found), key=attrgetter("version"), reverse=True)


def best(symbol: Symbol) -> int | None:
    """Return the version with the alias `best`; None where no training has set it."""
    found = _registered(symbol)
    return None if found is None or BEST not in found.aliases else int(found.aliases[BEST])


def set_best(symbol: Symbol, version: int) -> None:
    """Compare later versions with this one too."""
    mlflow_client().set_registered_model_alias(symbol.ticker, BEST, str(version))


def is_shipped(served: Served) -> bool:
    """Whether the version comes with the package, so that no user has trained it."""
    return "shipped" in prepared_client().get_run(served.run_id).data.tags


def register(run: "Run", symbol: Symbol, folder: Path) -> int:
    """Register a saved TrainedModel as the stock's next version, without serving it, and return its number."""
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    client = mlflow_client()
    with mlflow.start_run(run_id=run.run_id), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it asks for an input example, whose run takes seconds
        logged = mlflow.pyfunc.log_model(
            name=MODEL,
            python_model=str(CODE),
            artifacts={MODEL: str(folder)},
            signature=ModelSignature(
                inputs=Schema([ColSpec(DataType.double)]),  # one unnamed column: lists, arrays and series
                outputs=Schema([ColSpec(DataType.long, "step"), *(ColSpec(DataType.double, name) for name in PRICES)]),
            ),
            pip_requirements=[f"{name}=={installed(name)}" for name in NEEDED],
        )
    # MLflow has finished the run with the block, but more metrics and tags follow.
    client.update_run(run.run_id, status="RUNNING")
    with suppress(MlflowException):  # it exists already
        client.create_registered_model(symbol.ticker)
    version = client.create_model_version(symbol.ticker, logged.model_uri, run.run_id, model_id=logged.model_id)
    return int(version.version)


def _register_shipped(symbol: Symbol) -> Version:
    """Register the model of the repository, once, also where several processes try.

    Raises:
        CorruptModel: its files are damaged.
    """
    from pregao.models.choices import as_params
    from pregao.tracking.runs import code_tags, start_run

    folder = settings().models / symbol.ticker
    with store_lock(".shipping"):
        if symbol.ticker not in _champions(symbol.ticker):
            card = OnnxModel.load(folder).card
            with start_run(symbol, "shipped", code_tags(MADE_ELSEWHERE)) as run, TemporaryDirectory() as copy:
                shutil.copytree(folder, Path(copy) / MODEL, ignore=shutil.ignore_patterns("*.md", "*.png", METRICS))
                run.params({"sequence_length": card.lookback, "future_steps": card.horizon, **as_params(card.network)})
                run.metrics(json.loads((folder / METRICS).read_text(encoding="utf-8")))
                run.tags({"shipped": True, "promoted": True, "promotion": "it comes with the repository"})
                version = register(run, symbol, Path(copy) / MODEL)
            set_champion(symbol, version)
        return _champions(symbol.ticker)[symbol.ticker]


def _loaded(symbol: Symbol, version: Version) -> Served:
    """Load the ONNX model, or PyTorch's for a version without one."""
    model: Forecaster | None = _onnx(symbol, version)[1]
    if model is None:
        from pregao.models.trained import TrainedModel

        model = TrainedModel.load(_files(symbol, version))
    return Served(model, symbol.ticker, version.version, version.run_id, _files(symbol, version))


def _files(symbol: Symbol, version: Version) -> Path:
    return (version.folder or _downloaded(symbol, version)) / "artifacts" / MODEL


def _version(symbol: Symbol, number: int) -> Version:
    with database.connect() as connection:
        found = connection is not None and database.version(connection, symbol.ticker, number)
    return found or _version_by_client(symbol, number)


def _downloaded(symbol: Symbol, version: Version) -> Path:
    """Return the copy of a version's files in mlruns/versions; it is downloaded once."""
    folder = settings().mlruns / "versions" / symbol.ticker / f"{version.version}-{version.run_id}"
    if folder.is_dir():
        return folder
    import mlflow

    prepared_client()
    name = f"models:/{symbol.ticker}/{version.version}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=folder.parent) as copy:
        try:
            found = mlflow.artifacts.download_artifacts(name, dst_path=copy)
        except mlflow.MlflowException as error:
            raise refused_cause(error) or CorruptModel(Path(name), str(error)) from error
        try:
            os.replace(found, folder)
        except OSError:
            if not folder.is_dir():  # another process has just downloaded it
                raise
    return folder


def _champions(ticker: str | None = None) -> Mapping[str, Version]:
    """Return the served versions by ticker: from MLflow's tables, or from its client, which may ask for one stock."""
    with database.connect() as connection:
        if connection is not None:
            return database.champions(connection)
    client = prepared_client()
    models = every_page(client.search_registered_models, ticker and f"name = '{ticker}'")
    served = {str(model.name): model.aliases[CHAMPION] for model in models if CHAMPION in model.aliases}
    return {name: _of_client(client.get_model_version(name, version)) for name, version in served.items()}


def _version_by_client(symbol: Symbol, version: int) -> Version:
    from mlflow.exceptions import MlflowException

    client = prepared_client()
    try:
        return _of_client(client.get_model_version(symbol.ticker, str(version)))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        known = every_page(client.search_model_versions, f"name = '{symbol.ticker}'")
        raise NoSuchVersion(symbol, version, sorted(int(found.version) for found in known)) from None


def _registered(symbol: Symbol) -> Any:  # noqa: ANN401 - MLflow has no types
    """Return MLflow's registered model; None where the stock has no version."""
    return next(iter(every_page(prepared_client().search_registered_models, f"name = '{symbol.ticker}'")), None)


def _served_versions(symbol: Symbol) -> list[int]:
    """Return the versions that were served, oldest first; the champion is the last one."""
    model = _registered(symbol)
    if model is None or CHAMPION not in model.aliases:
        return []
    champion = int(model.aliases[CHAMPION])
    known = [int(version) for version in model.tags.get(SERVED, "").split()]
    # Another program may have moved the alias; homes of earlier versions have no tag.
    before = known[: known.index(champion)] if champion in known else known
    return [*before, champion]


def _serve(symbol: Symbol, history: list[int], entry: Entry) -> None:
    """Make the last version of this history, whose ONNX model is `entry`, the champion."""
    client = mlflow_client()
    client.set_registered_model_alias(symbol.ticker, CHAMPION, str(history[-1]))
    client.set_registered_model_tag(symbol.ticker, SERVED, " ".join(map(str, history[-MOST_REMEMBERED:])))
    publish(symbol.ticker, entry)


def _of_client(found: Any) -> Version:  # noqa: ANN401 - MLflow has no types
    return Version(int(found.version), str(found.run_id), None)
