"""Warm start: a stock's training starts from the shared model if it fits and was not trained on the test part."""

import logging
from dataclasses import dataclass

from pregao.data.panel import Panel
from pregao.data.windows import day
from pregao.errors import CorruptModel, InvalidChoice, NoModel
from pregao.models.card import ModelCard
from pregao.models.choices import differences
from pregao.models.trained import TrainedModel
from pregao.prices.symbols import SHARED, Symbol
from pregao.tracking import registry
from pregao.tracking.registry import Served
from pregao.training.config import TrainConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WarmStart:
    """The served model whose weights a training starts from, and a factor on the learning rate.

    Attributes:
        served: the version.
        model: the same with its PyTorch network.
        learning_rate_factor: multiplies the learning rate.
    """

    served: Served
    model: TrainedModel
    learning_rate_factor: float

    @property
    def card(self) -> ModelCard:
        """The model card."""
        return self.model.card

    def __str__(self) -> str:
        return f"{SHARED} version {self.served.version} run {self.served.run_id}"


def warm_start(config: TrainConfig, panel: Panel) -> WarmStart | None:
    """The shared model if this training can start from it, otherwise None.

    Raises:
        InvalidChoice: train.init=shared, but the shared model is missing or does not fit.
    """
    if config.train.init == "none" or config.stocks is not None:
        return None
    other = None
    try:
        served = registry.champion(Symbol.parse(SHARED))
        model = registry.trained(served)
        other = _other_choices(model.card, config, panel)
        reason = other or _leak(model.card, panel)
    except NoModel:
        reason = "it does not exist; python train.py experiment=ibovespa trains it"
    except CorruptModel as error:
        reason = str(error)
    if reason is None:
        return WarmStart(served, model, config.train.learning_rate_factor)
    if config.train.init == "shared":
        raise InvalidChoice(f"train.init=shared: cannot start from the shared model ({reason}). Use train.init=none.")
    level = logging.INFO if other is None else logging.WARNING  # the user's own choice costs the warm start
    logger.log(level, "Not started from the shared model: %s.", reason)
    return None


def _other_choices(card: ModelCard, config: TrainConfig, panel: Panel) -> str | None:
    """The choices that give the training other weights than this model's; None if there are none."""
    if other := differences(card.network, config.network(len(panel.stocks))):
        return f"its network has other choices: {other}"
    if card.lookback != config.data.lookback:
        return f"its data.lookback is {card.lookback}, not {config.data.lookback}"
    return None


def _leak(card: ModelCard, panel: Panel) -> str | None:
    """The days of the validation or the test part that this model was trained or validated on; None without any."""
    validation, test = (day(border) for border in panel.borders)
    if card.train_end >= str(validation):
        return f"it was trained on closes up to {card.train_end}, but the validation part starts on {validation}"
    if card.validation_end >= str(test):
        return f"its validation part has closes up to {card.validation_end}, but the test set starts on {test}"
    return None
