"""Forecasts of a trained model from its quantiles, which PyTorch or ONNX Runtime computes."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from jaxtyping import Float

from pregao.data.market import Market
from pregao.data.variance import Prices
from pregao.data.volatility import SPAN, volatilities
from pregao.errors import InvalidCloses
from pregao.models.card import ModelCard
from pregao.quantiles import MEDIAN, bands, widened

if TYPE_CHECKING:  # an inference process saves pandas' 50 MB
    import pandas as pd

MOST_CLOSES = 10_000
GREATEST_RATIO = 3.0
"""Of two consecutive closes, in either direction."""

Rows = list[dict[str, Any]]
"""`step close lower_80 upper_80 lower_90 upper_90`, one per session, in the stock's currency."""


Model = TypeVar("Model", bound="Forecaster")


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


class Forecaster(ABC):
    """A trained model for inference.

    Attributes:
        card: its description.
        market: the market factor of its panel; None if its inputs have none.
    """

    card: ModelCard
    market: Market | None

    @property
    def follows_outcomes(self) -> bool:
        """Whether its bands use the online width (`calibration.online_widths`)."""
        return self.card.follows_outcomes

    @abstractmethod
    def quantiles(
        self,
        closes: Float[np.ndarray, "n lookback"],
        measures: Float[np.ndarray, "n measures"],
        stocks: Sequence[str] | np.ndarray,
    ) -> Float[np.ndarray, "n horizon 7"]:
        """Quantiles of the next closes of many windows, in the closes' currency."""

    def with_market(self: Model, market: Market) -> Model:
        """A copy of the model with another market factor."""
        return replace(self, market=market)  # type: ignore[type-var] # each implementation is a dataclass

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

    def rows(self, window: Window) -> Rows:
        """The rows of `forecast` without pandas, which takes milliseconds."""
        quantiles = self.quantiles(np.array([window.closes]), np.array([window.volatilities]), [window.stock])
        [quantiles] = widened(quantiles, np.array([window.width]))
        columns = {"close": quantiles[:, MEDIAN], **bands(quantiles)}
        values = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [{"step": step, **dict(zip(columns, row, strict=True))} for step, row in enumerate(values, start=1)]

    def rows_after(self, closes: Sequence[float]) -> Rows:
        """The rows of `forecast` after checked closes."""
        return self.rows(self.window(closes))


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
