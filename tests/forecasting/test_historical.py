from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from pregao.data.panel import columns
from pregao.forecasting.historical import rolling_forecasts
from pregao.models.calibration import band_scores, online_widths
from pregao.quantiles import MEDIAN, at, widened
from tests.conftest import random_walk
from tests.models.test_recurrent import network
from tests.models.test_trained import trained_model


def history(n=150, seed=0):
    """A history with open, high and low."""
    table = random_walk(n, seed)
    high, low = (table["close"] * np.exp(sign * 0.01) for sign in (1, -1))
    opening = table["close"] * np.exp(np.random.default_rng(seed).uniform(-0.01, 0.01, n))
    return table.assign(open=opening, high=high, low=low)


def rolled(table, since=100, inputs="ohlc", model=None):
    model = model or trained_model(inputs=inputs)
    return rolling_forecasts(model, table, table["date"].iloc[since].date(), "VALE3")


def untrained():
    """A model that knows nothing but the fan."""
    return replace(trained_model(), network=network())


def days(table):
    return table["date"].to_numpy("datetime64[ns]")


def test_there_is_a_forecast_from_the_day_before_since_to_the_last_session():
    table = history()
    rolling = rolled(table, since=100)
    assert np.array_equal(rolling.windows.cutoffs, days(table)[99:])
    assert rolling.quantiles.shape == (51, 10, 7)
    assert {*rolling.windows.stocks} == {"VALE3"}


def test_a_forecast_sees_the_closes_and_volatilities_of_its_day():
    table, rolling = history(), rolled(history())
    known = trained_model(inputs="ohlc").volatilities(columns(table)).astype(np.float32)
    for place in (0, 30, -1):
        [session] = np.flatnonzero(days(table) == rolling.windows.cutoffs[place])
        assert np.array_equal(rolling.windows.inputs[place], table["close"].iloc[session - 19 : session + 1])
        assert np.array_equal(rolling.windows.volatilities[place], known[session])


def test_what_has_not_come_yet_is_unknown():
    windows = rolled(history()).windows
    assert np.isfinite(windows.targets[:-10]).all()
    for ago in range(1, 11):
        assert np.isfinite(windows.targets[-ago, : ago - 1]).all()
        assert np.isnan(windows.targets[-ago, ago - 1 :]).all()
    assert np.array_equal(np.isnan(windows.targets), np.isnat(windows.dates))


def test_the_bands_have_the_online_width_of_their_origin():
    rolling = rolled(history())
    seen = rolling.windows
    raw = trained_model(inputs="ohlc").quantiles(seen.inputs, seen.volatilities, seen.stocks)
    assert np.array_equal(rolling.widths, online_widths(band_scores(rolling.windows.targets, raw)))
    assert np.array_equal(rolling.quantiles, widened(raw, rolling.widths))
    assert rolling.widths[0] == 1
    assert len({*rolling.widths}) > 20


@pytest.mark.parametrize("inputs", ["window", "history", "ohlc"])
@pytest.mark.parametrize("poison", [1e4, 1e-4])
@pytest.mark.parametrize("session", [110, 140])
def test_no_forecast_and_no_width_look_ahead(inputs, poison, session):
    table = history()
    poisoned = table.copy()
    prices = ["open", "high", "low", "close"]
    shock = poison * np.random.default_rng(1).uniform(0.5, 2, (len(table) - session - 1, 4))
    poisoned.loc[session + 1 :, prices] = poisoned.loc[session + 1 :, prices] * shock
    before, after = rolled(table, inputs=inputs), rolled(poisoned, inputs=inputs)
    known = before.windows.cutoffs <= days(table)[session]
    assert known.sum() == session - 98
    assert np.array_equal(before.widths[known], after.widths[known])
    assert np.array_equal(before.quantiles[known], after.quantiles[known])
    assert np.array_equal(before.windows.volatilities[known], after.windows.volatilities[known])
    assert not np.array_equal(before.quantiles[~known], after.quantiles[~known])


def test_what_was_forecast_then_is_what_a_longer_history_says_of_then():
    table = history()
    then, now = rolled(table.iloc[:130]), rolled(table)
    assert np.array_equal(then.windows.volatilities, now.windows.volatilities[: len(then.windows)])
    assert then.widths == pytest.approx(now.widths[: len(then.widths)], rel=1e-12)
    assert then.quantiles == pytest.approx(now.quantiles[: len(then.quantiles)], rel=1e-6)


def test_the_last_window_gives_the_last_forecast():
    rolling = rolled(history())
    rows = trained_model(inputs="ohlc").rows(rolling.last)
    assert [row["close"] for row in rows] == pytest.approx(rolling.quantiles[-1, :, MEDIAN], rel=1e-6)
    assert [row["upper_90"] for row in rows] == pytest.approx(at(rolling.quantiles[-1], 0.95), rel=1e-6)
    assert rolling.last.width == rolling.widths[-1] != 1
    assert rolling.last.closes == history()["close"].tolist()[-20:]


def test_at_takes_the_forecasts_of_some_days():
    rolling = rolled(history())
    chosen = rolling.at(rolling.windows.cutoffs[[3, 7]])
    assert np.array_equal(chosen.quantiles, rolling.quantiles[[3, 7]])
    assert np.array_equal(chosen.widths, rolling.widths[[3, 7]])
    assert np.array_equal(chosen.windows.cutoffs, rolling.windows.cutoffs[[3, 7]])


def test_a_day_after_the_last_session_leaves_the_last_forecast_alone():
    table = history()
    after = table["date"].iloc[-1].date() + timedelta(days=400)
    rolling = rolling_forecasts(trained_model(), table, after)
    assert list(rolling.windows.cutoffs) == [days(table)[-1]]
    assert rolling.last.width == 1


def test_a_history_of_one_window_has_one_forecast():
    table = history(20)
    rolling = rolling_forecasts(trained_model(inputs="ohlc"), table, "2015-01-01")
    assert len(rolling.windows) == 1
    assert np.isfinite(rolling.quantiles).all()


def test_a_date_may_be_a_text():
    table = history()
    since = table["date"].iloc[100].date()
    one, two = (rolling_forecasts(trained_model(), table, day) for day in (since, str(since)))
    assert np.array_equal(one.quantiles, two.quantiles)


@pytest.mark.parametrize("factor", [1000, 0.93714])
def test_forecasts_have_the_unit_of_the_prices_and_widths_have_none(factor):
    table = history()
    prices = ["open", "high", "low", "close"]
    anchored = table.assign(**{name: factor * table[name] for name in prices})
    one, two = rolled(table), rolled(anchored)
    assert np.array_equal(one.widths, two.widths)
    assert two.quantiles / factor == pytest.approx(one.quantiles, rel=1e-14)


def moved(table, session, factor):
    """The prices from a session on, times a factor."""
    changed = table.copy()
    changed.loc[session:, ["open", "high", "low", "close"]] *= factor
    return changed


def spread(rolling):
    return np.log(at(rolling.quantiles, 0.95) / at(rolling.quantiles, 0.05))


def ordered(rolling):
    return bool(
        np.isfinite(rolling.quantiles).all()
        and (rolling.quantiles > 0).all()
        and (np.diff(rolling.quantiles, axis=-1) > 0).all()
    )


def test_a_jump_of_a_quarter_is_answered_with_finite_and_wider_bands():
    calm, jumped = (rolled(table, model=untrained()) for table in (history(), moved(history(), 120, 0.75)))
    [first] = np.flatnonzero(jumped.windows.cutoffs == days(history())[120])
    assert ordered(jumped)
    assert np.array_equal(spread(jumped)[:first], spread(calm)[:first])
    assert (spread(jumped)[first : first + 19] > 1.5 * spread(calm)[first : first + 19]).all()
    assert (spread(jumped)[first + 19 :] > spread(calm)[first + 19 :]).all()
    assert ordered(rolled(moved(history(), 120, 0.75)))


def test_a_halted_stock_keeps_finite_ordered_bands_that_narrow():
    table = history(200)
    table.loc[120:, ["open", "high", "low", "close"]] = table["close"].iloc[119]
    for inputs in ("window", "ohlc"):
        assert ordered(rolled(table, inputs=inputs))
    rolling = rolled(table, model=untrained())
    assert (spread(rolling)[-1] < spread(rolling)[0]).all()
    assert rolling.widths[-1] < rolling.widths[25]


def test_prices_that_never_move_have_finite_ordered_bands():
    table = history()
    table[["open", "high", "low", "close"]] = 7.0
    rolling = rolled(table)
    assert ordered(rolling)
    assert (np.diff(rolling.widths) <= 0).all()


@pytest.mark.parametrize("missing", ["some", "all"])
def test_days_without_open_high_and_low_have_a_forecast_too(missing):
    table = history()
    rows = slice(90, 120) if missing == "some" else slice(None)
    table.loc[rows, ["open", "high", "low"]] = np.nan
    assert ordered(rolled(table))
    assert ordered(rolled(table[["date", "close"]]))


def test_the_fan_of_itub4_stays_sane_across_its_jump(real_prices):
    raw = pd.read_csv(real_prices / "ITUB4.csv", parse_dates=["date"])
    table = raw.assign(
        **{name: raw[name] * raw["adj_close"] / raw["close"] for name in ("open", "high", "low", "close")}
    )
    rolling = rolling_forecasts(trained_model(inputs="ohlc"), table[table["date"] < "2022-01-01"], "2021-08-01")
    assert ordered(rolling)
    assert spread(rolling).max() < 3
