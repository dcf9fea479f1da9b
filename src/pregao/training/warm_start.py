"""Warm start: a stock's training starts from the shared model if it fits and was not trained on the test part."""

import logging
from dataclasses import dataclass

from pregao.data.panel import Panel
from pregao.data.windows import day
from pregao.errors import CorruptModel, InvalidChoice, NoModel
from pregao.models.choices import same_model
from pregao.models.trained import ModelCard
from pregao.prices.symbols import SHARED, Symbol
from pregao.tracking import registry
from pregao.tracking.registry import Served
from pregao.training.config import TrainConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WarmStart:
    """The served model whose weights a training starts from, and a factor on the learning rate."""

    served: Served
    learning_rate_factor: float

    @property
    def card(self) -> ModelCard:
        """The model card."""
        return self.served.model.card

    def __str__(self) -> str:
        return f"{SHARED} version {self.served.version} run {self.served.run_id}"


def warm_start(config: TrainConfig, panel: Panel) -> WarmStart | None:
    """The shared model if this training can start from it, otherwise None.

    Raises:
        InvalidChoice: train.init=shared, but the shared model is missing or does not fit.
    """
    if config.train.init == "none" or config.stocks is not None:
        return None
    try:
        served = registry.champion(Symbol.parse(SHARED))
        reason = _unfit(served.model.card, config, panel)
    except NoModel:
        reason = "it does not exist; python train.py experiment=ibovespa trains it"
    except CorruptModel as error:
        reason = str(error)
    if reason is None:
        return WarmStart(served, config.train.learning_rate_factor)
    if config.train.init == "shared":
        raise InvalidChoice(f"train.init=shared: cannot start from the shared model ({reason}). Use train.init=none.")
    logger.info("Not started from the shared model: %s.", reason)
    return None


def _unfit(card: ModelCard, config: TrainConfig, panel: Panel) -> str | None:
    """Why a training cannot start from this model; None if it can."""
    if not same_model(card.network, config.network(len(panel.stocks))) or card.lookback != config.data.lookback:
        return "its network differs in model.*, data.lookback, data.horizon or data.inputs"
    test = day(panel.borders[1])
    if card.validation_end >= str(test):
        return f"it was trained on closes up to {card.validation_end}, but the test set starts on {test}"
    return None
