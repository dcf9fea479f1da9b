"""Sweeps: many trainings of one command. Each job writes its result to its folder; one table collects the results.

The table is sorted by a validation metric, never by a test metric.
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
from pregao.tuning.config import INCOMPARABLE, SweepConfig

if TYPE_CHECKING:  # late: its import delays a refusal
    import pandas as pd

logger = logging.getLogger(__name__)

RESULT_FILE = "job.json"

CONNECT = 5
"""Timeout in seconds."""


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
        """Read the result from a job's folder; None if it has none."""
        file = folder / RESULT_FILE
        return JobResult(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None

    def write(self, folder: Path) -> None:
        """Write the result to the job's folder, atomically."""
        with atomic_write(folder / RESULT_FILE) as file:
            file.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep; `settings` are the keys that differ between its jobs."""

    folder: Path
    metric: str
    table: "pd.DataFrame"
    settings: list[str]
    failure: JobsFailed | None


def run_job(cfg: DictConfig) -> None:
    """Run one job of a sweep in the launcher's process; a failure is recorded and does not stop other jobs."""
    hydra = HydraConfig.get()
    folder, number, overrides = Path(hydra.runtime.output_dir), int(hydra.job.num), list(hydra.overrides.task)
    done = JobResult.read(folder)
    if done is not None and done.overrides == overrides and done.reason is None:
        logger.info("Job %d is already done: %s", number, " ".join(overrides))
        return
    try:
        result = _train(cfg, folder, number, overrides)
    except Exception as error:
        refused = refusal(error)
        reason = f"{type(error).__name__}: {error}" if refused is None else str(refused)
        logger.error("Job %d (%s) failed: %s", number, " ".join(overrides), reason, exc_info=refused is None)
        result = JobResult(number, overrides, str(cfg.stock), reason=reason)
    result.write(folder)


def _train(cfg: DictConfig, folder: Path, number: int, overrides: list[str]) -> JobResult:
    from pregao.tracking import runs
    from pregao.training.pipeline import Pipeline

    config = parse(TrainConfig, cfg)
    # The shared model fits some architectures only; jobs with and without a warm start are not comparable.
    start = config.train.model_copy(update={"init": "none" if config.train.init == "auto" else config.train.init})
    config = config.model_copy(update={"promote": "never", "train": start})
    symbol = Symbol.parse(config.stock)
    tags = runs.child_tags(symbol, Path(HydraConfig.get().sweep.dir).name)
    result = Pipeline(config, folder, tags=tags | {"job": str(number), "overrides": " ".join(overrides)}).run()
    return JobResult(number, overrides, symbol.ticker, result.run_id, result.metrics)


def begin(config: DictConfig) -> Path:
    """Refuse settings that no job can use, start the parent runs, and return the sweep's folder."""
    parse(SweepConfig, {"sweep": OmegaConf.to_container(config.sweep)})
    folder = Path(config.hydra.sweep.dir)
    stocks = _swept_stocks(config)
    _refuse_another_sweep(config, folder)
    _connect_to_ray(config)
    from pregao.tracking import runs

    for symbol in _symbols(stocks):
        runs.sweep_parent(symbol, folder.name)
    return folder


def finish(config: DictConfig) -> SweepResult:
    """Write the table and end the parent runs."""
    from pregao.tracking import runs

    folder, metric = Path(config.hydra.sweep.dir), str(config.sweep.metric)
    results = read_results(folder)
    table = tabulate(results, metric)
    table.to_csv(folder / "sweep.csv", index=False, float_format="%.6f")
    for symbol in _symbols([result.stock for result in results]):
        own = table[table["stock"] == symbol.ticker]
        best = own[own["reason"].isna()].head(1)
        tags = {f"best_{name}": best[name].item() for name in ("job", "run_id", metric) if len(best)}
        runs.end_sweep(symbol, folder.name, tags, failed=bool(own["reason"].notna().any()))
    failed = [result for result in results if result.reason is not None]
    failure = _failure(failed, results, folder) if failed else None
    return SweepResult(folder, metric, table, differing(results), failure)


def _failure(failed: Sequence[JobResult], results: Sequence[JobResult], folder: Path) -> JobsFailed:
    first, own = failed[0], _choices(failed)[0]
    settings = [f"{key}={own[key]}" for key in differing(results) if key in own]
    return JobsFailed(first.number, settings, str(first.reason), len(failed), folder)


def read_results(folder: Path) -> list[JobResult]:
    """The results of the jobs, by job number."""
    found = (JobResult.read(file.parent) for file in folder.glob(f"*/{RESULT_FILE}"))
    return sorted((result for result in found if result is not None), key=lambda result: result.number)


def tabulate(results: Sequence[JobResult], metric: str) -> "pd.DataFrame":
    """One row per job, by stock, best validation metric first, failed jobs last; one column per differing setting.

    Scores of two stocks say which stock is calmer, so jobs are ranked within a stock.
    """
    import pandas as pd

    rows = [
        {"job": result.number, "stock": result.stock}
        | {key: own.get(key) for key in differing(results)}
        | {"stock": result.stock, metric: None}
        | (result.metrics or {})
        | {"run_id": result.run_id, "reason": result.reason}
        for result, own in zip(results, _choices(results), strict=True)
    ]
    table = pd.DataFrame(rows).astype({metric: float})
    return table.sort_values(["stock", metric, "job"], na_position="last", ignore_index=True)


def differing(results: Sequence[JobResult]) -> list[str]:
    """The settings that differ between the jobs."""
    chosen = _choices(results)
    keys = dict.fromkeys(key for own in chosen for key in own)
    return [key for key in keys if len({own.get(key) for own in chosen}) > 1]


def _choices(results: Sequence[JobResult]) -> list[dict[str, str]]:
    return [dict(override.split("=", 1) for override in result.overrides) for result in results]


def _swept_stocks(config: DictConfig) -> list[str]:
    """The stocks of the sweep.

    Raises:
        InvalidChoice: no setting has several values, or one that changes what a score measures.
    """
    params = config.hydra.sweeper.get("params") or {}
    given = [*(f"{key}={value}" for key, value in params.items()), *config.hydra.overrides.task]
    # The last override of a key wins.
    overrides = {override.key_or_group: override for override in OverridesParser.create().parse_overrides(given)}
    if not any(override.is_sweep_override() for override in overrides.values()):
        raise InvalidChoice(
            "The sweep is empty: no setting has several values. Give some: model.hidden_size=20,40, or sweep=grid; "
            "for one training leave out -m."
        )
    for key in INCOMPARABLE.keys() & overrides.keys():
        if overrides[key].is_sweep_override():
            raise InvalidChoice(f"{key} has several values: {INCOMPARABLE[key]}. Run one sweep per value.")
    stock = overrides.get("stock")
    if stock is not None and stock.is_sweep_override():
        return list(stock.sweep_string_iterator())
    return [str(config.stock)]


def _symbols(stocks: Sequence[str]) -> Iterator[Symbol]:
    """The valid tickers, sorted; a job with an invalid ticker is refused later."""
    found = set()
    for stock in stocks:
        try:
            found.add(Symbol.parse(stock))
        except InvalidSymbol:
            continue
    yield from sorted(found, key=lambda symbol: symbol.ticker)


def _refuse_another_sweep(config: DictConfig, folder: Path) -> None:
    """Refuse a folder that has a sweep with other settings."""
    before = folder / "multirun.yaml"
    if not before.is_file():
        return
    started = list(OmegaConf.load(before).hydra.overrides.task)
    if started != list(config.hydra.overrides.task):
        raise InvalidChoice(
            f"hydra.sweep.dir={folder}: it has another sweep ({' '.join(started)}). Give the same settings to "
            "resume it, or another folder."
        )


def _connect_to_ray(config: DictConfig) -> None:
    """Connect if Ray's launcher is chosen: the launcher itself would wait minutes for a dead cluster."""
    if not str(config.hydra.launcher.get("_target_", "")).endswith("RayLauncher"):
        return
    try:
        import ray
    except ModuleNotFoundError:
        raise InvalidChoice("hydra/launcher=ray: Ray is not installed. Install it: pip install '.[ray]'.") from None
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # otherwise Ray warns of a future change
    given = {str(key): value for key, value in (config.hydra.launcher.ray.init or {}).items()}
    # Each job has a log file; a local cluster does not need a dashboard.
    init = {"log_to_driver": False} | ({} if given.get("address") else {"include_dashboard": False}) | given
    # Workers do not inherit the environment of this process.
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
    except Exception as error:  # Ray has many exception types
        raise RayUnavailable(address, first_line(error)) from error
