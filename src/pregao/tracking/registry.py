"""MLflow: runs, artifacts, the registry, and a stock's served model. The only file that knows MLflow's API."""

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time
from typing import Any

# Read by MLflow at import: it would report its usage to its makers, and its own doings to the terminal.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Its own choice lets a server that is down hold a person up for four minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from pregao.errors import (
    CorruptModel,
    InvalidSymbol,
    MissingArtifact,
    NoModel,
    TrackingUnavailable,
    refusal,
    refused_cause,
)
from pregao.files import ALEMBIC, atomic_write, locked, or_null
from pregao.models.choices import as_params
from pregao.models.trained import CARD, TrainedModel
from pregao.prices.symbols import Symbol
from pregao.quantiles import BANDS
from pregao.settings import TRACKING_URI, settings

CHAMPION = "champion"
"""The registry's alias of the version that is served."""

HISTORY = "history_"
"""How the names of metrics begin that have one value an epoch."""

PYFUNC = Path(__file__).with_name("pyfunc.py")
MODEL = "model"
PRICES = ("close", *BANDS)
NEEDED = ("torch", "safetensors", "pandas")
"""What a registered model needs from a package index; named, because MLflow takes seconds to find it out.

Pregão itself is not among them: no index has it, and whoever took its name there could run code here.
"""

logging.getLogger("alembic").setLevel(logging.WARNING)
logging.getLogger("urllib3").setLevel(logging.ERROR)  # each retry would be a line; the failure is one sentence
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs a trace of what it raises


@dataclass(frozen=True)
class Served:
    """A registered version of a stock's model."""

    model: TrainedModel
    stock: str
    version: int
    run_id: str
    folder: Path


@dataclass(frozen=True)
class Run:
    """An MLflow run that is going on."""

    run_id: str

    def params(self, params: Mapping[str, object]) -> None:
        """Log what decided the run."""
        _client().log_batch(self.run_id, params=[Param(name, str(value)) for name, value in params.items()])

    def metrics(self, metrics: Mapping[str, float | None]) -> None:
        """Log final figures; what is not finite is left out, since databases refuse it."""
        now = _now()
        rows = [Metric(name, value, now, 0) for name, value in or_null(metrics).items() if value is not None]
        _client().log_batch(self.run_id, metrics=rows)

    def history(self, epochs: Mapping[str, Sequence[float]], first: int = 0) -> None:
        """Log one value per epoch and name, from the epoch `first` on."""
        now = _now()
        rows = [Metric(name, v, now, epoch) for name, values in epochs.items() for epoch, v in enumerate(values, first)]
        for first in range(0, len(rows), 1000):  # MLflow's limit for one batch
            _client().log_batch(self.run_id, metrics=rows[first : first + 1000])

    def tags(self, tags: Mapping[str, object]) -> None:
        """Tag the run."""
        _client().log_batch(self.run_id, tags=[RunTag(name, str(value)) for name, value in tags.items()])

    def artifacts(self, folder: Path) -> None:
        """Keep a copy of every file of a folder."""
        _client().log_artifacts(self.run_id, str(folder))

    def register(self, symbol: Symbol, folder: Path) -> int:
        """Register a saved TrainedModel as the stock's next version, not yet served."""
        with mlflow.start_run(run_id=self.run_id), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it wants an input example, and seconds to run it
            logged = mlflow.pyfunc.log_model(
                name=MODEL,
                python_model=str(PYFUNC),
                artifacts={MODEL: str(folder)},
                signature=ModelSignature(
                    inputs=Schema([ColSpec(DataType.double)]),  # one unnamed column: lists, arrays and series
                    outputs=Schema([ColSpec(DataType.long, "step"), *(ColSpec(DataType.double, n) for n in PRICES)]),
                ),
                pip_requirements=[f"{name}=={installed(name)}" for name in NEEDED],
            )
        # MLflow calls the run finished when the block ends; its figures and its verdict are still to come.
        _client().update_run(self.run_id, status="RUNNING")
        with suppress(MlflowException):  # it exists
            _client().create_registered_model(symbol.ticker)
        version = _client().create_model_version(
            symbol.ticker, source=logged.model_uri, run_id=self.run_id, model_id=logged.model_id
        )
        return int(version.version)


@contextmanager
def start_run(experiment: Symbol | str, name: str, tags: Mapping[str, str] | None = None) -> Iterator[Run]:
    """A run in a stock's experiment or in `backtest`: FINISHED in the end, FAILED after an error, KILLED by ctrl-C."""
    _prepare()
    run = _client().create_run(_experiment(str(experiment)), tags=dict(tags or {}), run_name=name).info
    status = "FAILED"
    try:
        yield Run(run.run_id)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        _client().set_terminated(run.run_id, status)


def child_tags(symbol: Symbol, sweep_id: str) -> dict[str, str]:
    """Tags of a run that belongs to a sweep or a search; its parent, one a stock, is made where there is none yet."""
    return {"sweep_id": sweep_id, "mlflow.parentRunId": sweep_parent(symbol, sweep_id).run_id}


def sweep_parent(symbol: Symbol, sweep_id: str) -> Run:
    """The run that holds a sweep's runs of a stock, and is going on."""
    _prepare()
    experiment = _experiment(symbol.ticker)
    wanted = f"tags.sweep_id = '{sweep_id}' AND tags.sweep_role = 'parent'"
    with _alone(".sweep"):
        found = _client().search_runs([experiment], wanted, max_results=1)
        if found:
            _client().update_run(found[0].info.run_id, status="RUNNING")
            return Run(found[0].info.run_id)
        tags = {"sweep_id": sweep_id, "sweep_role": "parent"}
        return Run(_client().create_run(experiment, tags=tags, run_name=sweep_id).info.run_id)


def end_sweep(symbol: Symbol, sweep_id: str, tags: Mapping[str, object], failed: bool = False) -> None:
    """Close the parent of a sweep's runs of a stock, with what they came to."""
    parent = sweep_parent(symbol, sweep_id)
    parent.tags(tags)
    _client().set_terminated(parent.run_id, "FAILED" if failed else "FINISHED")


def load(symbol: Symbol, version: int) -> Served:
    """A version of a stock's model, read back from the registry.

    Raises:
        CorruptModel: its files are damaged or gone.
    """
    _prepare()
    found = _client().get_model_version(symbol.ticker, str(version))
    name = f"models:/{symbol.ticker}/{version}"
    try:
        folder = Path(mlflow.artifacts.download_artifacts(name)) / "artifacts" / MODEL
    except MlflowException as error:
        raise refused_cause(error) or CorruptModel(Path(name), str(error)) from error
    return Served(TrainedModel.load(folder), symbol.ticker, version, str(found.run_id), folder)


def champion(symbol: Symbol) -> Served:
    """The stock's served model; a shipped one is registered at its first use.

    Raises:
        NoModel: names the stocks that have one.
        CorruptModel: its files are damaged.
    """
    _prepare()
    version = _champion_version(symbol)
    if version is None and symbol.ticker in shipped_stocks():
        version = _register_shipped(symbol)
    if version is None:
        raise NoModel(symbol, served_stocks())
    return load(symbol, version)


def set_champion(symbol: Symbol, version: int) -> None:
    """Serve this version from now on."""
    _client().set_registered_model_alias(symbol.ticker, CHAMPION, str(version))
    _announce()


def champions() -> dict[str, tuple[int, str]]:
    """Version and run of each stock's served model, as the registry has them now."""
    _prepare()
    found = {}
    for model in _all(_client().search_registered_models):
        if CHAMPION in model.aliases:
            version = _client().get_model_version_by_alias(model.name, CHAMPION)
            found[str(model.name)] = (int(version.version), str(version.run_id))
    return found


def served_stocks() -> list[str]:
    """Tickers that have a served model, shipped ones included."""
    _prepare()
    registered = {model.name for model in _all(_client().search_registered_models) if CHAMPION in model.aliases}
    return sorted(registered | set(shipped_stocks()))


def shipped_stocks() -> list[str]:
    """Tickers whose trained model comes with the repository."""
    found = []
    for card in settings().models.glob(f"*/{CARD}"):
        with suppress(InvalidSymbol):
            found.append(Symbol.parse(card.parent.name).ticker)
    return sorted(found)


def changes() -> Path:
    """A file that is replaced whenever a process of this machine changes which models are served."""
    return settings().mlruns / "champions.changed"


def end_run(symbol: Symbol, name: str, status: str) -> None:
    """Close the run of this name, if a killed process left it open."""
    _prepare()
    experiment = _client().get_experiment_by_name(symbol.ticker)
    if experiment is None:
        return
    wanted = f"attributes.status = 'RUNNING' AND attributes.run_name = '{name}'"
    for run in _client().search_runs([experiment.experiment_id], wanted):
        _client().set_terminated(run.info.run_id, status)


def all_experiments() -> list[Any]:
    """MLflow's experiments."""
    _prepare()
    return _all(_client().search_experiments)


def all_runs(experiment_id: str) -> list[Any]:
    """MLflow's runs of an experiment, newest first."""
    return _all(lambda **page: _client().search_runs([experiment_id], **page))


def fetch(run_id: str, names: Sequence[str], folder: Path) -> None:
    """Copy files that a run left into a folder.

    Raises:
        MissingArtifact: it left no such file, or the file is gone.
    """
    _prepare()
    for name in names:
        try:
            mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name, dst_path=str(folder))
        except (MlflowException, OSError) as error:
            raise refused_cause(error) or MissingArtifact(run_id, name) from error


def history(run_id: str) -> dict[str, list[float]]:
    """What `Run.history` kept, by name; empty where a run kept nothing."""
    _prepare()
    names = [name for name in _client().get_run(run_id).data.metrics if name.startswith(HISTORY)]
    return {name: [point.value for point in _client().get_metric_history(run_id, name)] for name in sorted(names)}


def _all(search: Callable[..., Any]) -> list[Any]:
    """Every page of a search."""
    page = search()
    found = list(page)
    while page.token:
        page = search(page_token=page.token)
        found.extend(page)
    return found


def _champion_version(symbol: Symbol) -> int | None:
    try:
        return int(_client().get_model_version_by_alias(symbol.ticker, CHAMPION).version)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


def _register_shipped(symbol: Symbol) -> int:
    """Register the model that comes with the repository; of processes that do it at once, one does it.

    Raises:
        CorruptModel: its files are damaged.
    """
    folder = settings().models / symbol.ticker
    with _alone(".shipping"):
        version = _champion_version(symbol)
        if version is None:
            model = TrainedModel.load(folder)
            card = model.card
            with start_run(symbol, "shipped") as run, TemporaryDirectory() as copy:
                model.save(Path(copy) / MODEL)  # MLflow keeps a folder's name
                run.params({"sequence_length": card.lookback, "future_steps": card.horizon, **as_params(card.network)})
                run.metrics(json.loads((folder / "metrics.json").read_text(encoding="utf-8")))
                run.tags({"shipped": True, "promoted": True, "promotion": "it comes with the repository"})
                version = run.register(symbol, Path(copy) / MODEL)
            set_champion(symbol, version)
        return version


def _announce() -> None:
    with atomic_write(changes()) as file:
        file.touch()


def preload() -> None:
    """Import what MLflow would import at the first question to a database: a server does so while it waits."""
    if "://" in settings().tracking_uri and not settings().tracking_uri.startswith("http"):
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def _client() -> mlflow.MlflowClient:
    uri, given = settings().tracking_uri, os.environ.get(TRACKING_URI)
    mlflow.set_tracking_uri(uri)
    # MLflow exports what it was told, and settings() would take that for the user's own wish ever after.
    if given is None:
        os.environ.pop(TRACKING_URI, None)
    return mlflow.MlflowClient(uri)


def _prepare() -> None:
    """Ask MLflow a first question, which also makes a new database: processes that make it at once would break it.

    Raises:
        StorageError: the database cannot be written.
        TrackingUnavailable: no server answers, or the file is no database.
    """
    try:
        # A server's tables are its own affair, and nobody shall wait for one that is away.
        with _alone(), nullcontext() if settings().tracking_uri.startswith("http") else ALEMBIC:
            _client().search_experiments(max_results=1)
    except Exception as error:  # of MLflow, SQLAlchemy, the database's driver: each has its own
        raise refusal(error) or TrackingUnavailable(settings().tracking_uri, repr(error)[:200]) from error


def _alone(name: str = ".lock") -> AbstractContextManager[None]:
    """Hold a lock between processes, where the database is a file of this installation."""
    return locked(settings().mlruns / name) if settings().tracking_uri.startswith("sqlite:") else nullcontext()


def _experiment(name: str) -> str:
    found = _client().get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            _client().restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    local = settings().tracking_uri.startswith("sqlite:")
    location = (settings().mlruns / "artifacts" / name).as_uri() if local else None
    return str(_client().create_experiment(name, artifact_location=location))


def _now() -> int:
    return int(time() * 1000)


def _serve_pages() -> None:
    """MLflow's own pages over this installation's store, on port 5001: port 5000 is the API's."""
    _prepare()
    # Not on the command line, which every process list shows: the address may hold a password.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = settings().tracking_uri
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", "--port", "5001", "--workers", "1"])  # nosec B606


if __name__ == "__main__":
    _serve_pages()
