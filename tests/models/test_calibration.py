import math

import numpy as np
import pytest

from pregao.models.calibration import RATE, band_scores, conformal_width, online_widths
from pregao.quantiles import MEDIAN, at

UNIT = np.array([-1.645, -1.282, -0.674, 0, 0.674, 1.282, 1.645])


def bands(n, horizon=10, drift=0.0):
    """Gaussian quantiles of a close at 50, 2 % a session."""
    steps = np.arange(1, horizon + 1)[:, None]
    return np.tile(50 * np.exp(drift + 0.02 * np.sqrt(steps) * UNIT), (n, 1, 1))


def test_a_score_is_the_distance_from_the_median_in_half_widths_of_the_90_percent_band():
    quantiles = bands(1, drift=0.01)
    median = quantiles[..., MEDIAN]
    for y, score in ((at(quantiles, 0.95), 1), (at(quantiles, 0.05), 1), (median, 0)):
        assert band_scores(y, quantiles) == pytest.approx(np.full((1, 10), score), abs=1e-12)
    twice = median * (at(quantiles, 0.95) / median) ** 2
    assert band_scores(twice, quantiles) == pytest.approx(np.full((1, 10), 2.0))
    assert np.isnan(band_scores(np.full((1, 10), np.nan), quantiles)).all()
    skewed = np.where(quantiles > median[..., None], quantiles**2 / median[..., None], quantiles)
    assert band_scores(at(skewed, 0.95), skewed) == pytest.approx(np.full((1, 10), 2 / 1.5))


@pytest.mark.parametrize(("windows", "horizon", "level"), [(5, 1, 1), (50, 10, 1), (180, 10, 0.95), (900, 1, 0.901)])
def test_few_windows_give_a_wider_conformal_band_and_overlapping_windows_are_few(windows, horizon, level):
    scores = np.random.default_rng(0).exponential(size=(windows, horizon))
    assert conformal_width(scores) == pytest.approx(np.quantile(scores, level))


def test_unknown_closes_do_not_change_the_conformal_width():
    scores = np.arange(1.0, 101)[:, None]
    unknown = np.full((10, 1), np.nan)
    assert conformal_width(np.concatenate([scores, unknown])) == conformal_width(scores)
    assert conformal_width(unknown) == 1


def slow_widths(scores, rate):
    """The definition, session by session and outcome by outcome."""
    n, horizon = scores.shape
    widths = []
    for session in range(n):
        width = widths[-1] if widths else 1.0
        misses = [
            scores[origin, step - 1] > width
            for origin in range(session)
            for step in range(1, horizon + 1)
            if origin + step == session and not math.isnan(scores[origin, step - 1])
        ]
        if misses:
            width *= math.exp(rate * (sum(misses) / len(misses) - 0.1))
        widths.append(width)
    return np.array(widths)


@pytest.mark.parametrize("rate", [RATE, 0.1])
@pytest.mark.parametrize("shape", [(80, 10), (80, 1), (5, 10), (1, 10)])
def test_the_online_widths_follow_their_definition(rate, shape):
    scores = np.abs(np.random.default_rng(0).normal(size=shape))
    scores[np.random.default_rng(1).uniform(size=shape) < 0.1] = np.nan
    assert online_widths(scores, rate) == pytest.approx(slow_widths(scores, rate), rel=1e-12)
