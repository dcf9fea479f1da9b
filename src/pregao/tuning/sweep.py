"""Many trainings of one command: each job leaves its result in its folder, and one table collects them in the end.

The table is ordered by a metric of the validation part; the test metrics next to it choose nothing.
"""

import json
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from pregao.config import parse
from pregao.errors import InvalidChoice, InvalidSymbol, JobsFailed, RayUnavailable, first_line, refusal
from pregao.files import atomic_write
from pregao.prices.symbols import Symbol
from pregao.settings import settings
from pregao.training.config import TrainConfig
from pregao.tuning.config import SweepConfig

if TYPE_CHECKING:  # a refused choice must not wait for it
    import pandas as pd

logger = logging.getLogger(__name__)

OUTCOME = "job.json"

CONNECT = 5
"""Seconds that a Ray cluster has to answer."""


@dataclass(frozen=True)
class JobResult:
    """The result of a job; `reason` says why it failed."""

    number: int
    overrides: list[str]
    stock: str
    run_id: str | None = None
    metrics: dict[str, float] | None = None
    reason: str | None = None

    @staticmethod
    def read(folder: Path) -> "JobResult | None":
        """Read the result from a job's folder; None without one."""
        file = folder / OUTCOME
        return JobResult(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None

    def write(self, folder: Path) -> None:
        """Keep it, whole or not at all."""
        with atomic_write(folder / OUTCOME) as file:
            file.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep; `settings` are those that differ between its jobs."""

    folder: Path
    metric: str
    table: "pd.DataFrame"
    settings: list[str]
    failure: JobsFailed | None


def run_job(cfg: DictConfig) -> None:
    """Run one job of a sweep, in the process that the launcher chose; a failure is a result too, and stops no other."""
    hydra = HydraConfig.get()
    folder, number, overrides = Path(hydra.runtime.output_dir), int(hydra.job.num), list(hydra.overrides.task)
    done = JobResult.read(folder)
    if done is not None and done.overrides == overrides and done.reason is None:
        logger.info("Job %d is done already: %s", number, " ".join(overrides))
        return
    try:
        outcome = _trained(cfg, folder, number, overrides)
    except Exception as error:
        refused = refusal(error)
        reason = f"{type(error).__name__}: {error}" if refused is None else str(refused)
        logger.error("Job %d (%s) failed: %s", number, " ".join(overrides), reason, exc_info=refused is None)
        outcome = JobResult(number, overrides, str(cfg.stock), reason=reason)
    outcome.write(folder)


def _trained(cfg: DictConfig, folder: Path, number: int, overrides: list[str]) -> JobResult:
    from pregao.tracking import runs
    from pregao.training.pipeline import Pipeline

    config = parse(TrainConfig, cfg)
    # Jobs with and without a warm start do not compare, and SHARED fits the architecture of some only.
    start = config.train.model_copy(update={"init": "none" if config.train.init == "auto" else config.train.init})
    config = config.model_copy(update={"promote": "never", "train": start})
    symbol = Symbol.parse(config.stock)
    tags = runs.child_tags(symbol, Path(HydraConfig.get().sweep.dir).name)
    result = Pipeline(config, folder, tags=tags | {"job": str(number), "overrides": " ".join(overrides)}).run()
    return JobResult(number, overrides, symbol.ticker, result.run_id, result.metrics)


def begin(config: DictConfig) -> Path:
    """Refuse choices that no job could use, and make the parent runs; returns the sweep's folder."""
    parse(SweepConfig, {"sweep": OmegaConf.to_container(config.sweep)})
    folder = Path(config.hydra.sweep.dir)
    stocks = _swept(config)
    _same_sweep(config, folder)
    _connect(config)
    from pregao.tracking import runs

    for symbol in _symbols(stocks):
        runs.sweep_parent(symbol, folder.name)
    return folder


def finish(config: DictConfig) -> SweepResult:
    """Write the table, and end the parent runs."""
    from pregao.tracking import runs

    folder, metric = Path(config.hydra.sweep.dir), str(config.sweep.metric)
    outcomes = read_results(folder)
    table = tabulate(outcomes, metric)
    table.to_csv(folder / "sweep.csv", index=False, float_format="%.6f")
    for symbol in _symbols([outcome.stock for outcome in outcomes]):
        own = table[table["stock"] == symbol.ticker]
        best = own[own["reason"].isna()].head(1)
        tags = {f"best_{name}": best[name].item() for name in ("job", "run_id", metric) if len(best)}
        runs.end_sweep(symbol, folder.name, tags, failed=bool(own["reason"].notna().any()))
    failed = [outcome for outcome in outcomes if outcome.reason is not None]
    failure = _failure(failed, outcomes, folder) if failed else None
    return SweepResult(folder, metric, table, differing(outcomes), failure)


def _failure(failed: Sequence[JobResult], outcomes: Sequence[JobResult], folder: Path) -> JobsFailed:
    first, own = failed[0], _choices(failed)[0]
    settings = [f"{key}={own[key]}" for key in differing(outcomes) if key in own]
    return JobsFailed(first.number, settings, str(first.reason), len(failed), folder)


def read_results(folder: Path) -> list[JobResult]:
    """The results of the jobs, in their order."""
    found = (JobResult.read(file.parent) for file in folder.glob(f"*/{OUTCOME}"))
    return sorted((outcome for outcome in found if outcome is not None), key=lambda outcome: outcome.number)


def tabulate(outcomes: Sequence[JobResult], metric: str) -> "pd.DataFrame":
    """One row per job, the best by the validation metric first, failed ones last; a column per differing setting."""
    import pandas as pd

    rows = [
        {"job": outcome.number, "stock": outcome.stock}
        | {key: own.get(key) for key in differing(outcomes)}
        | {"stock": outcome.stock, metric: None}
        | (outcome.metrics or {})
        | {"run_id": outcome.run_id, "reason": outcome.reason}
        for outcome, own in zip(outcomes, _choices(outcomes), strict=True)
    ]
    table = pd.DataFrame(rows).astype({metric: float})
    return table.sort_values([metric, "job"], na_position="last", ignore_index=True)


def differing(outcomes: Sequence[JobResult]) -> list[str]:
    """The settings that differ between the jobs."""
    chosen = _choices(outcomes)
    keys = dict.fromkeys(key for own in chosen for key in own)
    return [key for key in keys if len({own.get(key) for own in chosen}) > 1]


def _choices(outcomes: Sequence[JobResult]) -> list[dict[str, str]]:
    return [dict(override.split("=", 1) for override in outcome.overrides) for outcome in outcomes]


def _swept(config: DictConfig) -> list[str]:
    """The stocks that are swept over.

    Raises:
        InvalidChoice: nothing is swept over.
    """
    params = config.hydra.sweeper.get("params") or {}
    given = [*(f"{key}={value}" for key, value in params.items()), *config.hydra.overrides.task]
    # Of two for the same key the later one holds.
    overrides = {override.key_or_group: override for override in OverridesParser.create().parse_overrides(given)}
    if not any(override.is_sweep_override() for override in overrides.values()):
        raise InvalidChoice(
            "The sweep is empty: no setting has two values. Name some: model.hidden_size=20,40, or sweep=grid; "
            "one training needs no -m."
        )
    stock = overrides.get("stock")
    if stock is not None and stock.is_sweep_override():
        return list(stock.sweep_string_iterator())
    return [str(config.stock)]


def _symbols(stocks: Sequence[str]) -> Iterator[Symbol]:
    """Those that are tickers; a job with another stock is refused itself."""
    found = set()
    for stock in stocks:
        try:
            found.add(Symbol.parse(stock))
        except InvalidSymbol:
            continue
    yield from sorted(found, key=lambda symbol: symbol.ticker)


def _same_sweep(config: DictConfig, folder: Path) -> None:
    """Refuse to resume another sweep's folder."""
    before = folder / "multirun.yaml"
    if not before.is_file():
        return
    begun = list(OmegaConf.load(before).hydra.overrides.task)
    if begun != list(config.hydra.overrides.task):
        raise InvalidChoice(
            f"hydra.sweep.dir={folder}: another sweep was begun there ({' '.join(begun)}). Give the same settings to "
            "go on with it, or another folder."
        )


def _connect(config: DictConfig) -> None:
    """Connect to Ray now, if its launcher is chosen: the launcher would wait minutes for a dead cluster."""
    if not str(config.hydra.launcher.get("_target_", "")).endswith("RayLauncher"):
        return
    try:
        import ray
    except ModuleNotFoundError:
        raise InvalidChoice("hydra/launcher=ray: Ray is not installed. Install it: pip install '.[ray]'.") from None
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # it warns of a future change
    given = {str(key): value for key, value in (config.hydra.launcher.ray.init or {}).items()}
    # Each job has its own log; a cluster of one machine needs no pages.
    init = {"log_to_driver": False} | ({} if given.get("address") else {"include_dashboard": False}) | given
    # Workers have their cluster's environment, not ours.
    ours = {"PREGAO_HOME": str(settings().home), "MLFLOW_TRACKING_URI": settings().tracking_uri}
    init.setdefault("runtime_env", {"env_vars": ours | {"OMP_NUM_THREADS": "1"}})
    address = str(init.get("address") or "local")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT).close()
        except OSError as error:
            raise RayUnavailable(address, str(error)) from error
    try:
        ray.init(**init)
    except Exception as error:  # Ray has an exception for each of its ways to fail
        raise RayUnavailable(address, first_line(error)) from error
