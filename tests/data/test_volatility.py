import math

import numpy as np
import pytest

from pregao.data.volatility import (
    HALF_LIFE,
    NAMES,
    PRIOR_SESSIONS,
    SPAN,
    TYPICAL_VOLATILITY,
    VOLATILITY_FLOOR,
    log_returns,
    typical_volatility,
    volatilities,
)
from tests.conftest import random_walk, with_ranges

RETURNS = [0.01, -0.02, 0.03, 0.0, -0.01, 0.02]


def path(returns, start=50.0):
    return start * np.exp(np.concatenate([[0.0], np.cumsum(returns)]))


def draws(n, volatility=0.02, seed=0):
    return np.random.default_rng(seed).normal(0, volatility, n)


def history(n):
    return {name: values.to_numpy().copy() for name, values in with_ranges(random_walk(n)).drop(columns="date").items()}


def column(prices, name, inputs="ohlc", **choices):
    return volatilities(prices, inputs, **choices)[:, NAMES[inputs].index(name)]


def root_mean(squares):
    return math.sqrt(sum(squares) / len(squares))


def test_each_volatility_is_a_root_mean_square_over_its_span():
    squares = [r * r for r in RETURNS]
    found = column({"close": path(RETURNS)}, "rms_5")
    assert found[[-1, -2, 2]] == pytest.approx([root_mean(part) for part in (squares[1:], squares[:5], squares[:2])])
    assert column({"close": path(RETURNS)}, "last")[1:] == pytest.approx(np.abs(RETURNS), abs=1e-9)
    downside = column({"close": path(RETURNS)}, "downside_20")[-1]
    assert downside == pytest.approx(math.sqrt((0.02**2 + 0.01**2) / 6), rel=1e-6)


def test_the_range_is_the_garman_klass_estimate():
    prices = {"open": [10.0, 10.2], "high": [10.5, 10.4], "low": [9.8, 10.0], "close": [10.2, 10.1]}
    first = 0.5 * math.log(10.5 / 9.8) ** 2 - (2 * math.log(2) - 1) * math.log(10.2 / 10.0) ** 2
    second = 0.5 * math.log(10.4 / 10.0) ** 2 - (2 * math.log(2) - 1) * math.log(10.1 / 10.2) ** 2
    assert column(prices, "range_1") == pytest.approx([math.sqrt(first), math.sqrt(second)], rel=1e-6)
    assert column(prices, "range_5")[1] == pytest.approx(root_mean([first, second]), rel=1e-6)


@pytest.mark.parametrize("returns", [np.array(RETURNS), draws(SPAN + 200)], ids=["short", "longer than the span"])
def test_the_long_run_decays_by_the_half_life_from_the_typical_volatility(returns):
    found = column({"close": path(returns)}, "long_run", typical=0.04)
    assert found[0] == pytest.approx(0.04)
    recent = returns[::-1][:SPAN]
    weights = 0.5 ** (np.arange(len(recent)) / HALF_LIFE)
    prior = PRIOR_SESSIONS * 0.5 ** (len(recent) / HALF_LIFE)
    expected = math.sqrt((weights @ recent**2 + prior * 0.04**2) / (weights.sum() + prior))
    assert found[-1] == pytest.approx(expected, rel=1e-6)
    assert volatilities({"close": [50.0, 51.0]}, "window")[0, 0] == TYPICAL_VOLATILITY


@pytest.mark.parametrize("earlier", [1, 1000])
def test_sessions_before_the_span_do_not_change_the_values(earlier):
    prices = history(SPAN + 300 + earlier)
    whole = volatilities(prices, "ohlc").astype(np.float32)
    short = volatilities({name: values[earlier:] for name, values in prices.items()}, "ohlc").astype(np.float32)
    assert np.array_equal(short[SPAN:], whole[SPAN + earlier :])


def test_a_volatility_is_known_from_a_quarter_of_its_span_on():
    found = volatilities(history(300), "ohlc")
    first = {name: int(np.isfinite(found[:, place]).argmax()) for place, name in enumerate(NAMES["ohlc"])}
    assert first == {
        **{"long_run": 0, "last": 1, "rms_5": 2, "rms_60": 15, "rms_250": 63, "downside_20": 5},
        **{"range_1": 0, "range_5": 1, "range_20": 4},
    }
    for place, name in enumerate(NAMES["ohlc"]):
        assert np.isfinite(found[first[name] :, place]).all()


@pytest.mark.parametrize("defect", ["missing", "high below close"])
def test_an_invalid_row_is_left_out_of_the_range(defect):
    prices = history(30)
    whole = volatilities(prices, "ohlc")
    for name in ("open", "high", "low"):
        prices[name][20] = np.nan if defect == "missing" else prices["close"][20] * 0.9
    found = volatilities(prices, "ohlc")
    assert np.isnan(found[20, -3])
    assert np.isfinite(found[21:, -3:]).all()
    assert np.isfinite(found[20, -2:]).all()
    assert not np.array_equal(found[20:25, -2], whole[20:25, -2])
    assert np.array_equal(found[25:, -2], whole[25:, -2])


@pytest.mark.parametrize("inputs", NAMES)
@pytest.mark.parametrize("n", [300, SPAN + 200])
def test_no_volatility_looks_ahead(inputs, n):
    prices, cut = history(n), n - 120
    changed = {name: values.copy() for name, values in prices.items()}
    for values in changed.values():
        values[cut + 1 :] *= 1e6 * np.linspace(1, 9, n - cut - 1)
    before, after = volatilities(prices, inputs), volatilities(changed, inputs)
    assert np.array_equal(before[: cut + 1], after[: cut + 1], equal_nan=True)
    assert not np.array_equal(before[cut + 1], after[cut + 1], equal_nan=True)


@pytest.mark.parametrize("factor", [1000, 0.93714])
def test_volatilities_do_not_depend_on_the_day_of_adjustment(factor):
    prices = history(400)
    scaled = {name: factor * values for name, values in prices.items()}
    assert np.array_equal(log_returns(scaled["close"]), log_returns(prices["close"]))
    before, after = (volatilities(table, "ohlc").astype(np.float32) for table in (prices, scaled))
    assert np.array_equal(before, after, equal_nan=True)


def test_a_stock_that_never_moves_has_the_minimum_volatility():
    prices = dict.fromkeys(("open", "high", "low", "close"), np.full(SPAN + 500, 7.0))
    found = volatilities(prices, "ohlc", typical=0.0)
    assert (found[:, 0] == VOLATILITY_FLOOR).all()
    assert (found[-1, 1:] == 0).all()
    assert typical_volatility([np.full(50, 7.0)]) == VOLATILITY_FLOOR


def test_the_typical_volatility_averages_all_returns_of_all_stocks():
    one, two = path([0.01] * 30), path([0.03, -0.03] * 5)
    assert typical_volatility([one, two]) == pytest.approx(math.sqrt((30 * 0.01**2 + 10 * 0.03**2) / 40), rel=1e-6)
    assert typical_volatility([]) == typical_volatility([one[:1]]) == TYPICAL_VOLATILITY
