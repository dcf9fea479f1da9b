"""The panel model: a heterogeneous autoregression of log variance, fitted on many stocks in closed form.

The logarithm of the mean variance up to each step is linear in the logarithms of the mean variances over the past day,
week, month and half year, of the stock and of the market (Corsi 2009, on ranges). Slopes, intercept and the shape of
the distribution are estimated on all stocks together. A stock has its own intercept and scale, which are shrunken
towards the panel's: another stock has the panel's.
"""

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pregao.data.batch import Batch, Inputs
from pregao.data.variance import LEAST_VARIANCE, SPANS
from pregao.data.volatility import LONG_SPANS, NAMES, VOLATILITY_FLOOR
from pregao.errors import InvalidChoice
from pregao.models.base import ForecastModel, gaussian_quantiles, log_returns, returns_to
from pregao.quantiles import LEVELS, MEDIAN

PRIOR_WINDOWS = 100
"""The intercept of a stock has weight n / (n + 100) after n windows, the panel's has the rest."""

OVERLAP = 10
"""Windows that overlap count once in the weight of a stock's scale."""

LEAST_WINDOWS = 40
"""Fewer windows do not determine a regression."""

WEEK = 5
"""Sessions in the shortest mean of squared returns."""

KNOWN_SPANS = range(len(LONG_SPANS), -1, -1)
"""Numbers of long means that a past without ranges may have; the window's own means are always known."""

LEAST_RATIO = 0.01
"""Of a stock's scale to the panel's, so that a halted stock has one."""

BEYOND = math.log(4)
"""How far a predicted log variance may be outside the fitted ones: inputs that were never seen are extrapolated."""

LEAST_LOG = math.log(LEAST_VARIANCE)

Features = Float[Tensor, "batch features"]


class Regression(nn.Module):
    """Log variance from features, by step, with an intercept and a scale per stock.

    Args:
        features: number of inputs.
        horizon: sessions ahead.
        stocks: number of training stocks; one more row holds the panel's values, for every other stock.
    """

    slopes: Tensor
    intercepts: Tensor
    log_scales: Tensor
    lowest: Tensor
    highest: Tensor
    mean_size: Tensor
    shape: Tensor
    fitted: Tensor

    def __init__(self, features: int, horizon: int, stocks: int) -> None:
        super().__init__()
        self.register_buffer("slopes", torch.zeros(features, horizon))
        self.register_buffer("intercepts", torch.zeros(stocks + 1, horizon))
        self.register_buffer("log_scales", torch.zeros(stocks + 1))
        self.register_buffer("lowest", torch.full((horizon,), -math.inf))
        self.register_buffer("highest", torch.full((horizon,), math.inf))
        self.register_buffer("mean_size", torch.tensor(1.0))
        self.register_buffer("shape", gaussian_quantiles().repeat(horizon, 1))
        self.register_buffer("fitted", torch.tensor(False))

    def forward(self, features: Features, stock: Int[Tensor, " batch"]) -> Float[Tensor, "batch horizon"]:
        """Expected size of a daily log return until each step; NaN where a feature is."""
        log_variance = self.intercepts[stock] + features @ self.slopes
        log_variance = torch.maximum(torch.minimum(log_variance, self.highest), self.lowest)
        size: Tensor = (log_variance / 2 + self.log_scales[stock][:, None]).exp()
        return size

    def fit(
        self,
        features: Features,
        log_variance: Float[Tensor, "batch horizon"],
        moves: Float[Tensor, "batch horizon"],
        stock: Int[Tensor, " batch"],
    ) -> None:
        """Estimate slopes, intercepts, scales and shape; without enough windows nothing changes.

        After `adopt`, slopes, shape and the panel's intercept are known, and only the stocks' own values are estimated.

        Args:
            features: inputs of each window.
            log_variance: logarithm of the mean daily variance until each step, NaN where unknown.
            moves: log returns until each step, divided by the root of the step.
            stock: the place of each window's stock.
        """
        known = features.isfinite().all(dim=1) & log_variance.isfinite().all(dim=1)
        rows = len(self.intercepts)
        x, y, moves, stock = features[known].double(), log_variance[known].double(), moves[known], stock[known] % rows
        if len(x) < LEAST_WINDOWS:
            return
        is_new = not self.fitted
        counts = sums(torch.ones(len(x)).double(), stock, rows)
        if is_new:
            centred = [values - (sums(values, stock, rows) / counts[:, None].clamp_min(1))[stock] for values in (x, y)]
            self.slopes.copy_(torch.linalg.lstsq(*centred, driver="gelsd").solution)
            self.lowest.copy_(y.min(dim=0).values - BEYOND)
            self.highest.copy_(y.max(dim=0).values + BEYOND)
        rest = y - x @ self.slopes.double()
        panel = rest.mean(dim=0) if is_new else self.intercepts[-1].double()
        self.intercepts.copy_(panel + sums(rest - panel, stock, rows) / (counts + PRIOR_WINDOWS)[:, None])
        self.intercepts[-1] = panel
        self.log_scales.zero_()
        sizes = (moves / self(x.float(), stock)).abs().double().mean(dim=1)
        if is_new:
            self.mean_size.copy_(sizes.mean())
        ratios = sums(sizes, stock, rows) / counts.clamp_min(1) / self.mean_size.clamp_min(VOLATILITY_FLOOR)
        self.log_scales.copy_(counts / (counts + OVERLAP * PRIOR_WINDOWS) * ratios.clamp_min(LEAST_RATIO).log())
        self.log_scales[-1] = 0
        if is_new:
            self.shape.copy_(symmetric_quantiles(moves / self(x.float(), stock)))
            self.fitted.fill_(True)

    def adopt(self, other: "Regression") -> None:
        """Take slopes, shape and the panel's intercept from another panel; the stocks' values are the panel's."""
        for name in ("slopes", "lowest", "highest", "shape", "mean_size", "fitted"):
            getattr(self, name).copy_(getattr(other, name))
        self.intercepts.copy_(other.intercepts[-1:].expand_as(self.intercepts))
        self.log_scales.zero_()


class HarModel(ForecastModel):
    """Quantiles from the panel's regressions of log variance, without trainable weights.

    A window is forecast by the first regression whose inputs are known: ranges of the stock and of the market, ranges
    of the stock alone, or squared returns over the sessions that are known.

    Args:
        horizon: sessions ahead.
        inputs: the measures; only `panel` has all that it needs.
        stocks: number of training stocks.
        market: whether the market's measures are used.
        ranges: whether ranges are used at all; without them, squared returns.
    """

    def __init__(self, *, horizon: int, inputs: str, stocks: int, market: bool = True, ranges: bool = True) -> None:
        if inputs != "panel":
            raise InvalidChoice(
                f"data.inputs={inputs}: the panel model needs the measures of data.inputs=panel. Use that, or a model "
                "that starts elsewhere, as in model.start=volatility."
            )
        super().__init__(horizon, NAMES[inputs])
        self.adopted = False
        self.first = 0 if market and ranges else 1 if ranges else 2
        self.columns = {
            of: [self.measures.index(f"{of}_{span}") for span in spans]
            for of, spans in (("variance", SPANS), ("market", SPANS), ("squares", LONG_SPANS))
        }
        sizes = (2 * len(SPANS), len(SPANS), *(2 + known for known in KNOWN_SPANS))
        self.regressions = nn.ModuleList(Regression(size, horizon, stocks) for size in sizes)

    @property
    def follows_outcomes(self) -> bool:
        """An online width made its bands worse."""
        return False

    @property
    def paths(self) -> list[Regression]:
        """The regressions, typed."""
        return cast(list[Regression], list(self.regressions))

    @torch.no_grad()
    def fit_statistics(self, batch: Batch) -> None:
        """Fit every regression on the windows whose inputs are known.

        Raises:
            InvalidChoice: there are too few windows for a regression.
        """
        device = self.width.device
        self.cpu()  # least squares of any rank and numpy's quantiles have no CUDA version
        batch = batch.to(torch.device("cpu"))
        moves = returns_to(batch.inputs, batch.targets) / self.root_step
        for regression, features in zip(self.paths, self.features(batch.inputs), strict=True):
            regression.fit(features, batch.variances.log(), moves, batch.inputs.stock)
        if not self.paths[-1].fitted:
            raise InvalidChoice(
                f"the panel model (model=har, or model.start=panel): {len(moves)} training windows were found, and at "
                f"least {LEAST_WINDOWS} are needed. Widen start= and end=, or choose model=lstm model.start=volatility."
            )
        self.to(device)

    def refit(self, batch: Batch) -> None:
        """Fit again; after `adopt`, only the stocks' own intercepts and scales."""
        for regression in self.paths:
            regression.fitted.logical_and_(torch.tensor(self.adopted))
        self.fit_statistics(batch)

    def adopt(self, other: ForecastModel) -> None:
        """Start from the regressions of a panel; the stocks' own intercepts and scales are fitted later."""
        assert isinstance(other, HarModel)
        self.adopted = True
        for ours, theirs in zip(self.paths, other.paths, strict=True):
            ours.adopt(theirs)

    def predict_normalized(self, inputs: Inputs) -> Float[Tensor, "batch horizon levels"]:
        """The shape of the regression that applies."""
        shapes = torch.stack([regression.shape for regression in self.paths])
        z: Tensor = shapes[self.chosen(self.features(inputs))]
        return z

    def scale(self, inputs: Inputs) -> Float[Tensor, "batch horizon"]:
        """The expected size of the log return to each step."""
        features = self.features(inputs)
        pairs = zip(self.paths, features, strict=True)
        sizes = torch.stack([regression(known, inputs.stock) for regression, known in pairs], dim=1)
        chosen = self.chosen(features)[:, None, None].expand(-1, -1, self.horizon)
        size = sizes.gather(1, chosen).squeeze(1)  # an index by arange would fix the batch size in ONNX
        return size.clamp_min(VOLATILITY_FLOOR) * self.root_step

    def chosen(self, features: Sequence[Tensor]) -> Int[Tensor, " batch"]:
        """The place of the first regression whose inputs are known, by window."""
        fitted = [regression.fitted for regression in self.paths]
        usable = [known.isfinite().all(dim=1) & flag for known, flag in zip(features, fitted, strict=True)]
        usable[: self.first] = [torch.zeros_like(known) for known in usable[: self.first]]
        usable[-1] = torch.ones_like(usable[-1])  # the window alone is always known
        return torch.stack(usable).int().argmax(dim=0)

    def features(self, inputs: Inputs) -> list[Tensor]:
        """The inputs `[batch, features]` of each regression; NaN where unknown."""
        of = {name: 2 * inputs.measures[:, columns].log() for name, columns in self.columns.items()}
        ranges, market = filled(of["variance"]), filled(of["market"])
        squared = log_returns(inputs.closes).square()
        window = torch.stack([squared[:, -WEEK:].mean(dim=1), squared.mean(dim=1)], dim=1)
        closes = torch.cat([window.clamp_min(LEAST_VARIANCE).log(), of["squares"].clamp_min(LEAST_LOG)], dim=1)
        return [torch.cat([ranges, market], dim=1), ranges, *(closes[:, : 2 + known] for known in KNOWN_SPANS)]


def filled(logs: Features) -> Features:
    """An unknown mean replaced by the next longer one, or else by the next shorter one."""
    columns = list(logs.unbind(dim=1))
    for place in reversed(range(len(columns) - 1)):
        columns[place] = torch.where(columns[place].isnan(), columns[place + 1], columns[place])
    for place in range(1, len(columns)):
        columns[place] = torch.where(columns[place].isnan(), columns[place - 1], columns[place])
    return torch.stack(columns, dim=1)


def sums(values: Float[Tensor, "n *columns"], stock: Int[Tensor, " n"], rows: int) -> Float[Tensor, "rows *columns"]:
    """Sums over the windows of each stock; an indicator matrix would take memory by windows × stocks."""
    return values.new_zeros(rows, *values.shape[1:]).index_add_(0, stock, values)


def symmetric_quantiles(errors: Float[Tensor, "n horizon"]) -> Float[Tensor, "horizon levels"]:
    """Quantiles at `LEVELS` of errors whose sign is ignored: the median is 0 and both sides are equal."""
    inside = 2 * np.array(LEVELS[MEDIAN:]) - 1
    gaps = np.diff(np.quantile(errors.abs().numpy(), inside, axis=0).T).clip(VOLATILITY_FLOOR)
    above = np.cumsum(gaps, axis=1)
    return torch.from_numpy(np.concatenate([-above[:, ::-1], np.zeros((len(above), 1)), above], axis=1)).float()
