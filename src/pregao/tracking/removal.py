"""Deletion of old runs and model versions."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from pregao.prices.symbols import Symbol
from pregao.settings import settings
from pregao.tracking import registry
from pregao.tracking.client import every_page, prepared_client


@dataclass(frozen=True)
class Old:
    """Runs and versions of a stock that are beyond the number to keep."""

    stock: str
    runs: tuple[str, ...]
    versions: tuple[int, ...]


def old(keep: int) -> Iterator[Old]:
    """Yield per stock what lies beyond the `keep` newest runs and versions.

    Versions with an alias, among them the champion and the best one, and their runs are never old; nor are open runs.
    """
    client = prepared_client()
    aliases = {str(model.name): dict(model.aliases) for model in every_page(client.search_registered_models)}
    for experiment in every_page(client.search_experiments):
        name, versions = str(experiment.name), []
        if name in aliases:
            known, named = registry.versions(Symbol.parse(name)), {int(number) for number in aliases[name].values()}
            versions = [one for place, one in enumerate(known) if place >= keep and one.version not in named]
            kept = {one.run_id for one in known} - {one.run_id for one in versions}
        else:
            kept = set()
        found = [run.info for run in every_page(client.search_runs, [experiment.experiment_id])]  # newest first
        runs = [run.run_id for run in found[keep:] if run.status != "RUNNING" and run.run_id not in kept]
        if runs or versions:
            yield Old(name, tuple(runs), tuple(one.version for one in versions))


def remove(found: Old) -> None:
    """Mark them as deleted in MLflow, and delete their files if they are in this home.

    `mlflow gc` would also delete for ever what a user has marked as deleted.
    """
    client, names = prepared_client(), list(found.runs)
    for number in found.versions:
        _, is_model, model = str(client.get_model_version(found.stock, str(number)).source).partition("models:/")
        client.delete_model_version(found.stock, str(number))
        if is_model:
            client.delete_logged_model(model)
            names.append(f"models/{model}")
    for run_id in found.runs:
        client.delete_run(run_id)
    for name in names:
        shutil.rmtree(settings().mlruns / "artifacts" / found.stock / name, ignore_errors=True)
