"""The model contract: what every forecaster of this project takes, returns and shares.

Prices in, prices out: a model scales its inputs itself. Log returns are computed in float64 and rounded to float32;
everything else is float32. Prices that are adjusted on another day differ by a factor, which changes the last bits of a
log return; the rounding removes the difference. So a forecast does not depend on the day its prices were downloaded.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from statistics import NormalDist
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pregao.data.batch import Batch, Inputs
from pregao.data.volatility import VOLATILITY_FLOOR
from pregao.models.calibration import band_scores, conformal_width
from pregao.quantiles import LEVELS, MEDIAN

WINDOW_WEIGHT = 0.3
"""Weight of the window's variance against the long-run variance: 20 returns alone are a noisy estimate (QUALITY)."""


class ForecastModel(nn.Module, ABC):
    """Quantiles of the next closes from the last closes and from measures known at the last close.

    All models share the scale, the loss in units of the scale, the calibration width and `forward`. A model implements
    `predict_normalized`, and where it needs them `fit_statistics`, `calibrate`, `loss` and `scale`.

    A constructor takes choices: the keys of `conf/model/NAME.yaml`, scalars whose annotations define the bounds that
    the command line and POST /train check. It may also take `horizon`, `inputs`, `lookback` and `stocks` (a number of
    stocks), which depend on the data.

    Args:
        horizon: sessions ahead.
        measures: names of the columns of `Inputs.measures`; the first is the long-run daily volatility.
        shrinkage: factor on the predicted median; 0 would forecast the last close.

    Attributes:
        scale_invariant: whether prices in another unit give the same forecast in that unit.
        served: whether a version may be promoted; False for a model that has its weights elsewhere.
        width: factor on the distance of each quantile from the median.
        fitted: whether `fit_statistics` has run, here or before the loaded weights were saved.
    """

    scale_invariant: ClassVar[bool] = True
    served: ClassVar[bool] = True
    width: Tensor
    fitted: Tensor
    levels: Tensor
    root_step: Tensor

    def __init__(self, horizon: int, measures: Sequence[str], shrinkage: float = 1.0) -> None:
        super().__init__()
        self.horizon = horizon
        self.measures = tuple(measures)
        self.shrinkage = shrinkage
        self.register_buffer("width", torch.tensor(1.0))
        self.register_buffer("fitted", torch.tensor(False))
        self.register_buffer("levels", torch.tensor(LEVELS), persistent=False)
        self.register_buffer("root_step", torch.arange(1, horizon + 1).sqrt(), persistent=False)

    @property
    def follows_outcomes(self) -> bool:
        """Whether forecasts use the online width (`calibration.online_widths`)."""
        return True

    @abstractmethod
    def predict_normalized(self, inputs: Inputs) -> Float[Tensor, "batch horizon levels"]:
        """Quantiles of the log return from the last close to each step, in units of `scale`; they never cross."""

    def fit_statistics(self, batch: Batch) -> None:
        """Estimate means, deviations or regressions on the training part, without gradients. Default: nothing."""

    def initialise(self, batch: Batch) -> None:
        """Run `fit_statistics` on the training part, unless `fitted`."""
        if not self.fitted:
            self.fit_statistics(batch)
            self.fitted.fill_(True)

    def adopt(self, other: "ForecastModel") -> None:
        """Start from another model with the same choices. Default: take all its weights."""
        self.load_state_dict(other.state_dict())

    def refit(self, batch: Batch) -> None:
        """Estimate what has a closed form again, on the training and the validation part, after the choice of weights.

        Default: nothing. What was adopted from another model is not estimated again.
        """

    def starting_point(self) -> "ForecastModel | None":
        """A copy of this model without training, to keep if training was worth nothing; None if it is random."""
        return None

    def calibrate(self, batch: Batch) -> None:
        """Set `width` from the validation part. Default: unchanged, since learned quantiles need no calibration."""

    def fit_width(self, batch: Batch) -> None:
        """Set the width at which the 90 % band contains 90 % of the closes (`calibration.conformal_width`)."""
        with torch.inference_mode():
            quantiles = self(batch.inputs).cpu().numpy()
        self.width.mul_(conformal_width(band_scores(batch.targets.cpu().numpy(), quantiles)))

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Pinball loss in units of `scale`, mean over windows, steps and levels (Koenker & Bassett 1978)."""
        z = self.predict_normalized(batch.inputs)
        return pinball_loss(z, self.normalize(batch.inputs, batch.targets), self.levels)

    def forward(self, inputs: Inputs) -> Float[Tensor, "batch horizon levels"]:
        """Quantiles of the next closes at `LEVELS`, in the closes' currency, float64."""
        z = self.place(self.predict_normalized(inputs))
        returns = z * self.scale(inputs)[..., None]
        prices: Tensor = inputs.closes[:, -1:, None] * returns.double().exp()
        return prices

    def place(self, z: Float[Tensor, "batch horizon levels"]) -> Float[Tensor, "batch horizon levels"]:
        """Quantiles with the shrunken median and the width of the bands; the bands move with the median."""
        median = z[..., MEDIAN : MEDIAN + 1]
        return self.shrinkage * median + self.width * (z - median)

    def scale(self, inputs: Inputs) -> Float[Tensor, "batch horizon"]:
        """Expected size of the log return to each step: √(0.3 window² + 0.7 long-run²) · √step."""
        return session_scale(inputs) * self.root_step

    def normalize(self, inputs: Inputs, targets: Float[Tensor, "batch horizon"]) -> Float[Tensor, "batch horizon"]:
        """Log returns from the last close to the targets, in units of `scale`."""
        return returns_to(inputs, targets) / self.scale(inputs)


def pinball_loss(
    quantiles: Float[Tensor, "batch horizon levels"],
    targets: Float[Tensor, "batch horizon"],
    levels: Float[Tensor, " levels"],
) -> Float[Tensor, ""]:
    """Mean over windows, steps and levels (Koenker & Bassett 1978)."""
    error = targets[..., None] - quantiles
    return torch.maximum(levels * error, (levels - 1) * error).mean()


def session_scale(inputs: Inputs) -> Float[Tensor, "batch 1"]:
    """Expected size of one session's log return: √(0.3 window² + 0.7 long-run²)."""
    variance = log_returns(inputs.closes).square().mean(dim=1, keepdim=True)
    blend = WINDOW_WEIGHT * variance + (1 - WINDOW_WEIGHT) * inputs.measures[:, :1].square()
    return blend.sqrt().clamp_min(VOLATILITY_FLOOR)


def returns_to(inputs: Inputs, targets: Float[Tensor, "batch horizon"]) -> Float[Tensor, "batch horizon"]:
    """Log returns from the last close to the targets, float32."""
    return (targets / inputs.closes[:, -1:]).log().float()


def log_returns(closes: Float[Tensor, "batch lookback"]) -> Float[Tensor, "batch returns"]:
    """Daily log returns inside the window, float32."""
    return (closes[:, 1:] / closes[:, :-1]).log().float()


def gaussian_quantiles() -> Float[Tensor, " levels"]:
    """Quantiles of the standard normal distribution at `LEVELS`."""
    return torch.tensor([NormalDist().inv_cdf(level) for level in LEVELS])
