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

RETURNS = [0.01, -0.02, 0.03, 0.0, -0.01, 0.02]


def path(returns, start=50.0):
    return start * np.exp(np.concatenate([[0.0], np.cumsum(returns)]))


def draws(n, volatility=0.02, seed=0):
    return np.random.default_rng(seed).normal(0, volatility, n)


def history(n, seed=0):
    """A history with open, high and low."""
    close = path(draws(n - 1, seed=seed))
    opening, *sides = close * np.exp(np.random.default_rng(seed + 1).normal(0, 0.01, (3, n)))
    high, low = np.maximum.reduce([opening, close, *sides]), np.minimum.reduce([opening, close, *sides])
    return {"open": opening, "high": high, "low": low, "close": close}


def column(prices, name, inputs="ohlc", **choices):
    return volatilities(prices, inputs, **choices)[:, NAMES[inputs].index(name)]


def rms(returns):
    return math.sqrt(sum(r * r for r in returns) / len(returns))


def test_rms_is_that_of_the_last_returns():
    found = column({"close": path(RETURNS)}, "rms_5")
    assert found[-1] == pytest.approx(rms(RETURNS[-5:]), rel=1e-6)
    assert found[-2] == pytest.approx(rms(RETURNS[:5]), rel=1e-6)
    assert found[2] == pytest.approx(rms(RETURNS[:2]), rel=1e-6)


def test_last_is_the_size_of_the_last_return():
    found = column({"close": path(RETURNS)}, "last")
    assert found[1:] == pytest.approx(np.abs(RETURNS), abs=1e-9)


def test_downside_is_of_the_falls_alone():
    found = column({"close": path(RETURNS)}, "downside_20")
    assert found[-1] == pytest.approx(math.sqrt((0.02**2 + 0.01**2) / 6), rel=1e-6)
    assert column({"close": path([0.01] * 30)}, "downside_20")[-1] == 0
    assert column({"close": path([-0.01] * 30)}, "downside_20")[-1] == pytest.approx(0.01, rel=1e-5)


def test_the_range_is_garman_and_klass():
    prices = {"open": [10.0, 10.2], "high": [10.5, 10.4], "low": [9.8, 10.0], "close": [10.2, 10.1]}
    first = 0.5 * math.log(10.5 / 9.8) ** 2 - (2 * math.log(2) - 1) * math.log(10.2 / 10.0) ** 2
    second = 0.5 * math.log(10.4 / 10.0) ** 2 - (2 * math.log(2) - 1) * math.log(10.1 / 10.2) ** 2
    assert column(prices, "range_1") == pytest.approx([math.sqrt(first), math.sqrt(second)], rel=1e-6)
    assert column(prices, "range_5")[1] == pytest.approx(math.sqrt((first + second) / 2), rel=1e-6)


def test_the_long_run_forgets_by_halves_and_begins_at_what_is_typical():
    found = column({"close": path(RETURNS)}, "long_run", typical=0.04)
    assert found[0] == pytest.approx(0.04)
    fading = [0.5 ** (age / HALF_LIFE) for age in range(6)]
    prior = PRIOR_SESSIONS * 0.5 ** (6 / HALF_LIFE)
    own = sum(weight * r * r for weight, r in zip(fading, RETURNS[::-1], strict=True))
    expected = math.sqrt((own + prior * 0.04**2) / (sum(fading) + prior))
    assert found[-1] == pytest.approx(expected, rel=1e-6)


def test_a_fresh_stock_is_typical_and_a_long_history_forgets_what_is_typical():
    close = path(draws(2000))
    low, high = (column({"close": close}, "long_run", typical=typical) for typical in (0.01, 0.05))
    assert (low[0], high[0]) == pytest.approx((0.01, 0.05))
    assert high[60] / low[60] > 1.5
    assert high[SPAN] / low[SPAN] == pytest.approx(1, abs=0.05)
    assert low[-1] == pytest.approx(0.02, rel=0.1)


def test_the_typical_volatility_is_the_default():
    assert volatilities({"close": [50.0, 51.0]}, "window")[0, 0] == TYPICAL_VOLATILITY


@pytest.mark.parametrize("earlier", [1, 250, 1500])
def test_a_history_that_begins_before_the_span_gives_the_same_values(earlier):
    prices = history(SPAN + 300 + earlier)
    whole = volatilities(prices, "ohlc").astype(np.float32)
    short = volatilities({name: values[earlier:] for name, values in prices.items()}, "ohlc").astype(np.float32)
    assert np.array_equal(short[SPAN:], whole[SPAN + earlier :])


def test_what_is_not_known_yet_is_nan_and_nothing_else_is():
    found = volatilities(history(300), "ohlc")
    first = {name: int(np.isfinite(found[:, place]).argmax()) for place, name in enumerate(NAMES["ohlc"])}
    assert first == {
        **{"long_run": 0, "last": 1, "rms_5": 2, "rms_60": 15, "rms_250": 63, "downside_20": 5},
        **{"range_1": 0, "range_5": 1, "range_20": 4},
    }
    for place, name in enumerate(NAMES["ohlc"]):
        assert np.isfinite(found[first[name] :, place]).all()


def test_ranges_are_nan_where_the_source_has_closes_alone():
    found = volatilities({"close": path(draws(300))}, "ohlc")
    assert np.isnan(found[:, -3:]).all()
    assert np.isfinite(found[-1, :-3]).all()


def test_a_day_without_open_high_and_low_is_left_out_of_the_range():
    prices = history(30)
    whole = column(prices, "range_5")
    for name in ("open", "high", "low"):
        prices[name][20] = np.nan
    found = volatilities(prices, "ohlc")
    assert np.isnan(found[20, -3])
    assert np.isfinite(found[21:, -3:]).all()
    assert np.isfinite(found[20, -2:]).all()
    assert not np.array_equal(column(prices, "range_5")[20:25], whole[20:25])
    assert np.array_equal(column(prices, "range_5")[25:], whole[25:])


def test_a_row_that_contradicts_itself_is_not_known():
    prices = history(30)
    prices["high"][20] = prices["low"][20] = prices["open"][20]
    assert np.isnan(column(prices, "range_1")[20])


@pytest.mark.parametrize("inputs", NAMES)
@pytest.mark.parametrize("n", [300, SPAN + 200])
@pytest.mark.parametrize("poison", [1e6, 1e-6])
def test_no_volatility_looks_ahead(inputs, n, poison):
    prices, cut = history(n), n - 120
    changed = {name: values.copy() for name, values in prices.items()}
    for values in changed.values():
        values[cut + 1 :] *= poison * np.linspace(1, 9, n - cut - 1)
    before, after = volatilities(prices, inputs), volatilities(changed, inputs)
    assert np.array_equal(before[: cut + 1], after[: cut + 1], equal_nan=True)
    assert not np.array_equal(before[cut + 1], after[cut + 1], equal_nan=True)


@pytest.mark.parametrize("n", [2, 30, 500, SPAN, SPAN + 1])
def test_what_was_known_then_is_what_a_longer_history_says_of_then(n):
    prices = history(SPAN + 200)
    then = volatilities({name: values[:n] for name, values in prices.items()}, "ohlc")
    now = volatilities(prices, "ohlc")[:n]
    assert np.array_equal(then.astype(np.float32), now.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("factor", [1000, 0.93714])
def test_the_day_that_prices_are_anchored_at_leaves_no_trace(factor):
    prices = history(400)
    anchored = {name: factor * values for name, values in prices.items()}
    assert np.array_equal(log_returns(anchored["close"]), log_returns(prices["close"]))
    before, after = (volatilities(table, "ohlc").astype(np.float32) for table in (prices, anchored))
    assert np.array_equal(before, after, equal_nan=True)


def test_a_stock_that_never_moves_keeps_a_floor():
    prices = dict.fromkeys(("open", "high", "low", "close"), np.full(SPAN + 500, 7.0))
    found = volatilities(prices, "ohlc", typical=0.0)
    assert (found[:, 0] == VOLATILITY_FLOOR).all()
    assert (found[-1, 1:] == 0).all()
    assert typical_volatility([np.full(50, 7.0)]) == VOLATILITY_FLOOR


def test_a_halt_lowers_the_short_volatilities_and_leaves_the_long_run_above_them():
    found = volatilities({"close": path([*draws(400), *[0.0] * 30])}, "history")[-1]
    by_name = dict(zip(NAMES["history"], found, strict=True))
    assert by_name["last"] == by_name["rms_5"] == by_name["downside_20"] == 0
    assert 0.018 < by_name["long_run"] < 0.022


def test_a_jump_of_a_quarter_raises_every_volatility_and_keeps_it_finite():
    calm, jumped = draws(400), draws(400)
    jumped[-3] = math.log(0.75)
    before, after = (volatilities({"close": path(returns)}, "history")[-1] for returns in (calm, jumped))
    raised = [NAMES["history"].index(name) for name in ("long_run", "rms_5", "rms_60", "rms_250", "downside_20")]
    assert np.isfinite(after).all()
    assert (after[raised] > before[raised]).all()


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("inputs", NAMES)
def test_a_history_of_next_to_nothing_has_the_typical_volatility(n, inputs):
    found = volatilities({"close": [50.0] * n}, inputs, typical=0.03)
    assert found.shape == (n, len(NAMES[inputs]))
    assert found[0, 0] == pytest.approx(0.03)


def test_the_typical_volatility_of_many_stocks_is_that_of_all_their_returns():
    one, two = path([0.01] * 30), path([0.03, -0.03] * 5)
    assert typical_volatility([one, two]) == pytest.approx(math.sqrt((30 * 0.01**2 + 10 * 0.03**2) / 40), rel=1e-6)
    assert typical_volatility([]) == typical_volatility([one[:1]]) == TYPICAL_VOLATILITY
