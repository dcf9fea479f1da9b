"""Significance of the difference of two forecasts' losses: a test for one stock, an interval for many.

One stock: Diebold & Mariano (1995) with a HAC variance. Many stocks: a bootstrap of the statistic that tables show.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from pregao.errors import IncomparableLosses

LEAST_SPANS = 4
"""Minimum number of origins in horizons: with fewer, too few forecasts do not overlap."""

BLOCK = 20
"""Dates per block of the bootstrap: two horizons of 10 sessions."""

LEAST_BLOCKS = 4
"""Minimum number of dates in blocks, for an interval."""

RESAMPLES = 2000
SEED = 6544

Losses = Float[np.ndarray, "dates stocks"]
Paired = Float[np.ndarray, "same_dates same_stocks"]
Sums = Float[np.ndarray, "*resamples stocks"]


@dataclass(frozen=True)
class DieboldMariano:
    """Result of a test that two forecasts have the same mean loss.

    Attributes:
        difference: mean of loss minus benchmark, in the losses' unit; negative where the first forecast is better.
        statistic: the difference over its standard error, corrected for small samples.
        p_value: two-sided.
        origins: number of differences.
        lag: lag of the HAC variance, in origins.
    """

    difference: float
    statistic: float
    p_value: float
    origins: int
    lag: int


def diebold_mariano(
    losses: Float[np.ndarray, " origins"], benchmark: Float[np.ndarray, " same_origins"], horizon: int = 10
) -> DieboldMariano:
    """Test two losses of the same origins, ordered by date.

    The long-run variance is Newey & West's (1987, Bartlett weights). h-step errors are correlated over h − 1 origins,
    whose terms Bartlett weights shrink, so the lag is 1.3 √n if that is larger (Lazarus, Lewis, Stock & Watson 2018).
    The small-sample factor and Student's t are Harvey, Leybourne & Newbold's (1997), with the degrees of freedom that
    Bartlett weights leave, 1.5 n / lag (Priestley, Spectral Analysis and Time Series, 6.2.4). Of 407 origins with
    fully overlapping 10-step Gaussian differences a 5 % test rejects a true null in about 7 % of samples, and in more
    with heavy tails: treat a p-value near 5 % as not significant. Equal losses give statistic 0 and p-value 1.

    Raises:
        IncomparableLosses: the series differ in length, contain a value that is not finite, span fewer than four
            horizons, or differ by a constant.
    """
    if losses.shape != benchmark.shape:
        raise IncomparableLosses(
            f"The losses have {len(losses)} origins and the benchmark {len(benchmark)}; allowed are two losses of the "
            "same origins. Evaluate both forecasts on the same windows."
        )
    difference = losses - benchmark
    n, lag = len(difference), hac_lag(len(difference), horizon)
    _refuse_unless_testable(difference, horizon)
    if not difference.any():
        return DieboldMariano(0.0, 0.0, 1.0, n, lag)
    mean = float(difference.mean())
    variance = _long_run_variance(difference - mean, lag) / n
    # Rounding gives a constant difference a small variance.
    if variance <= (1e-12 * mean) ** 2:
        raise IncomparableLosses(
            f"The losses differ from the benchmark by {mean:g} at each of {n} origins: without a variance there is "
            "nothing to test. Check that they are losses per origin, not averages."
        )
    statistic = _small_sample(n, horizon) * mean / math.sqrt(variance)
    return DieboldMariano(mean, statistic, _two_sided(statistic, min(n - 1, 1.5 * n / lag)), n, lag)


@dataclass(frozen=True)
class Saved:
    """An improvement on a benchmark, and its 95 % interval; NaN where there are too few dates.

    Percent of the benchmark's loss, or percentage points of coverage; negative for a worse forecast.
    """

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:+.2f} [{self.low:+.2f}, {self.high:+.2f}]".replace("+nan", "–")


UNKNOWN = Saved(math.nan, math.nan, math.nan)


def loss_saved(losses: Losses, benchmark: Paired, block: int | None = BLOCK) -> Saved:
    """The mean over stocks of 100 × (1 − mean loss / mean loss of the benchmark), with its 95 % interval.

    The interval has the 2.5 and 97.5 percentiles of 2,000 resamples by a circular block bootstrap over the dates
    (Politis & Romano 1992), seeded. All stocks of a date are drawn together, because they move together, and blocks of
    consecutive dates, because forecasts overlap. A stock whose benchmark lost nothing is left out.

    Args:
        losses: per date, in order, and stock; NaN where a stock has no forecast on a date.
        benchmark: of the same dates and stocks, NaN in the same places.
        block: dates per block; None for no interval.

    Raises:
        IncomparableLosses: the two are not of the same dates and stocks.
    """
    _refuse_unless_paired(losses, benchmark)
    own, other = np.nan_to_num(losses), np.nan_to_num(benchmark)
    return _estimated(lambda counts: _mean_saved(counts @ own, counts @ other), len(losses), block)


def coverage_gained(inside: Losses, benchmark: Paired, nominal: int, block: int | None = BLOCK) -> Saved:
    """Percentage points by which a band's coverage is nearer to the nominal one, with the interval of `loss_saved`.

    The mean over stocks of the distance of coverage from nominal of the benchmark minus that of the forecast.

    Args:
        inside: per date and stock, percent of the closes inside the band; NaN where a stock has no forecast.
        benchmark: of the same dates and stocks, NaN in the same places.
        nominal: the coverage that the band should have, in percent.
        block: dates per block; None for no interval.

    Raises:
        IncomparableLosses: the two are not of the same dates and stocks.
    """
    _refuse_unless_paired(inside, benchmark)
    known = np.isfinite(inside).astype(np.float64)
    own, other = np.nan_to_num(inside), np.nan_to_num(benchmark)

    def gained(counts: Sums) -> np.ndarray:
        forecasts = counts @ known
        stocks = (forecasts > 0).sum(axis=-1)
        with np.errstate(invalid="ignore"):
            errors = [np.abs((counts @ each) / forecasts - nominal) for each in (own, other)]
            points: np.ndarray = np.asarray(np.nansum(errors[1] - errors[0], axis=-1) / stocks)
        return points

    return _estimated(gained, len(inside), block)


def _refuse_unless_paired(losses: Losses, benchmark: Paired) -> None:
    if losses.shape != benchmark.shape or (np.isnan(losses) != np.isnan(benchmark)).any():
        raise IncomparableLosses(
            f"The losses [dates, stocks] {list(losses.shape)} and the benchmark {list(benchmark.shape)} are not of "
            "the same stocks and dates (NaN marks a stock without a forecast). Evaluate both on the same windows."
        )


def _estimated(statistic: Callable[[Sums], np.ndarray], dates: int, block: int | None) -> Saved:
    """A statistic of how often each date counts: once for the estimate, and as drawn for the interval."""
    estimate = float(statistic(np.ones(dates)))
    if block is None or dates < LEAST_BLOCKS * block or math.isnan(estimate):
        return Saved(estimate, math.nan, math.nan)
    low, high = np.nanquantile(statistic(_resampled(dates, block)), [0.025, 0.975])
    return Saved(estimate, float(low), float(high))


def strongest(losses: Mapping[str, Losses]) -> str:
    """The name with the lowest losses: of their means per stock, the geometric mean over the stocks that all have."""
    means = {name: np.nan_to_num(each).sum(axis=0) for name, each in losses.items()}
    comparable = np.all([mean > 0 for mean in means.values()], axis=0)
    return min(means, key=lambda name: float(np.log(means[name][comparable]).sum()))


def _mean_saved(own: Sums, other: Sums) -> np.ndarray:
    """From sums over the same dates."""
    counted = other > 0
    with np.errstate(invalid="ignore"):
        ratios = np.divide(own, other, where=counted, out=np.zeros_like(own)).sum(axis=-1) / counted.sum(axis=-1)
    saved: np.ndarray = np.asarray(100 * (1 - ratios))
    return saved


@lru_cache(maxsize=4)
def _resampled(dates: int, block: int) -> Float[np.ndarray, "resamples dates"]:
    """How often each date is drawn in each resample."""
    from arch.bootstrap import CircularBlockBootstrap  # a second to import

    bootstrap = CircularBlockBootstrap(block, np.arange(dates), seed=SEED)
    drawn = [np.bincount(data[0], minlength=dates) for data, _ in bootstrap.bootstrap(RESAMPLES)]
    return np.array(drawn, dtype=np.float64)


def hac_lag(origins: int, horizon: int) -> int:
    """Lag of the Bartlett weights: the larger of h − 1 and 1.3 √n."""
    return max(horizon - 1, math.ceil(1.3 * math.sqrt(origins)))


def _refuse_unless_testable(difference: Float[np.ndarray, " origins"], horizon: int) -> None:
    if horizon < 1 or len(difference) < LEAST_SPANS * horizon:
        raise IncomparableLosses(
            f"{len(difference)} origins of {horizon}-step forecasts are too few for a test; allowed are horizons of 1 "
            f"and more, and at least {LEAST_SPANS * max(horizon, 1)} origins here. Evaluate a longer period."
        )
    wrong = ~np.isfinite(difference)
    if wrong.any():
        raise IncomparableLosses(
            f"{int(wrong.sum())} of {len(difference)} differences of the losses are not finite, first at origin "
            f"{int(wrong.argmax())}. Leave those origins out of both."
        )


def _long_run_variance(centred: Float[np.ndarray, " origins"], lag: int) -> float:
    n = len(centred)
    variance = float(centred @ centred)
    for k in range(1, lag + 1):
        variance += 2 * (1 - k / (lag + 1)) * float(centred[k:] @ centred[:-k])
    return variance / n


def _small_sample(n: int, horizon: int) -> float:
    return math.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)


def _two_sided(statistic: float, degrees: float) -> float:
    from scipy.stats import t  # half a second to import

    return float(2 * t.sf(abs(statistic), degrees))
