"""MLflow: runs, artifacts, the registry, and a stock's served model. The only file that knows MLflow's API."""

import fcntl
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from time import time

# Read by MLflow at import: it would report its usage to its makers, and its own doings to the terminal.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
import numpy as np
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from pregao.errors import NoModel
from pregao.prices.symbols import Symbol
from pregao.quantiles import BANDS
from pregao.settings import settings
from pregao.trained_model import TrainedModel

CHAMPION = "champion"
"""The registry's alias of the version that is served."""

PYFUNC = Path(__file__).with_name("pyfunc_model.py")
MODEL = "model"
PRICES = ("close", *BANDS)
NEEDED = ("pregao", "torch", "safetensors", "pandas")
"""What a registered model needs to run; named, because MLflow takes seconds to find it out."""

logging.getLogger("alembic").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Served:
    """A registered version of a stock's model."""

    model: TrainedModel
    stock: str
    version: int
    run_id: str


@dataclass(frozen=True)
class Run:
    """An MLflow run that is going on."""

    run_id: str

    def params(self, params: Mapping[str, object]) -> None:
        """Log what decided the run."""
        _client().log_batch(self.run_id, params=[Param(name, str(value)) for name, value in params.items()])

    def metrics(self, metrics: Mapping[str, float]) -> None:
        """Log final figures; what is not finite is left out, since databases refuse it."""
        now = _now()
        rows = [Metric(name, value, now, 0) for name, value in metrics.items() if np.isfinite(value)]
        _client().log_batch(self.run_id, metrics=rows)

    def history(self, epochs: Mapping[str, Sequence[float]]) -> None:
        """Log one value an epoch and name."""
        now = _now()
        rows = [Metric(name, v, now, epoch) for name, values in epochs.items() for epoch, v in enumerate(values)]
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
        with suppress(MlflowException):  # it exists
            _client().create_registered_model(symbol.ticker)
        version = _client().create_model_version(
            symbol.ticker, source=logged.model_uri, run_id=self.run_id, model_id=logged.model_id
        )
        return int(version.version)


@contextmanager
def start_run(symbol: Symbol, name: str) -> Iterator[Run]:
    """A run in the stock's experiment: FINISHED at the end, FAILED after an error, KILLED after ctrl-C."""
    _prepare()
    run = _client().create_run(_experiment(symbol), run_name=name).info
    status = "FAILED"
    try:
        yield Run(run.run_id)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        _client().set_terminated(run.run_id, status)


def load(symbol: Symbol, version: int) -> Served:
    """A version of a stock's model, read back from the registry."""
    _prepare()
    found = _client().get_model_version(symbol.ticker, str(version))
    folder = mlflow.artifacts.download_artifacts(f"models:/{symbol.ticker}/{version}")
    return Served(TrainedModel.load(Path(folder) / "artifacts" / MODEL), symbol.ticker, version, str(found.run_id))


def champion(symbol: Symbol) -> Served:
    """The stock's served model.

    Raises:
        NoModel: names the stocks that have one.
        CorruptModel: its files are damaged.
    """
    _prepare()
    try:
        version = _client().get_model_version_by_alias(symbol.ticker, CHAMPION)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise NoModel(symbol, served_stocks()) from None
    return load(symbol, int(version.version))


def set_champion(symbol: Symbol, version: int) -> None:
    """Serve this version from now on."""
    _client().set_registered_model_alias(symbol.ticker, CHAMPION, str(version))


def served_stocks() -> list[str]:
    """Tickers that have a served model."""
    _prepare()
    return sorted(model.name for model in _client().search_registered_models() if CHAMPION in model.aliases)


def _client() -> mlflow.MlflowClient:
    uri = settings().tracking_uri
    mlflow.set_tracking_uri(uri)
    return mlflow.MlflowClient(uri)


def _prepare() -> None:
    """Make the database before its first use: processes that make it at once would break each other."""
    if not settings().tracking_uri.startswith("sqlite:"):
        return
    folder = settings().mlruns
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _client().search_experiments(max_results=1)


def _experiment(symbol: Symbol) -> str:
    found = _client().get_experiment_by_name(symbol.ticker)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            _client().restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    local = settings().tracking_uri.startswith("sqlite:")
    location = (settings().mlruns / "artifacts" / symbol.ticker).as_uri() if local else None
    return str(_client().create_experiment(symbol.ticker, artifact_location=location))


def _now() -> int:
    return int(time() * 1000)
