"""MLflow's runs: what a training, a sweep or a backtest logs, and reading it back."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_GIT_DIRTY

from pregao.errors import MissingArtifact, refused_cause
from pregao.files import or_null
from pregao.prices.symbols import Symbol
from pregao.settings import settings
from pregao.tracking.client import mlflow_client, prepared_client, store_lock
from pregao.tracking.code import Code, code

HISTORY = "history_"
"""Prefix of the metrics that have one value per epoch."""


@dataclass(frozen=True)
class Run:
    """An open MLflow run."""

    run_id: str

    def params(self, params: Mapping[str, object]) -> None:
        """Log the settings of the run."""
        mlflow_client().log_batch(self.run_id, params=[Param(name, str(value)) for name, value in params.items()])

    def metrics(self, metrics: Mapping[str, float | None]) -> None:
        """Log final metrics; values that are not finite are left out, since databases refuse them."""
        now = _now()
        rows = [Metric(name, value, now, 0) for name, value in or_null(metrics).items() if value is not None]
        mlflow_client().log_batch(self.run_id, metrics=rows)

    def history(self, epochs: Mapping[str, Sequence[float]], first: int = 0) -> None:
        """Log one value per epoch and name, starting at the epoch `first`."""
        now = _now()
        rows = [Metric(name, v, now, epoch) for name, values in epochs.items() for epoch, v in enumerate(values, first)]
        for start in range(0, len(rows), 1000):  # MLflow's limit for one batch
            mlflow_client().log_batch(self.run_id, metrics=rows[start : start + 1000])

    def tags(self, tags: Mapping[str, object]) -> None:
        """Tag the run."""
        mlflow_client().log_batch(self.run_id, tags=[RunTag(name, str(value)) for name, value in tags.items()])

    def artifacts(self, folder: Path) -> None:
        """Log every file of a folder."""
        mlflow_client().log_artifacts(self.run_id, str(folder))


@contextmanager
def start_run(experiment: Symbol | str, name: str, tags: Mapping[str, str] | None = None) -> Iterator[Run]:
    """Open a run in a stock's experiment or in `backtest`, with the tags of its code.

    Its status is FINISHED at the end of the block, FAILED after an error, KILLED after ctrl-C.
    """
    client = prepared_client()
    found = _experiment(str(experiment))
    run = client.create_run(found, tags=code_tags() | dict(tags or {}), run_name=name).info
    status = "FAILED"
    try:
        yield Run(run.run_id)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        client.set_terminated(run.run_id, status)


def code_tags(found: Code | None = None) -> dict[str, str]:
    """The tags of this process's or another code, under MLflow's names for a commit and for changes to it."""
    found = found or code()
    return {MLFLOW_GIT_COMMIT: found.commit, MLFLOW_GIT_DIRTY: str(found.dirty), "version": found.version}


def end_run(symbol: Symbol, name: str, status: str) -> None:
    """Close the run of this name, if a killed process left it open."""
    client = prepared_client()
    experiment = client.get_experiment_by_name(symbol.ticker)
    if experiment is None:
        return
    wanted = f"attributes.status = 'RUNNING' AND attributes.run_name = '{name}'"
    for run in client.search_runs([experiment.experiment_id], wanted):
        client.set_terminated(run.info.run_id, status)


def child_tags(symbol: Symbol, sweep_id: str) -> dict[str, str]:
    """Return the tags of a run of a sweep or search; creates the parent run, one per stock, if it is missing."""
    return {"sweep_id": sweep_id, "mlflow.parentRunId": sweep_parent(symbol, sweep_id).run_id}


def sweep_parent(symbol: Symbol, sweep_id: str) -> Run:
    """Return the parent of a sweep's runs of a stock, opened again or created."""
    client = prepared_client()
    experiment = _experiment(symbol.ticker)
    wanted = f"tags.sweep_id = '{sweep_id}' AND tags.sweep_role = 'parent'"
    with store_lock(".sweep"):
        found = client.search_runs([experiment], wanted, max_results=1)
        if found:
            client.update_run(found[0].info.run_id, status="RUNNING")
            return Run(found[0].info.run_id)
        tags = {"sweep_id": sweep_id, "sweep_role": "parent", **code_tags()}
        return Run(client.create_run(experiment, tags=tags, run_name=sweep_id).info.run_id)


def end_sweep(symbol: Symbol, sweep_id: str, tags: Mapping[str, object], failed: bool = False) -> None:
    """Tag the parent of a sweep's runs of a stock with the outcome, and close it."""
    parent = sweep_parent(symbol, sweep_id)
    parent.tags(tags)
    mlflow_client().set_terminated(parent.run_id, "FAILED" if failed else "FINISHED")


def fetch(run_id: str, names: Sequence[str], folder: Path) -> None:
    """Copy files of a run into a folder.

    Raises:
        MissingArtifact: the run has no such file, or the file is gone.
    """
    prepared_client()
    for name in names:
        try:
            mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name, dst_path=str(folder))
        except (MlflowException, OSError) as error:
            raise refused_cause(error) or MissingArtifact(run_id, name) from error


def history(run_id: str) -> dict[str, list[float]]:
    """Return what `Run.history` logged, by name; empty for a run without it."""
    client = prepared_client()
    names = [name for name in client.get_run(run_id).data.metrics if name.startswith(HISTORY)]
    return {name: [point.value for point in client.get_metric_history(run_id, name)] for name in sorted(names)}


def _experiment(name: str) -> str:
    client = mlflow_client()
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    local = settings().tracking_uri.startswith("sqlite:")
    location = (settings().mlruns / "artifacts" / name).as_uri() if local else None
    return str(client.create_experiment(name, artifact_location=location))


def _now() -> int:
    return int(time() * 1000)


if __name__ == "__main__":  # python -m pregao.tracking.runs STOCK RUN STATUS
    end_run(Symbol.parse(sys.argv[1]), *sys.argv[2:])
