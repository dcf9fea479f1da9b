"""A trained model with its PyTorch network, on disk as safetensors + JSON."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from pregao.data.batch import as_inputs
from pregao.data.market import Market
from pregao.data.stock_index import places
from pregao.errors import CorruptModel, first_line
from pregao.models.base import ForecastModel
from pregao.models.card import MARKET, ModelCard, damage_refused
from pregao.models.choices import build_model
from pregao.models.forecaster import Forecaster

WEIGHTS = "model.safetensors"

_TYPICAL = "typical_volatility"
"""A weight in files of version 0.1; now a field of the card."""


@dataclass(frozen=True)
class TrainedModel(Forecaster):
    """A network for inference, and its card.

    Attributes:
        network: the model.
        card: its description.
        market: the market factor of its panel; None if its inputs have none.
    """

    network: ForecastModel
    card: ModelCard
    market: Market | None = None

    @property
    def follows_outcomes(self) -> bool:
        """The network's: cards of earlier versions do not say it."""
        return self.network.follows_outcomes

    def quantiles(
        self,
        closes: Float[np.ndarray, "n lookback"],
        measures: Float[np.ndarray, "n measures"],
        stocks: Sequence[str] | np.ndarray,
    ) -> Float[np.ndarray, "n horizon 7"]:
        """Quantiles of the next closes of many windows, in the closes' currency."""
        self.network.eval()
        with torch.inference_mode():
            out: np.ndarray = self.network(as_inputs(closes, measures, places(stocks, self.card.stocks))).numpy()
        return out

    def save(self, folder: Path) -> None:
        """Write weights, market and card; creates the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}
        # Not save_file: only the owner can read its file, and a server may run as another user.
        (folder / WEIGHTS).write_bytes(save(state))
        if self.market is not None:
            self.market.save(folder / MARKET)
        self.card.save(folder)

    @classmethod
    def load(cls, folder: Path) -> "TrainedModel":
        """Read what `save` wrote.

        Raises:
            CorruptModel: a file is missing or damaged, or the weights do not fit the network.
        """
        card = ModelCard.load(folder)
        weights = card.read(folder, WEIGHTS)
        try:
            state = load(weights)
        except SafetensorError as error:
            raise CorruptModel(folder, f"SafetensorError: {first_line(error)}") from error
        with damage_refused(folder):
            if _TYPICAL in state:
                state, card = _of_version_0_1(state, card)
            network = build_model(card.network)
            network.load_state_dict(state)
        return cls(network, card, card.read_market(folder))


def _of_version_0_1(state: dict[str, Tensor], card: ModelCard) -> tuple[dict[str, Tensor], ModelCard]:
    """Weights and card of a model of version 0.1, in this version's names."""
    renamed = {name.replace("recurrence.", "encoder.", 1): tensor for name, tensor in state.items()}
    typical = renamed.pop(_TYPICAL).item()
    return renamed | {"fitted": torch.tensor(True)}, replace(card, typical_volatility=typical)
