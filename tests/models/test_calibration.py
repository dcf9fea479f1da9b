import math

import numpy as np
import pytest

from pregao.models.calibration import NOMINAL, RATE, band_scores, conformal_width, online_widths
from pregao.quantiles import LEVELS, MEDIAN, at, widened

UNIT = np.array([-1.645, -1.282, -0.674, 0, 0.674, 1.282, 1.645])


def fan(n, horizon=10, scale=0.02, drift=0.0):
    """Gaussian quantiles of a close at 50."""
    steps = np.arange(1, horizon + 1)[:, None]
    return np.tile(50 * np.exp(drift + scale * np.sqrt(steps) * UNIT), (n, 1, 1))


def outcomes(n, horizon=10, scale=0.02, seed=0):
    """Closes that a fan of this scale is right about."""
    sizes = scale * np.sqrt(np.arange(1, horizon + 1))
    return 50 * np.exp(sizes * np.random.default_rng(seed).normal(size=(n, horizon)))


def covered(y, quantiles):
    return ((at(quantiles, 0.05) <= y) & (y <= at(quantiles, 0.95))).mean()


def test_an_outcome_at_the_bands_edge_scores_one_and_one_at_the_median_nothing():
    quantiles = fan(1, drift=0.01)
    assert band_scores(at(quantiles, 0.95), quantiles) == pytest.approx(np.ones((1, 10)))
    assert band_scores(at(quantiles, 0.05), quantiles) == pytest.approx(np.ones((1, 10)))
    assert band_scores(quantiles[..., MEDIAN], quantiles) == pytest.approx(np.zeros((1, 10)), abs=1e-12)
    twice = quantiles[..., MEDIAN] * (at(quantiles, 0.95) / quantiles[..., MEDIAN]) ** 2
    assert band_scores(twice, quantiles) == pytest.approx(np.full((1, 10), 2.0))


def test_a_score_above_one_is_an_outcome_outside_the_band():
    y, quantiles = outcomes(200), fan(200)
    assert (band_scores(y, quantiles) > 1).mean() == pytest.approx(1 - covered(y, quantiles))


def test_an_unknown_outcome_has_no_score():
    y = outcomes(3)
    y[1, 4:] = np.nan
    assert np.array_equal(np.isnan(band_scores(y, fan(3))), np.isnan(y))


def test_scores_are_free_of_the_price():
    y, quantiles = outcomes(50), fan(50)
    assert band_scores(1000 * y, 1000 * quantiles) == pytest.approx(band_scores(y, quantiles))


@pytest.mark.parametrize("truth", [0.01, 0.02, 0.05])
def test_the_conformal_width_mends_a_fan_of_the_wrong_size(truth):
    width = conformal_width(band_scores(outcomes(3000, scale=truth), fan(3000)), 3000)
    assert width == pytest.approx(truth / 0.02, rel=0.03)
    fresh = outcomes(3000, scale=truth, seed=1)
    assert covered(fresh, widened(fan(3000), np.full(3000, width))) == pytest.approx(NOMINAL, abs=0.01)


@pytest.mark.parametrize("n", [9, 20, 60])
def test_the_conformal_width_holds_at_least_what_it_promises_on_fresh_draws(n):
    held = []
    for seed in range(1500):
        width = conformal_width(band_scores(outcomes(n, horizon=1, seed=seed), fan(n, horizon=1)), n)
        fresh = outcomes(20, horizon=1, seed=seed + 10_000)
        held.append(covered(fresh, widened(fan(20, horizon=1), np.full(20, width))))
    assert NOMINAL - 0.005 <= np.mean(held) <= NOMINAL + 1 / n + 0.02


def test_a_small_calibration_part_is_answered_with_a_wider_band():
    scores = band_scores(outcomes(15), fan(15))
    assert conformal_width(scores, 15) > conformal_width(scores, 15_000)


def test_unknown_outcomes_do_not_count_in_the_conformal_width():
    scores = band_scores(outcomes(100), fan(100))
    longer = np.concatenate([scores, np.full((10, 10), np.nan)])
    assert conformal_width(longer, 100) == conformal_width(scores, 100)
    assert conformal_width(np.full((10, 10), np.nan), 10) == 1


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
def test_the_online_widths_are_their_definition(rate, shape):
    scores = np.abs(np.random.default_rng(0).normal(size=shape))
    scores[np.random.default_rng(1).uniform(size=shape) < 0.1] = np.nan
    assert online_widths(scores, rate) == pytest.approx(slow_widths(scores, rate), rel=1e-12)


def test_misses_widen_the_band_and_their_absence_narrows_it():
    wide, narrow = (online_widths(np.full((50, 10), score)) for score in (100.0, 0.0))
    assert wide[0] == narrow[0] == 1
    assert (np.diff(wide) > 0).all()
    assert (np.diff(narrow) < 0).all()
    assert wide[1] == pytest.approx(math.exp(RATE * 0.9))
    assert narrow[1] == pytest.approx(math.exp(-RATE * 0.1))


def test_a_tenth_of_misses_leaves_the_width_where_it_is():
    scores = np.zeros((60, 10))
    scores[:, 3] = 100.0
    assert online_widths(scores)[10:] == pytest.approx(online_widths(scores)[9], rel=1e-12)


def test_an_unknown_outcome_moves_no_width():
    scores = np.full((50, 10), 100.0)
    scores[20:] = np.nan
    widths = online_widths(scores)
    assert widths[29] > widths[28]
    assert (widths[29:] == widths[29]).all()
    assert (online_widths(np.full((50, 10), np.nan)) == 1).all()


@pytest.mark.parametrize("session", [1, 5, 30, 49])
def test_no_width_knows_an_outcome_before_its_session(session):
    scores = np.abs(np.random.default_rng(0).normal(size=(50, 10)))
    poisoned = scores.copy()
    origin, step = np.indices(scores.shape)
    poisoned[origin + step + 1 > session] = 1e6
    before, after = online_widths(scores), online_widths(poisoned)
    assert np.array_equal(before[: session + 1], after[: session + 1])
    assert session == 49 or not np.array_equal(before, after)


@pytest.mark.parametrize("truth", [0.012, 0.03])
def test_the_online_width_finds_its_way_to_what_the_band_promises(truth):
    y, quantiles = outcomes(4000, scale=truth), fan(4000)
    widths = online_widths(band_scores(y, quantiles))
    assert covered(y[1000:], widened(quantiles, widths)[1000:]) == pytest.approx(NOMINAL, abs=0.01)
    assert abs(covered(y[1000:], quantiles[1000:]) - NOMINAL) > 0.05


def test_a_width_multiplies_the_distances_from_the_median_and_nothing_else():
    quantiles = fan(2, drift=0.01)
    found = np.log(widened(quantiles, np.array([1.0, 1.7])) / quantiles[..., MEDIAN : MEDIAN + 1])
    assert found[0] == pytest.approx(np.log(quantiles / quantiles[..., MEDIAN : MEDIAN + 1])[0])
    assert found[1] == pytest.approx(1.7 * found[0])
    assert (np.diff(found, axis=-1) > 0).all()
    assert found.shape[-1] == len(LEVELS)
