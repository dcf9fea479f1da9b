"""Daily variances, their means over the past, and the mean over the next sessions."""

import numpy as np
import pytest

from pregao.data.variance import LEAST_VARIANCE, daily_variance, future_variance, rolling_mean

PRICES = {"open": [10.0, 10.2, 10.1], "high": [10.4, 10.5, 10.1], "low": [9.9, 10.1, 10.1], "close": [10.3, 10.4, 10.1]}


def test_a_variance_is_the_squared_overnight_return_plus_the_garman_klass_estimate():
    first, second, third = daily_variance(PRICES)
    overnight, spread, body = np.log(10.2 / 10.3), np.log(10.5 / 10.1), np.log(10.4 / 10.2)
    assert np.isnan(first)
    assert second == pytest.approx(overnight**2 + 0.5 * spread**2 - (2 * np.log(2) - 1) * body**2, rel=1e-5)
    assert third == pytest.approx(np.log(10.1 / 10.4) ** 2, rel=1e-5)


def test_a_day_without_a_move_has_the_least_variance_and_an_invalid_row_has_none():
    still = {name: [10.0, 10.0, 10.0] for name in PRICES}
    assert daily_variance(still)[1:].tolist() == [LEAST_VARIANCE] * 2
    assert np.isnan(daily_variance(still | {"close": [10.0, 12.0, 10.0]})[1])
    assert np.isnan(daily_variance({"close": [10.0, 10.1]})).all()


def test_a_mean_needs_a_quarter_of_its_span():
    values = np.array([np.nan, 2.0, 4.0, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan])
    assert rolling_mean(values, 5)[:4].tolist()[1:] == [pytest.approx(np.nan, nan_ok=True), 3.0, 3.0]
    assert np.isnan(rolling_mean(values, 5)[7])


def test_the_future_starts_after_the_session_and_counts_an_extreme_day_as_four_times_its_half_year():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    future = future_variance(values, 2)
    assert future[0].tolist() == [2.0, 2.5]
    assert future[2, 0] == 4.0
    assert np.isnan(future[2, 1])
    assert np.isnan(future[3]).all()
    shock = np.concatenate([np.ones(200), [100.0, 1.0]])
    assert future_variance(shock, 1)[199, 0] == pytest.approx(4 * (119 + 100) / 120)
