import numpy as np
import pytest

from pregao.evaluation.intervals import symmetric_offsets
from pregao.quantiles import LEVELS, MEDIAN, at


def gaussian(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 10))


def test_offsets_of_gaussian_residuals_are_gaussian_quantiles():
    offsets = symmetric_offsets(gaussian(20_000), LEVELS)
    assert offsets[0] == pytest.approx([-1.645, -1.282, -0.674, 0, 0.674, 1.282, 1.645], abs=0.02)


def test_the_point_forecast_stays_the_median_even_when_residuals_trend():
    offsets = symmetric_offsets(gaussian(100) + 3, LEVELS)
    assert (offsets[:, MEDIAN] == 0).all()
    assert (np.diff(offsets, axis=1) > 0).all()


def test_a_small_calibration_part_is_answered_with_wider_bands():
    assert at(symmetric_offsets(gaussian(15), LEVELS), 0.95)[0] > np.quantile(np.abs(gaussian(15)), 0.9)


def test_bands_hold_what_they_promise_on_fresh_draws():
    held = [
        np.abs(gaussian(1, seed + 1000)) <= at(symmetric_offsets(gaussian(60, seed), LEVELS), 0.95)[0]
        for seed in range(300)
    ]
    assert np.mean(held) == pytest.approx(0.9, abs=0.02)
