"""A trained model: network and card, on disk as safetensors + JSON; forecasts from closes alone."""

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
from pregao.data.market import LEAST_STOCKS, Market
from pregao.data.variance import Prices
from pregao.data.volatility import SPAN, TYPICAL_VOLATILITY, volatilities
from pregao.errors import CorruptModel, InvalidCloses, first_line
from pregao.models.base import ForecastModel
from pregao.models.choices import build_model
from pregao.quantiles import MEDIAN, bands, widened

if TYPE_CHECKING:  # an inference process saves pandas' 50 MB
    import pandas as pd

    from pregao.prices.table import PriceBasis

WEIGHTS, CARD, MARKET = "model.safetensors", "model.json", "market.csv"
MOST_CLOSES = 10_000
GREATEST_RATIO = 3.0
"""Of two consecutive closes, in either direction."""

_TYPICAL = "typical_volatility"
"""A weight in files of version 0.1; now a field of the card."""


@dataclass(frozen=True)
class ModelCard:
    """Description of a trained model.

    Attributes:
        stock: the ticker; SHARED for a model of many stocks.
        stocks: the stocks that it was trained on.
        lookback: closes per window.
        network: the model's `_target_` and its constructor's arguments.
        price: basis of its prices, `adjusted` or `close`.
        trained_at: ISO 8601, UTC.
        train_end: the last date of the training part.
        validation_start: the first date of the validation part; the online width starts there.
        validation_end: the last date of the validation part, which selects the epoch and calibrates the bands.
        data_end: the last date of its data, test part included.
        metrics: of the test windows, with the baselines'.
        returns: by stock, `drift.summary` of its closes before `validation_start`.
        typical_volatility: root mean square daily log return of its stocks before `validation_start`; replaces
            the unknown past of a short history.
        panel: the stocks of its market factor; empty for one stock alone and on older cards.
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
    panel: list[str] = field(default_factory=list)

    @property
    def horizon(self) -> int:
        """Sessions ahead."""
        return int(self.network["horizon"])

    @property
    def inputs(self) -> str:
        """The measures, a key of `volatility.NAMES`."""
        return str(self.network["inputs"])

    @property
    def market_stocks(self) -> list[str]:
        """The stocks of its market factor; of an older card, those of a shared model."""
        return self.panel or (self.stocks if len(self.stocks) >= LEAST_STOCKS else [])


@dataclass(frozen=True)
class Window:
    """The inputs of one forecast.

    Attributes:
        closes: the last `lookback` closes, oldest first.
        volatilities: the measures at the last close; NaN where unknown.
        width: factor on the bands, from the outcomes known at the last close.
        stock: the ticker; empty if unknown.
    """

    closes: list[float]
    volatilities: list[float]
    width: float = 1.0
    stock: str = ""


@dataclass(frozen=True)
class TrainedModel:
    """A network for inference, and its card.

    Attributes:
        network: the model.
        card: its description.
        market: the market factor of its panel; None if its inputs have none.
    """

    network: ForecastModel
    card: ModelCard
    market: Market | None = None

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

    def volatilities(self, prices: Prices) -> Float[np.ndarray, "sessions measures"]:
        """The model's measures at the end of each session."""
        return volatilities(prices, self.card.inputs, self.card.typical_volatility, self.market)

    def window(self, closes: Sequence[Any]) -> Window:
        """The window at the end of closes alone; more closes give better volatilities.

        Raises:
            InvalidCloses: there are too few or too many, or one is not a positive finite number.
        """
        given = check_closes(closes, self.card.lookback)
        known = self.volatilities({"close": np.array(given[-SPAN - 1 :])})[-1].astype(np.float32)
        return Window(given[-self.card.lookback :], known.tolist())

    def forecast(self, closes: Sequence[Any]) -> "pd.DataFrame":
        """The forecast after these closes: `step close lower_80 upper_80 lower_90 upper_90`, one row per step.

        Raises:
            InvalidCloses: there are too few or too many, or one is not a positive finite number.
        """
        import pandas as pd

        return pd.DataFrame(self.rows(self.window(closes)))

    def rows(self, window: Window) -> list[dict[str, Any]]:
        """The rows of `forecast` without pandas, which takes milliseconds."""
        quantiles = self.quantiles(np.array([window.closes]), np.array([window.volatilities]), [window.stock])
        [quantiles] = widened(quantiles, np.array([window.width]))
        columns = {"close": quantiles[:, MEDIAN], **bands(quantiles)}
        values = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [{"step": step, **dict(zip(columns, row, strict=True))} for step, row in enumerate(values, start=1)]

    def save(self, folder: Path) -> None:
        """Write weights and card; creates the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}
        # Not save_file: only the owner can read its file, and a server may run as another user.
        (folder / WEIGHTS).write_bytes(save(state))
        card = json.dumps(asdict(self.card), indent=2, allow_nan=False)
        (folder / CARD).write_text(card + "\n", encoding="utf-8")
        if self.market is not None:
            self.market.save(folder / MARKET)

    @classmethod
    def load(cls, folder: Path) -> "TrainedModel":
        """Read what `save` wrote.

        Raises:
            CorruptModel: a file is missing or damaged, or the weights do not fit the network.
        """
        try:
            card = ModelCard(**json.loads((folder / CARD).read_text(encoding="utf-8")))
            state = load_file(folder / WEIGHTS)
            if _TYPICAL in state:
                state, card = _of_version_0_1(state, card)
            network = build_model(card.network)
            network.load_state_dict(state)
            market = Market.load(folder / MARKET, card.market_stocks) if (folder / MARKET).exists() else None
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            raise CorruptModel(folder, f"{type(error).__name__}: {first_line(error)}") from error
        return cls(network, card, market)


def _of_version_0_1(state: dict[str, Tensor], card: ModelCard) -> tuple[dict[str, Tensor], ModelCard]:
    """Weights and card of a model of version 0.1, in this version's names."""
    renamed = {name.replace("recurrence.", "encoder.", 1): tensor for name, tensor in state.items()}
    typical = renamed.pop(_TYPICAL).item()
    return renamed | {"fitted": torch.tensor(True)}, replace(card, typical_volatility=typical)


def check_closes(closes: Sequence[Any], lookback: int) -> list[float]:
    """The closes as floats.

    Raises:
        InvalidCloses: names the position (from 1) of the first value that is not a price, or not plausible.
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
    found = [float(value) for value in closes]
    refuse_implausible(found)
    return found


def refuse_implausible(closes: Sequence[float]) -> None:
    """Refuse a move beyond a factor of 3 in one session: no B3 stock has one, adjusted for splits.

    Raises:
        InvalidCloses: names the position (from 1) of the close that is farther from the median of all.
    """
    logarithms = np.log(closes)
    jumps = np.flatnonzero(np.abs(np.diff(logarithms)) > np.log(GREATEST_RATIO))
    if not len(jumps):
        return
    distances = np.abs(logarithms - np.median(logarithms))
    before = int(jumps[0])
    position = before if distances[before] > distances[before + 1] else before + 1
    neighbour = closes[before + 1 if position == before else before]
    raise InvalidCloses(
        f"closes: number {position + 1} of {len(closes)} is {closes[position]:g}, and the close next to it is "
        f"{neighbour:g}; a move beyond a factor of {GREATEST_RATIO:g} in one session is refused. Check the decimal "
        "point, or adjust the earlier closes for a split."
    )


def _is_price(value: object) -> bool:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    # math.isfinite raises for an integer too large for a float; this comparison does not.
    return number and bool(0 < value < sys.float_info.max)  # type: ignore[operator]
