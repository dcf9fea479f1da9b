"""Base of the neural quantile models: an encoder, and a head that corrects the quantiles of a random walk."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pregao.data.batch import Inputs
from pregao.data.volatility import NAMES, VOLATILITY_FLOOR
from pregao.models.base import ForecastModel, gaussian_quantiles, log_returns
from pregao.quantiles import LEVELS, MEDIAN

FEATURES = 2
"""Per session: the logarithm of the return's size and its sign."""

LARGEST_FACTOR = 3.0
"""The logarithm of the factor on a gap between quantiles is clamped to ±3."""

_NEIGHBOURS = [level for level in range(len(LEVELS)) if level != MEDIAN]


class QuantileModel(ForecastModel):
    """Quantiles of the log return to each step, as learned factors on the quantiles of the training part.

    The head starts at zero. It gives the median of each step and the logarithms of factors on the gaps between
    neighbouring quantiles: the quantiles never cross, and the untrained model is a random walk. The head sees the
    encoder's state and the logarithms of the measures.

    Args:
        horizon: sessions ahead.
        inputs: the measures, a key of `volatility.NAMES`.
        encoder: features `[B, sessions, 2]` → state `[B, hidden_size]`.
        hidden_size: size of the state.
        shrinkage: factor on the predicted median.
    """

    gaps: Tensor
    measure_mean: Tensor
    measure_deviation: Tensor

    def __init__(self, horizon: int, inputs: str, encoder: nn.Module, hidden_size: int, shrinkage: float) -> None:
        super().__init__(horizon, NAMES[inputs], shrinkage)
        columns = len(self.measures) + 1
        self.hidden_size = hidden_size
        self.encoder = encoder
        self.head = nn.Linear(hidden_size + columns, horizon * len(LEVELS))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("gaps", gaussian_quantiles().diff().repeat(horizon, 1))
        self.register_buffer("measure_mean", torch.zeros(columns))
        self.register_buffer("measure_deviation", torch.ones(columns))

    def fit_statistics(self, inputs: Inputs, targets: Float[Tensor, "batch horizon"]) -> None:
        """Estimate the quantiles of the training part, and the mean and standard deviation of each measure."""
        z = self.normalize(inputs, targets).double().cpu().numpy()
        quantiles = torch.from_numpy(np.quantile(z, LEVELS, axis=0).T).float()
        self.gaps.copy_(quantiles.diff(dim=1).clamp_min(VOLATILITY_FLOOR))
        raw = self.log_measures(inputs)
        known = raw.isfinite()
        count = known.sum(dim=0).clamp_min(1)
        mean = raw.nan_to_num(0.0, 0.0, 0.0).double().sum(dim=0) / count
        variance = torch.where(known, raw.double() - mean, 0.0).square().sum(dim=0) / count
        self.measure_mean.copy_(mean)
        self.measure_deviation.copy_(variance.sqrt().clamp_min(VOLATILITY_FLOOR))

    def predict_normalized(self, inputs: Inputs) -> Float[Tensor, "batch horizon levels"]:
        """Quantiles of the log return from the last close to each step, in units of `scale`."""
        features, measures = self.preprocess(inputs)
        out = self.head(torch.cat([self.encoder(features), measures], dim=1)).unflatten(1, (self.horizon, len(LEVELS)))
        factors = out[..., _NEIGHBOURS].clamp(-LARGEST_FACTOR, LARGEST_FACTOR).exp()
        ladder = nn.functional.pad((self.gaps * factors).cumsum(dim=-1), (1, 0))
        quantiles: Tensor = ladder - ladder[..., MEDIAN : MEDIAN + 1] + out[..., MEDIAN : MEDIAN + 1]
        return quantiles

    def preprocess(
        self, inputs: Inputs
    ) -> tuple[Float[Tensor, "batch sessions features"], Float[Tensor, "batch columns"]]:
        """Features per session and standardised measures; an unknown measure is replaced by its mean."""
        per_session = log_returns(inputs.closes) / inputs.measures[:, :1]
        features = torch.stack([(per_session.abs() + 0.1).log(), per_session.sign()], dim=-1)
        measures = (self.log_measures(inputs) - self.measure_mean) / self.measure_deviation
        return features, measures.nan_to_num(0.0, 0.0, 0.0)

    def log_measures(self, inputs: Inputs) -> Float[Tensor, "batch columns"]:
        """Logarithms of the window's volatility, and of its and the measures' ratios to the long-run volatility."""
        window = log_returns(inputs.closes).square().mean(dim=1, keepdim=True).sqrt().clamp_min(VOLATILITY_FLOOR)
        ratios = torch.cat([window, inputs.measures[:, 1:]], dim=1) / inputs.measures[:, :1]
        # A day without a move would give log(0): 0.05 bounds the logarithm at -3.
        return torch.cat([window.log(), (ratios + 0.05).log()], dim=1)
