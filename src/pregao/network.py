"""The networks: closes [B, lookback] → quantiles of the next closes [B, horizon, 7], in the closes' own unit.

Scaling happens in here, so what goes in and what comes out are prices. Each network is a recurrence for the learned
median, and around it a fan whose width is the window's own volatility times factors found in calibration.
Prices are float64, log returns are taken in it and then rounded to float32, in which all else is computed: a history
that is anchored at another day is multiplied by another factor, and this rounding takes away what the factor leaves in
the last bits. So a model does not depend on the day on which its prices were downloaded.
"""

import math
from statistics import NormalDist
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pregao.quantiles import LEVELS

CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}

WINDOW_SHARE = 0.3
"""Weight of the window's variance against the long run's: 20 returns alone are a noisy measure (QUALITY)."""

VOLATILITY_FLOOR = 1e-3
"""A halted stock repeats its close; a daily 0.1 % keeps its scale away from zero."""

TYPICAL_VOLATILITY = 0.02
"""Root mean square daily log return of a B3 stock, where nothing is known of the stock yet."""

LOWEST_PRICE = 0.01
"""The exchange's smallest tick: no forecast goes to zero or below, so that its log return exists."""


class Recurrence(nn.Module):
    """LSTM · Dropout · LSTM · Dropout · Linear over one feature a session."""

    def __init__(self, horizon: int, cell: str, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        between = dropout if num_layers > 1 else 0.0
        self.cell = CELLS[cell](1, hidden_size, num_layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_size, horizon)

    def forward(self, features: Float[Tensor, "batch lookback 1"]) -> Float[Tensor, "batch horizon"]:
        """One number a step ahead, from the state after the last session."""
        states, _ = self.cell(features)
        out: Tensor = self.head(self.dropout(states[:, -1]))
        return out


class Fan(nn.Module):
    """The spread around a point forecast: offsets in units of √(0.3 window² + 0.7 long-run²) · √step.

    Before calibration the offsets are a Gaussian random walk's.
    """

    long_run_volatility: Tensor
    offsets: Tensor
    root_step: Tensor

    def __init__(self, horizon: int) -> None:
        super().__init__()
        gaussian = torch.tensor([NormalDist().inv_cdf(level) for level in LEVELS])
        self.register_buffer("long_run_volatility", torch.tensor(TYPICAL_VOLATILITY))
        self.register_buffer("offsets", gaussian.repeat(horizon, 1))
        self.register_buffer("root_step", torch.arange(1, horizon + 1).sqrt(), persistent=False)

    def scale(self, closes: Float[Tensor, "batch lookback"]) -> Float[Tensor, "batch horizon"]:
        """Expected size of the log return to each step."""
        variance = since_last(closes, closes).diff(dim=1).square().mean(dim=1, keepdim=True)
        blend = WINDOW_SHARE * variance + (1 - WINDOW_SHARE) * self.long_run_volatility.square()
        return blend.sqrt().clamp_min(VOLATILITY_FLOOR) * self.root_step

    def forward(
        self, point: Float[Tensor, "batch horizon"], closes: Float[Tensor, "batch lookback"]
    ) -> Float[Tensor, "batch horizon 7"]:
        """Quantiles around a point forecast."""
        moves = self.offsets * self.scale(closes)[..., None]
        return point[..., None] * moves.double().exp()

    def residuals(
        self,
        point: Float[Tensor, "batch horizon"],
        closes: Float[Tensor, "batch lookback"],
        targets: Float[Tensor, "batch horizon"],
    ) -> Float[Tensor, "batch horizon"]:
        """What came less what was forecast, as log returns in units of their expected size."""
        return (since_last(closes, targets) - since_last(closes, point)) / self.scale(closes)


class RelativeNetwork(nn.Module):
    """Learns log returns from the last close in units of the window's volatility; untrained, it repeats the last close.

    Only the part `shrinkage` of the learned move is forecast: a whole one is worse than last close on most stocks.
    """

    def __init__(
        self, *, horizon: int, cell: str, hidden_size: int, num_layers: int, dropout: float, shrinkage: float
    ) -> None:
        super().__init__()
        self.shrinkage = shrinkage
        self.recurrence = Recurrence(horizon, cell, hidden_size, num_layers, dropout)
        self.fan = Fan(horizon)
        nn.init.zeros_(self.recurrence.head.weight)
        nn.init.zeros_(self.recurrence.head.bias)

    def learned(self, closes: Float[Tensor, "batch lookback"]) -> Float[Tensor, "batch horizon"]:
        """What the loss sees: the move to each step, in units of its expected size."""
        daily = self.fan.scale(closes)[:, :1]
        moves: Tensor = self.recurrence((since_last(closes, closes) / daily)[..., None])
        return moves

    def goal(
        self, closes: Float[Tensor, "batch lookback"], targets: Float[Tensor, "batch horizon"]
    ) -> Float[Tensor, "batch horizon"]:
        """The targets in the unit of `learned`."""
        return since_last(closes, targets) / self.fan.scale(closes)

    def point(
        self, closes: Float[Tensor, "batch lookback"], learned: Float[Tensor, "batch horizon"]
    ) -> Float[Tensor, "batch horizon"]:
        """The forecast closes that `learned` means."""
        moves = self.shrinkage * learned * self.fan.scale(closes)
        return closes[:, -1:] * moves.double().exp()

    def forward(self, closes: Float[Tensor, "batch lookback"]) -> Float[Tensor, "batch horizon 7"]:
        """Quantiles of the next closes."""
        quantiles: Tensor = self.fan(self.point(closes, self.learned(closes)), closes)
        return quantiles


class AbsoluteNetwork(nn.Module):
    """The published recipe: prices go in as they are and come out as they are. Kept to show what that costs."""

    def __init__(self, *, horizon: int, cell: str, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.recurrence = Recurrence(horizon, cell, hidden_size, num_layers, dropout)
        self.fan = Fan(horizon)

    def learned(self, closes: Float[Tensor, "batch lookback"]) -> Float[Tensor, "batch horizon"]:
        """The next closes."""
        prices: Tensor = self.recurrence(closes[..., None].float())
        return prices

    def goal(
        self, closes: Float[Tensor, "batch lookback"], targets: Float[Tensor, "batch horizon"]
    ) -> Float[Tensor, "batch horizon"]:
        """The targets as they are."""
        return targets.float()

    def point(
        self, closes: Float[Tensor, "batch lookback"], learned: Float[Tensor, "batch horizon"]
    ) -> Float[Tensor, "batch horizon"]:
        """The forecast closes that `learned` means; nothing keeps a linear layer from learning negative ones."""
        return learned.double().clamp_min(LOWEST_PRICE)

    def forward(self, closes: Float[Tensor, "batch lookback"]) -> Float[Tensor, "batch horizon 7"]:
        """Quantiles of the next closes."""
        quantiles: Tensor = self.fan(self.point(closes, self.learned(closes)), closes)
        return quantiles


Network = RelativeNetwork | AbsoluteNetwork

SCALINGS: dict[str, type[RelativeNetwork] | type[AbsoluteNetwork]] = {
    "window": RelativeNetwork,
    "none": AbsoluteNetwork,
}


def build_network(scaling: str, **choices: Any) -> Network:  # noqa: ANN401 - numbers and strings out of conf/model
    """The network that `model.scaling` names; its other choices are its constructor's arguments."""
    return SCALINGS[scaling](**choices)


def since_last(closes: Float[Tensor, "batch lookback"], prices: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
    """Log returns of prices since the last of the closes, in float32."""
    return (prices / closes[:, -1:]).log().float()


def long_run_volatility(closes: Float[Tensor, " sessions"]) -> float:
    """Root mean square daily log return (a fraction), never below the floor."""
    rms = closes.double().log().diff().square().mean().sqrt().item()
    return max(rms, VOLATILITY_FLOOR) if math.isfinite(rms) else VOLATILITY_FLOOR
