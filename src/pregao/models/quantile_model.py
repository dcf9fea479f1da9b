"""Base of the neural quantile models: an encoder, and a head that corrects the quantiles of a random walk."""

import copy
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pregao.data.batch import Batch, Inputs
from pregao.data.volatility import NAMES, VOLATILITY_FLOOR
from pregao.models.base import ForecastModel, gaussian_quantiles, log_returns, pinball_loss, returns_to
from pregao.models.har import HarModel
from pregao.quantiles import LEVELS, MEDIAN

FEATURES = 2
"""Per session: the logarithm of the return's size and its sign."""

LARGEST_FACTOR = 3.0
"""The logarithm of the factor on a gap between quantiles is clamped to ±3."""

_NEIGHBOURS = [level for level in range(len(LEVELS)) if level != MEDIAN]


Start = Literal["panel", "volatility"]
Loss = Literal["pinball", "log_variance"]


class QuantileModel(ForecastModel):
    """Quantiles of the log return to each step, as learned factors on the quantiles of a starting point.

    The head starts at zero, so the untrained model is its starting point: the panel model (`har.HarModel`), or a random
    walk with the quantiles of the training part. The head gives the median of each step and the logarithms of factors
    on the gaps between neighbouring quantiles: the quantiles never cross. It sees the encoder's state and the
    logarithms of the measures.

    Args:
        horizon: sessions ahead.
        inputs: the measures, a key of `volatility.NAMES`.
        encoder: features `[B, sessions, 2]` → state `[B, hidden_size]`.
        hidden_size: size of the state.
        shrinkage: factor on the predicted median.
        start: the starting point; `panel` needs the measures of `inputs=panel`.
        loss: `pinball` trains all quantiles; `log_variance` trains the logarithm of the variance, and the median.
        stocks: number of training stocks.
    """

    gaps: Tensor
    measure_mean: Tensor
    measure_deviation: Tensor

    def __init__(
        self,
        horizon: int,
        inputs: str,
        encoder: nn.Module,
        hidden_size: int,
        shrinkage: float,
        start: Start = "volatility",
        loss: Loss = "pinball",
        stocks: int = 1,
    ) -> None:
        super().__init__(horizon, NAMES[inputs], shrinkage)
        columns = len(self.log_names) + 2
        self.hidden_size = hidden_size
        self.trains_variance = loss == "log_variance"
        self.encoder = encoder
        self.head = nn.Linear(hidden_size + columns, horizon * len(LEVELS))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.panel = HarModel(horizon=horizon, inputs=inputs, stocks=stocks) if start == "panel" else None
        if self.panel is None:
            self.register_buffer("gaps", gaussian_quantiles().diff().repeat(horizon, 1))
        self.register_buffer("measure_mean", torch.zeros(columns))
        self.register_buffer("measure_deviation", torch.ones(columns))

    @property
    def follows_outcomes(self) -> bool:
        """Not on the panel model, whose bands it made worse."""
        return self.panel is None

    def fit_statistics(self, batch: Batch) -> None:
        """Fit the starting point on the training part, and the mean and standard deviation of each measure."""
        if self.panel is not None:
            self.panel.fit_statistics(batch)
        else:
            z = self.normalize(batch.inputs, batch.targets).double().cpu().numpy()
            quantiles = torch.from_numpy(np.quantile(z, LEVELS, axis=0).T).float()
            self.gaps.copy_(quantiles.diff(dim=1).clamp_min(VOLATILITY_FLOOR))
        raw = self.log_measures(batch.inputs)
        known = raw.isfinite()
        count = known.sum(dim=0).clamp_min(1)
        mean = raw.nan_to_num(0.0, 0.0, 0.0).double().sum(dim=0) / count
        variance = torch.where(known, raw.double() - mean, 0.0).square().sum(dim=0) / count
        self.measure_mean.copy_(mean)
        self.measure_deviation.copy_(variance.sqrt().clamp_min(VOLATILITY_FLOOR))

    def adopt(self, other: ForecastModel) -> None:
        """Take the weights of another model; of its panel model, all but the intercepts and scales of stocks."""
        assert isinstance(other, QuantileModel)
        weights = {name: tensor for name, tensor in other.state_dict().items() if not name.startswith("panel.")}
        self.load_state_dict(weights, strict=False)
        if self.panel is not None and other.panel is not None:
            self.panel.adopt(other.panel)

    def refit(self, batch: Batch) -> None:
        """Fit the panel model again."""
        if self.panel is not None:
            self.panel.refit(batch)

    def starting_point(self) -> ForecastModel | None:
        """The panel model's bands with this model's median: a flat line would be no answer."""
        if self.panel is None:
            return None
        start = copy.deepcopy(self)
        with torch.no_grad():
            for weights in (start.head.weight, start.head.bias):
                weights.view(self.horizon, len(LEVELS), -1)[:, _NEIGHBOURS] = 0.0
        return start

    def scale(self, inputs: Inputs) -> Float[Tensor, "batch horizon"]:
        """The expected size of the log return to each step, from the starting point."""
        return super().scale(inputs) if self.panel is None else self.panel.scale(inputs)

    def predict_normalized(self, inputs: Inputs) -> Float[Tensor, "batch horizon levels"]:
        """Quantiles of the log return from the last close to each step, in units of `scale`."""
        out = self.correction(inputs)
        factors = out[..., _NEIGHBOURS]
        if self.trains_variance:
            factors = (factors[..., :1] / 2).expand_as(factors)
        factors = factors.clamp(-LARGEST_FACTOR, LARGEST_FACTOR).exp()
        gaps = self.gaps if self.panel is None else self.panel.predict_normalized(inputs).diff(dim=-1)
        ladder = nn.functional.pad((gaps * factors).cumsum(dim=-1), (1, 0))
        centred = ladder - ladder[..., MEDIAN : MEDIAN + 1]
        median = out[..., MEDIAN : MEDIAN + 1]
        if self.panel is None:
            return centred + median
        return with_median(centred, median)

    def place(self, z: Float[Tensor, "batch horizon levels"]) -> Float[Tensor, "batch horizon levels"]:
        """On the panel model, the shrunken median leaves the other quantiles unchanged."""
        if self.panel is None:
            return super().place(z)
        return with_median(self.width * z, self.shrinkage * z[..., MEDIAN : MEDIAN + 1])

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Pinball loss, or the squared error of the log variance and the pinball loss of the median."""
        if not self.trains_variance:
            return super().loss(batch)
        out, scale = self.correction(batch.inputs), self.scale(batch.inputs)
        errors = returns_to(batch.inputs, batch.targets) / scale
        predicted = 2 * (scale / self.root_step).log() + out[..., 0]
        actual = batch.variances.log()
        known = actual.isfinite()
        errors_of_log = torch.where(known, predicted - actual.where(known, 0.0), 0.0)
        squared = errors_of_log.square().sum() / known.sum().clamp_min(1)
        at = slice(MEDIAN, MEDIAN + 1)
        return squared + pinball_loss(out[..., at], errors, self.levels[at])

    def correction(self, inputs: Inputs) -> Float[Tensor, "batch horizon levels"]:
        """The output of the head: the median, and at other levels the logarithms of factors on the starting point."""
        features, measures = self.preprocess(inputs)
        out: Tensor = self.head(torch.cat([self.encoder(features), measures], dim=1))
        return out.view(-1, self.horizon, len(LEVELS))

    @property
    def log_names(self) -> tuple[str, ...]:
        """The measures that the head sees: the panel model uses the others."""
        return tuple(name for name in self.measures[1:] if name in NAMES["ohlc"])

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
        ratios = torch.cat([window, inputs.measures[:, 1 : 1 + len(self.log_names)]], dim=1) / inputs.measures[:, :1]
        # A day without a move would give log(0): 0.05 bounds the logarithm at -3.
        return torch.cat([window.log(), (ratios + 0.05).log()], dim=1)


def with_median(
    z: Float[Tensor, "batch horizon levels"], median: Float[Tensor, "batch horizon 1"]
) -> Float[Tensor, "batch horizon levels"]:
    """The quantiles with another median, which stays between its neighbours."""
    below, above = z[..., MEDIAN - 1 : MEDIAN], z[..., MEDIAN + 1 : MEDIAN + 2]
    median = torch.maximum(torch.minimum(median, above), below)
    return torch.cat([z[..., :MEDIAN], median, z[..., MEDIAN + 1 :]], dim=-1)
