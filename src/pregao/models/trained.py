"""A trained network with what is known of it, on disk as safetensors + json; forecasts from bare closes."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from pregao.data.batch import as_inputs, places
from pregao.data.volatility import SPAN, TYPICAL_VOLATILITY, Prices, volatilities
from pregao.errors import CorruptModel, InvalidCloses, first_line
from pregao.models.base import ForecastModel
from pregao.models.choices import build_model
from pregao.quantiles import MEDIAN, bands, widened

if TYPE_CHECKING:  # an inference process does without pandas' 50 MB
    import pandas as pd

    from pregao.prices.table import PriceBasis

WEIGHTS, CARD = "model.safetensors", "model.json"
MOST_CLOSES = 10_000

_TYPICAL = "typical_volatility"
"""A weight in files of version 0.1, on the card since."""


@dataclass(frozen=True)
class ModelCard:
    """What a trained model is.

    Attributes:
        stock: the ticker; SHARED for a model of many stocks.
        stocks: those that it was trained on.
        lookback: closes that a forecast sees.
        network: the model's `_target_` and its constructor's arguments.
        price: the basis of its prices, `adjusted` or `close`.
        trained_at: ISO 8601, UTC.
        train_end: the last date that its weights have seen.
        validation_start: the first date of the outcomes that it was calibrated on; the online width begins there.
        validation_end: the last date that the choice of the epoch and the calibration have seen.
        data_end: the last date of the history that it was trained and judged on.
        metrics: of the judged windows, with their baselines.
        returns: what was usual of each stock's daily returns before `validation_start`, as `drift.summary` made it.
        typical_volatility: root mean square daily log return of its stocks before `validation_start`; used for a past
            that is not known.
    """

    stock: str
    stocks: list[str]
    lookback: int
    network: dict[str, Any]
    price: "PriceBasis"
    trained_at: str
    train_end: str
    validation_start: str
    validation_end: str
    data_end: str
    metrics: dict[str, float | None]
    returns: dict[str, dict[str, Any] | None] = field(default_factory=dict)  # older cards have none
    typical_volatility: float = TYPICAL_VOLATILITY

    @property
    def horizon(self) -> int:
        """Sessions ahead."""
        return int(self.network["horizon"])

    @property
    def inputs(self) -> str:
        """The measures beyond the closes, a key of `volatility.NAMES`."""
        return str(self.network["inputs"])


@dataclass(frozen=True)
class Window:
    """What one forecast is made from.

    Attributes:
        closes: the last `lookback` ones, oldest first.
        volatilities: as known at the last close; NaN where unknown.
        width: factor on the bands, from outcomes that were known by then.
        stock: the ticker, where it is known.
    """

    closes: list[float]
    volatilities: list[float]
    width: float = 1.0
    stock: str = ""


@dataclass(frozen=True)
class TrainedModel:
    """A model that only forecasts."""

    network: ForecastModel
    card: ModelCard

    def quantiles(
        self,
        closes: Float[np.ndarray, "n lookback"],
        measures: Float[np.ndarray, "n measures"],
        stocks: Sequence[str] | np.ndarray,
    ) -> Float[np.ndarray, "n horizon 7"]:
        """Quantiles of the next closes, in the closes' currency, of many windows with their measures and tickers."""
        self.network.eval()
        with torch.inference_mode():
            out: np.ndarray = self.network(as_inputs(closes, measures, places(stocks, self.card.stocks))).numpy()
        return out

    def volatilities(self, prices: Prices) -> Float[np.ndarray, "sessions measures"]:
        """The model's measures at each session's end."""
        return volatilities(prices, self.card.inputs, self.card.typical_volatility)

    def window(self, closes: Sequence[float]) -> Window:
        """The window at the end of bare closes; the more of them, the better its volatilities.

        Raises:
            InvalidCloses: too few or too many of them, or one that is no positive finite number.
        """
        given = check_closes(closes, self.card.lookback)
        known = self.volatilities({"close": np.array(given[-SPAN - 1 :])})[-1].astype(np.float32)
        return Window(given[-self.card.lookback :], known.tolist())

    def forecast(self, closes: Sequence[float]) -> "pd.DataFrame":
        """The next closes after these: `step close lower_80 upper_80 lower_90 upper_90`, one row a step.

        Raises:
            InvalidCloses: too few or too many of them, or one that is no positive finite number.
        """
        import pandas as pd

        return pd.DataFrame(self.rows(self.window(closes)))

    def rows(self, window: Window) -> list[dict[str, Any]]:
        """The rows of `forecast`, without the milliseconds that a table takes."""
        quantiles = self.quantiles(np.array([window.closes]), np.array([window.volatilities]), [window.stock])
        [quantiles] = widened(quantiles, np.array([window.width]))
        columns = {"close": quantiles[:, MEDIAN], **bands(quantiles)}
        values = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [{"step": step, **dict(zip(columns, row, strict=True))} for step, row in enumerate(values, start=1)]

    def save(self, folder: Path) -> None:
        """Write weights and card; the folder is made."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}
        # Not save_file: its file is its owner's alone, and a server may run as somebody else.
        (folder / WEIGHTS).write_bytes(save(state))
        card = json.dumps(asdict(self.card), indent=2, allow_nan=False)
        (folder / CARD).write_text(card + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "TrainedModel":
        """Read what `save` wrote.

        Raises:
            CorruptModel: a file is missing, damaged, or not of this network.
        """
        try:
            card = ModelCard(**json.loads((folder / CARD).read_text(encoding="utf-8")))
            state = load_file(folder / WEIGHTS)
            if _TYPICAL in state:
                state, card = _of_version_0_1(state, card)
            network = build_model(card.network)
            network.load_state_dict(state)
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            raise CorruptModel(folder, f"{type(error).__name__}: {first_line(error)}") from error
        return cls(network, card)


def _of_version_0_1(state: dict[str, Tensor], card: ModelCard) -> tuple[dict[str, Tensor], ModelCard]:
    """Weights and card of a model that version 0.1 saved, as this version names them."""
    renamed = {name.replace("recurrence.", "encoder.", 1): tensor for name, tensor in state.items()}
    typical = renamed.pop(_TYPICAL).item()
    return renamed | {"fitted": torch.tensor(True)}, replace(card, typical_volatility=typical)


def check_closes(closes: Sequence[Any], lookback: int) -> list[float]:
    """The closes as floats.

    Raises:
        InvalidCloses: with the position (from 1) of what is no price.
    """
    if not lookback <= len(closes) <= MOST_CLOSES:
        raise InvalidCloses(
            f"closes: {len(closes)} were given; between {lookback} and {MOST_CLOSES:,} are needed, oldest first. "
            f"Give at least the last {lookback} closes."
        )
    for position, value in enumerate(closes, start=1):
        if not _is_price(value):
            raise InvalidCloses(
                f"closes: number {position} of {len(closes)} is {repr(value)[:40]}; every close must be a positive, "
                "finite price. Correct it, or leave that session out."
            )
    return [float(value) for value in closes]


def _is_price(value: object) -> bool:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    # math.isfinite cannot take an integer that no float can hold; this comparison can.
    return number and bool(0 < value < sys.float_info.max)  # type: ignore[operator]
