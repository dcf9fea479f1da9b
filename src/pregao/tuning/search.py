"""Search with Optuna by a validation metric; any number of workers share one storage."""

import json
import logging
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
import pandas as pd
from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from sqlalchemy.exc import SQLAlchemyError

from pregao.config import flat, parse
from pregao.data.volatility import SPAN
from pregao.errors import InvalidChoice, PregaoError, StudyUnavailable, first_line
from pregao.models.choices import with_new_choices
from pregao.prices.downloader import Downloader
from pregao.prices.symbols import Symbol
from pregao.settings import sqlite_file
from pregao.tracking import runs
from pregao.training.config import TrainConfig
from pregao.training.run_files import run_params
from pregao.training.steps import build_data, download, fit, prepare, validate
from pregao.tuning import plots
from pregao.tuning.config import TuneConfig
from pregao.tuning.space import distributions, extreme_values, suggest

optuna.logging.set_verbosity(optuna.logging.WARNING)

logger = logging.getLogger(__name__)

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

CONNECT = 10
"""Timeout in seconds."""


@dataclass(frozen=True)
class SearchResult:
    """The trials of a study; `command` trains with the best settings."""

    folder: Path
    study: str
    metric: str
    trials: pd.DataFrame
    command: str | None


class Pruning(Callback):
    """Prunes a trial whose validation loss is worse than that of other trials at the same epoch."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the epoch's validation loss; Lightning has run the validation before this hook."""
        self.trial.report(trainer.callback_metrics["val_loss"].item(), trainer.current_epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned


NOT_OF_TRIALS: dict[str, Any] = {
    **dict.fromkeys(("promote", "source", "ckpt_path", "for_predict"), True),
    "evaluation": {"baselines"},
}
"""Settings that do not change a trial's result."""


class Search:
    """One worker of a study.

    Args:
        config: all settings.
        folder: an existing folder for the table and the plots.
        overrides: the command line, repeated in the command that trains with the best settings.
        progress: called before each trial with the number of ended trials, the number of all, and the best value.
    """

    def __init__(
        self,
        config: TuneConfig,
        folder: Path,
        overrides: Sequence[str] = (),
        progress: Callable[[int, int, str], None] = lambda done, of, text: None,
    ) -> None:
        self.config = config
        self.folder = folder
        self.overrides = overrides
        self.progress = progress
        self.metric = config.sweep.metric
        self.space = distributions(config.sweep.space)
        self.name = config.study or config.stock
        if (config.trainer.devices or 1) > 1:
            raise InvalidChoice(
                f"trainer.devices={config.trainer.devices}: pruning works in one process only. Search with "
                "trainer=cpu or gpu, and start several tune.py in parallel."
            )
        for values in extreme_values(self.space):
            trial_config(config, values)
        self.symbol = Symbol.parse(config.stock)
        self.downloader = Downloader(config.source.name, config.source.path, price=config.data.price)

    def run(self) -> SearchResult:
        """Run trials until the study has `trials` of them.

        Raises:
            PregaoError: the prices or the storage are refused, or the study has other settings.
            KeyboardInterrupt: ctrl-C; the study keeps its trials.
        """
        stocks = [Symbol.parse(stock) for stock in self.config.stocks or [self.config.stock]]
        data = self.config.data
        prices, _ = download(self.downloader, stocks, self.config.dates, data.lookback + data.horizon, before=SPAN)
        with _storage(self.config.storage) as storage:
            study = self._study(storage)
            tags = runs.child_tags(self.symbol, self.name)
            try:
                while (ended := len(study.get_trials(deepcopy=False, states=ENDED))) < self.config.trials:
                    self.progress(ended, self.config.trials, self._best(study))
                    self._trial(study, prices, tags)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"Interrupted; study={self.name} keeps its {ended} trials. To resume it, repeat the command."
                ) from None
            return self._report(study)

    def _study(self, storage: RDBStorage) -> Study:
        study = optuna.create_study(
            storage=storage,
            study_name=self.name,
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(
                self.config.pruner.startup_trials, n_warmup_steps=self.config.pruner.warmup_epochs
            ),
        )
        new = self._common_settings()
        if "asked" not in study.user_attrs:
            study.set_user_attr("asked", new)
        elif (old := _of_this_version(study.user_attrs["asked"], new)) != new:
            other = ", ".join(sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)))
            raise InvalidChoice(
                f"study={self.name}: it has other settings or another space ({other} differ), so its trials cannot be "
                f"compared with these. Give the same settings, or another name: study={self.name}-2."
            )
        return study

    def _common_settings(self) -> dict[str, str]:
        """The settings that all trials of a study share, and the space, by key."""
        fixed = flat(trial_config(self.config, {}).model_dump(mode="json", exclude=NOT_OF_TRIALS))
        searched = {f"sweep.space.{key}": distribution_to_json(one) for key, one in self.space.items()}
        same = {key: json.dumps(value) for key, value in fixed.items() if key not in self.space}
        return same | searched | {"sweep.metric": self.metric}

    def _trial(self, study: Study, prices: Mapping[str, pd.DataFrame], tags: Mapping[str, str]) -> None:
        trial = study.ask()
        # Seeded by the trial number: parallel workers draw different values, and a repeated search the same ones.
        study.sampler = optuna.samplers.TPESampler(seed=self.config.seed + trial.number, multivariate=False)
        values = {key: suggest(trial, key, one) for key, one in self.space.items()}
        try:
            value = self._train(trial, trial_config(self.config, values), prices, tags)
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
        except PregaoError as error:
            logger.warning("Trial %d failed: %s", trial.number, error)
            trial.set_user_attr("reason", str(error))
            study.tell(trial, state=TrialState.FAIL)
        except BaseException:
            study.tell(trial, state=TrialState.FAIL)
            raise
        else:
            study.tell(trial, value)

    def _train(
        self, trial: Trial, config: TrainConfig, prices: Mapping[str, pd.DataFrame], tags: Mapping[str, str]
    ) -> float:
        """Train with these settings and return the validation metric; the test part is not used."""
        pruned = False
        with TemporaryDirectory() as folder:
            rule = config.evaluation.rule
            data = build_data(config, prices, rule, since=config.dates[0])
            training = prepare(config, data.panel, Path(folder), callbacks=[Pruning(trial)])
            own = {"trial": str(trial.number), "promoted": "False"}
            with runs.start_run(self.symbol, f"{self.name} {trial.number}", {**tags, **own}) as run:
                run.params(run_params(config, data.panel))
                try:
                    model, fitted = fit(config, self.symbol.ticker, training, data, run.history)
                except optuna.TrialPruned:
                    pruned = True
                    run.tags({"pruned": True})
                else:
                    figures = {"best_val_loss": min(fitted.val_loss), **validate(model, data.panel)}
                    run.metrics(figures | {"training_time": fitted.seconds})
        if pruned:
            raise optuna.TrialPruned
        return figures[self.metric]

    def _best(self, study: Study) -> str:
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return f"search · best {self.metric} {study.best_value:.4f}" if done else "search"

    def _report(self, study: Study) -> SearchResult:
        ended = study.get_trials(deepcopy=False, states=ENDED)
        table = tabulate(ended, self.metric)
        table.to_csv(self.folder / "trials.csv", index=False, float_format="%.6g")
        done = [trial for trial in ended if trial.state == TrialState.COMPLETE]
        command = self._command(study.best_params) if done else None
        plots.history(
            [trial.number for trial in done], [float(trial.value or 0) for trial in done], self.metric, self.folder
        )
        plots.importance(_importances(study, done), self.metric, self.folder)
        best = {f"best_{self.metric}": study.best_value, "command": command} if done else {}
        runs.end_sweep(self.symbol, self.name, {"search": self.name, "trials": len(ended), **best})
        return SearchResult(self.folder, self.name, self.metric, table, command)

    def _command(self, best: Mapping[str, object]) -> str:
        """The train.py command with the best values and the user's overrides, without those of the search."""
        own = ("trials", "study", "storage", "pruner", "sweep", "hydra", "promote", "train.init")
        given = [text for text in self.overrides if not text.lstrip("+~").startswith(own)]
        values = [f"{key}={value}" for key, value in best.items()]
        return shlex.join(["python", "train.py", *given, "train.init=none", *values])


def trial_config(config: TuneConfig, values: Mapping[str, Any]) -> TrainConfig:
    """The configuration of a trial with these values; without a warm start, and never promoted.

    Raises:
        InvalidChoice: a value is not allowed.
    """
    choices = config.training
    choices["promote"] = "never"
    choices["train"]["init"] = "none"  # the shared model would fit some trials only
    for key, value in values.items():
        group, _, name = key.partition(".")
        choices[group][name] = value
    return parse(TrainConfig, choices)


def _of_this_version(asked: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """The settings of a study, with model settings of older versions renamed, and the defaults of new ones."""
    prefix = "model."
    model = {key.removeprefix(prefix): json.loads(text) for key, text in asked.items() if key.startswith(prefix)}
    others = {key: text for key, text in asked.items() if not key.startswith(prefix)}
    named = {f"{prefix}{name}": json.dumps(value) for name, value in with_new_choices(model).items()}
    searched = {key for key in named if key not in new and key not in asked}
    return {key: text for key, text in (others | named).items() if key not in searched}


def tabulate(trials: Sequence[FrozenTrial], metric: str) -> pd.DataFrame:
    """One row per trial, the best first; `state` is complete, pruned or fail."""
    rows = [
        {"trial": trial.number, "state": trial.state.name.lower(), metric: trial.value, **trial.params}
        | {"epochs": len(trial.intermediate_values), "reason": trial.user_attrs.get("reason")}
        for trial in trials
    ]
    return pd.DataFrame(rows).sort_values([metric, "trial"], na_position="last", ignore_index=True)


def _importances(study: Study, done: Sequence[FrozenTrial]) -> dict[str, float]:
    """The share of the metric's variance per setting (fANOVA, Hutter et al. 2014); empty below two distinct values."""
    if len({trial.value for trial in done}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


@contextmanager
def _storage(url: str) -> Iterator[RDBStorage]:
    """The storage of studies; retries when another worker creates the tables at the same time."""
    arguments: dict[str, Any] = {"connect_timeout": CONNECT} if url.startswith("postgresql") else {}
    if (file := sqlite_file(url)) is not None:
        arguments = {"timeout": 60}  # seconds to wait for another worker's transaction
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyUnavailable(url, str(error)) from error
    for attempt in range(3):
        try:
            storage = RDBStorage(url, engine_kwargs={"connect_args": arguments})
            break
        except Exception as error:  # SQLAlchemy's, Alembic's, the driver's, or Optuna's for another database
            if attempt == 2 or "exist" not in str(error):
                raise StudyUnavailable(url, first_line(error)) from error
            time.sleep(1)
    try:
        yield storage
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise StudyUnavailable(url, first_line(error)) from error
    finally:
        storage.remove_session()
        storage.engine.dispose()
