"""The networks: closes [B, lookback] and volatilities [B, M] → quantiles of the next closes [B, horizon, 7].

Scaling happens in here, so what goes in and what comes out are prices, in any currency and anchored anywhere.
Prices are float64, log returns are taken in it and then rounded to float32, in which all else is computed: a history
that is anchored at another day is multiplied by another factor, and this rounding takes away what the factor leaves in
the last bits. So a model does not depend on the day on which its prices were downloaded.
"""

from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pregao.data.volatility import NAMES, TYPICAL_VOLATILITY, VOLATILITY_FLOOR
from pregao.quantiles import LEVELS, MEDIAN

CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}

WINDOW_SHARE = 0.3
"""Weight of the window's variance against the long run's: 20 returns alone are a noisy measure (QUALITY)."""

LOWEST_PRICE = 0.01
"""The exchange's smallest tick: no forecast goes to zero or below, so that its log return exists."""

LARGEST_FACTOR = 3.0
"""A gap between quantiles is never multiplied by more than e³, nor by less than e⁻³, whatever the head has learned."""


class Recurrence(nn.Module):
    """LSTM · Dropout · … over some features a session; the state after the last one."""

    def __init__(self, features: int, cell: str, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        between = dropout if num_layers > 1 else 0.0
        self.cell = CELLS[cell](features, hidden_size, num_layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Float[Tensor, "batch sessions features"]) -> Float[Tensor, "batch hidden"]:
        """The last layer's state."""
        states, _ = self.cell(features)
        out: Tensor = self.dropout(states[:, -1])
        return out


class QuantileNetwork(nn.Module):
    """Learns the quantiles of the log return to each step, as factors on a random walk's fan.

    The fan's unit is √(0.3 window² + 0.7 long-run²) · √step. Its quantiles are those of the training part in that unit,
    and a head that begins at zero gives each step's median, and the logarithms of factors on the gaps between
    neighbouring quantiles: so they never cross, and the untrained network is a sensible random walk. The head sees the
    recurrence's state and, past it, the logarithms of the volatilities. Of the learned median only the part
    `shrinkage` is forecast: a whole one is worse than last close on most stocks.

    Attributes:
        typical_volatility: of the stocks that it was trained on; stands in for a past that is not known.
        width: calibration's factor on the bands.
    """

    typical_volatility: Tensor
    width: Tensor
    gaps: Tensor
    measure_mean: Tensor
    measure_deviation: Tensor
    root_step: Tensor

    def __init__(
        self,
        *,
        horizon: int,
        cell: str,
        hidden_size: int,
        num_layers: int,
        dropout: float,
        shrinkage: float,
        inputs: str,
    ) -> None:
        super().__init__()
        self.horizon = horizon
        self.shrinkage = shrinkage
        self.inputs = inputs
        measures = len(NAMES[inputs]) + 1
        self.recurrence = Recurrence(2, cell, hidden_size, num_layers, dropout)
        self.head = nn.Linear(hidden_size + measures, horizon * len(LEVELS))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        gaussian = torch.tensor([NormalDist().inv_cdf(level) for level in LEVELS])
        self.register_buffer("typical_volatility", torch.tensor(TYPICAL_VOLATILITY))
        self.register_buffer("width", torch.tensor(1.0))
        self.register_buffer("gaps", gaussian.diff().repeat(horizon, 1))
        self.register_buffer("measure_mean", torch.zeros(measures))
        self.register_buffer("measure_deviation", torch.ones(measures))
        self.register_buffer("root_step", torch.arange(1, horizon + 1).sqrt(), persistent=False)

    def begin_at(
        self,
        closes: Float[Tensor, "batch lookback"],
        volatilities: Float[Tensor, "batch measures"],
        targets: Float[Tensor, "batch horizon"],
    ) -> None:
        """Take the untrained fan and the scaling of the measures from the training part."""
        z = (since_last(closes, targets) / self._unit(closes, volatilities)).double().numpy()
        quantiles = torch.from_numpy(np.quantile(z, LEVELS, axis=0).T).float()
        self.gaps.copy_(quantiles.diff(dim=1).clamp_min(VOLATILITY_FLOOR))
        raw = self._raw_measures(closes, volatilities)
        known = raw.isfinite()
        count = known.sum(dim=0).clamp_min(1)
        mean = raw.nan_to_num(0.0, 0.0, 0.0).double().sum(dim=0) / count
        variance = torch.where(known, raw.double() - mean, 0.0).square().sum(dim=0) / count
        self.measure_mean.copy_(mean)
        self.measure_deviation.copy_(variance.sqrt().clamp_min(VOLATILITY_FLOOR))

    def encoded(
        self, closes: Float[Tensor, "batch lookback"], volatilities: Float[Tensor, "batch measures"]
    ) -> tuple[Float[Tensor, "batch sessions 2"], Float[Tensor, "batch measures_and_one"]]:
        """What is computed without any weight, so that a training need not do it batch by batch."""
        per_session = daily_returns(closes) / volatilities[:, :1]
        features = torch.stack([(per_session.abs() + 0.1).log(), per_session.sign()], dim=-1)
        measures = (self._raw_measures(closes, volatilities) - self.measure_mean) / self.measure_deviation
        return features, measures.nan_to_num(0.0, 0.0, 0.0)

    def decoded(
        self, features: Float[Tensor, "batch sessions 2"], measures: Float[Tensor, "batch measures_and_one"]
    ) -> Float[Tensor, "batch horizon 7"]:
        """What the loss sees: quantiles of the log return to each step, in the fan's unit."""
        seen = torch.cat([self.recurrence(features), measures], dim=1)
        out = self.head(seen).unflatten(1, (self.horizon, len(LEVELS)))
        factors = out[..., _NEIGHBOURS].clamp(-LARGEST_FACTOR, LARGEST_FACTOR).exp()
        ladder = nn.functional.pad((self.gaps * factors).cumsum(dim=-1), (1, 0))
        quantiles: Tensor = ladder - ladder[..., MEDIAN : MEDIAN + 1] + out[..., MEDIAN : MEDIAN + 1]
        return quantiles

    def learned(
        self, closes: Float[Tensor, "batch lookback"], volatilities: Float[Tensor, "batch measures"]
    ) -> Float[Tensor, "batch horizon 7"]:
        """`decoded` from prices."""
        quantiles: Tensor = self.decoded(*self.encoded(closes, volatilities))
        return quantiles

    def goal(
        self,
        closes: Float[Tensor, "batch lookback"],
        volatilities: Float[Tensor, "batch measures"],
        targets: Float[Tensor, "batch horizon"],
    ) -> Float[Tensor, "batch horizon"]:
        """The targets in the unit of `learned`."""
        return since_last(closes, targets) / self._unit(closes, volatilities)

    def quantiles(
        self,
        closes: Float[Tensor, "batch lookback"],
        volatilities: Float[Tensor, "batch measures"],
        learned: Float[Tensor, "batch horizon 7"],
    ) -> Float[Tensor, "batch horizon 7"]:
        """The quantiles of the next closes that `learned` means, around the shrunk median."""
        median = learned[..., MEDIAN : MEDIAN + 1]
        moves = self.shrinkage * median + self.width * (learned - median)
        moves = moves * self._unit(closes, volatilities)[..., None]
        prices: Tensor = closes[:, -1:, None] * moves.double().exp()
        return prices

    def forward(
        self, closes: Float[Tensor, "batch lookback"], volatilities: Float[Tensor, "batch measures"]
    ) -> Float[Tensor, "batch horizon 7"]:
        """Quantiles of the next closes."""
        return self.quantiles(closes, volatilities, self.learned(closes, volatilities))

    def _unit(
        self, closes: Float[Tensor, "batch lookback"], volatilities: Float[Tensor, "batch measures"]
    ) -> Float[Tensor, "batch horizon"]:
        return fan_unit(closes, volatilities) * self.root_step

    def _raw_measures(
        self, closes: Float[Tensor, "batch lookback"], volatilities: Float[Tensor, "batch measures"]
    ) -> Float[Tensor, "batch measures_and_one"]:
        """The window's volatility, and each measure in units of the long run's; logarithms."""
        window = daily_returns(closes).square().mean(dim=1, keepdim=True).sqrt().clamp_min(VOLATILITY_FLOOR)
        long_run = volatilities[:, :1]
        ratios = torch.cat([window, volatilities[:, 1:]], dim=1) / long_run
        # A day without a move has no logarithm; a twentieth of the usual volatility keeps it from mattering too much.
        return torch.cat([window.log(), (ratios + 0.05).log()], dim=1)


class AbsoluteNetwork(nn.Module):
    """The published recipe: prices go in as they are and come out as they are. Kept to show what that costs.

    Its fan has the same unit as the other network's, and one width, which calibration finds.
    """

    typical_volatility: Tensor
    width: Tensor
    gaussian: Tensor
    root_step: Tensor

    def __init__(
        self, *, horizon: int, cell: str, hidden_size: int, num_layers: int, dropout: float, inputs: str
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.recurrence = Recurrence(1, cell, hidden_size, num_layers, dropout)
        self.head = nn.Linear(hidden_size, horizon)
        gaussian = torch.tensor([NormalDist().inv_cdf(level) for level in LEVELS])
        self.register_buffer("typical_volatility", torch.tensor(TYPICAL_VOLATILITY))
        self.register_buffer("width", torch.tensor(1.0))
        self.register_buffer("gaussian", gaussian, persistent=False)
        self.register_buffer("root_step", torch.arange(1, horizon + 1).sqrt(), persistent=False)

    def begin_at(
        self,
        closes: Float[Tensor, "batch lookback"],
        volatilities: Float[Tensor, "batch measures"],
        targets: Float[Tensor, "batch horizon"],
    ) -> None:
        """Nothing: it begins at random weights."""

    def encoded(
        self, closes: Float[Tensor, "batch lookback"], volatilities: Float[Tensor, "batch measures"]
    ) -> tuple[Float[Tensor, "batch lookback 1"]]:
        """The closes as they are."""
        return (closes[..., None].float(),)

    def decoded(self, features: Float[Tensor, "batch lookback 1"]) -> Float[Tensor, "batch horizon"]:
        """The next closes."""
        prices: Tensor = self.head(self.recurrence(features))
        return prices

    def learned(
        self, closes: Float[Tensor, "batch lookback"], volatilities: Float[Tensor, "batch measures"]
    ) -> Float[Tensor, "batch horizon"]:
        """`decoded` from prices."""
        prices: Tensor = self.decoded(*self.encoded(closes, volatilities))
        return prices

    def goal(
        self,
        closes: Float[Tensor, "batch lookback"],
        volatilities: Float[Tensor, "batch measures"],
        targets: Float[Tensor, "batch horizon"],
    ) -> Float[Tensor, "batch horizon"]:
        """The targets as they are."""
        return targets.float()

    def quantiles(
        self,
        closes: Float[Tensor, "batch lookback"],
        volatilities: Float[Tensor, "batch measures"],
        learned: Float[Tensor, "batch horizon"],
    ) -> Float[Tensor, "batch horizon 7"]:
        """A Gaussian fan around the learned closes; nothing keeps a linear layer from learning negative ones."""
        point = learned.double().clamp_min(LOWEST_PRICE)
        unit = fan_unit(closes, volatilities) * self.root_step
        return point[..., None] * (self.width * unit[..., None] * self.gaussian).double().exp()

    def forward(
        self, closes: Float[Tensor, "batch lookback"], volatilities: Float[Tensor, "batch measures"]
    ) -> Float[Tensor, "batch horizon 7"]:
        """Quantiles of the next closes."""
        return self.quantiles(closes, volatilities, self.learned(closes, volatilities))


Network = QuantileNetwork | AbsoluteNetwork

SCALINGS: dict[str, type[QuantileNetwork] | type[AbsoluteNetwork]] = {
    "window": QuantileNetwork,
    "none": AbsoluteNetwork,
}

_NEIGHBOURS = [place for place in range(len(LEVELS)) if place != MEDIAN]


def build_network(scaling: str, **choices: Any) -> Network:  # noqa: ANN401 - numbers and strings out of conf/model
    """The network that `model.scaling` names; its other choices are its constructor's arguments."""
    return SCALINGS[scaling](**choices)


def fan_unit(
    closes: Float[Tensor, "batch lookback"], volatilities: Float[Tensor, "batch measures"]
) -> Float[Tensor, "batch 1"]:
    """Expected size of one session's log return: √(0.3 window² + 0.7 long-run²)."""
    variance = daily_returns(closes).square().mean(dim=1, keepdim=True)
    blend = WINDOW_SHARE * variance + (1 - WINDOW_SHARE) * volatilities[:, :1].square()
    return blend.sqrt().clamp_min(VOLATILITY_FLOOR)


def daily_returns(closes: Float[Tensor, "batch lookback"]) -> Float[Tensor, "batch sessions"]:
    """Log returns inside the window, in float32."""
    return (closes[:, 1:] / closes[:, :-1]).log().float()


def since_last(closes: Float[Tensor, "batch lookback"], prices: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
    """Log returns of prices since the last of the closes, in float32."""
    return (prices / closes[:, -1:]).log().float()
