from datetime import timedelta

import numpy as np
import pytest

from pregao.data.variance import columns
from pregao.forecasting.historical import rolling_forecasts
from pregao.models.calibration import band_scores, online_widths
from pregao.quantiles import widened
from tests.conftest import random_walk, with_ranges
from tests.models.test_trained import trained_model

PRICES = ["open", "high", "low", "close"]


def history(n=150):
    return with_ranges(random_walk(n))


def rolled(table, since=100, inputs="ohlc", model=None):
    model = model or trained_model(inputs=inputs)
    return rolling_forecasts(model, table, table["date"].iloc[since].date(), "VALE3")


def days(table):
    return table["date"].to_numpy("datetime64[ns]")


def test_the_first_origin_is_the_day_before_since_and_the_last_is_the_last_session():
    table = history()
    rolling = rolled(table, since=100)
    assert np.array_equal(rolling.windows.cutoffs, days(table)[99:])
    assert rolling.quantiles.shape == (51, 10, 7)
    assert {*rolling.windows.stocks} == {"VALE3"}
    by_text = rolling_forecasts(trained_model(inputs="ohlc"), table, str(table["date"].iloc[100].date()), "VALE3")
    assert np.array_equal(by_text.quantiles, rolling.quantiles)
    chosen = rolling.at(days(table)[[102, 106]])
    assert np.array_equal(chosen.windows.cutoffs, days(table)[[102, 106]])
    assert np.array_equal(chosen.quantiles, rolling.quantiles[[3, 7]])
    assert np.array_equal(chosen.widths, rolling.widths[[3, 7]])


def test_a_forecast_uses_the_closes_and_volatilities_of_its_day():
    table, rolling = history(), rolled(history())
    known = trained_model(inputs="ohlc").volatilities(columns(table)).astype(np.float32)
    for place in (0, 30, -1):
        [session] = np.flatnonzero(days(table) == rolling.windows.cutoffs[place])
        assert np.array_equal(rolling.windows.inputs[place], table["close"].iloc[session - 19 : session + 1])
        assert np.array_equal(rolling.windows.volatilities[place], known[session])


def test_the_bands_have_the_online_width_of_their_origin():
    rolling = rolled(history())
    seen = rolling.windows
    raw = trained_model(inputs="ohlc").quantiles(seen.inputs, seen.volatilities, seen.stocks)
    assert np.array_equal(rolling.widths, online_widths(band_scores(rolling.windows.targets, raw)))
    assert np.array_equal(rolling.quantiles, widened(raw, rolling.widths))
    assert rolling.widths[0] == 1
    assert len({*rolling.widths}) > 20


@pytest.mark.parametrize("inputs", ["window", "history", "ohlc"])
@pytest.mark.parametrize(("poison", "session"), [(1e4, 110), (1e-4, 140)])
def test_forecasts_and_widths_do_not_depend_on_the_future(inputs, poison, session):
    table = history()
    poisoned = table.copy()
    shock = poison * np.random.default_rng(1).uniform(0.5, 2, (len(table) - session - 1, 4))
    poisoned.loc[session + 1 :, PRICES] = poisoned.loc[session + 1 :, PRICES] * shock
    before, after = rolled(table, inputs=inputs), rolled(poisoned, inputs=inputs)
    known = before.windows.cutoffs <= days(table)[session]
    assert known.sum() == session - 98
    assert np.array_equal(before.widths[known], after.widths[known])
    assert np.array_equal(before.quantiles[known], after.quantiles[known])
    assert np.array_equal(before.windows.volatilities[known], after.windows.volatilities[known])
    assert not np.array_equal(before.quantiles[~known], after.quantiles[~known])


@pytest.mark.parametrize("sessions", [20, 150], ids=["one window", "since is in the future"])
def test_there_is_always_a_forecast_from_the_last_session(sessions):
    table = history(sessions)
    since = table["date"].iloc[-1].date() + timedelta(days=400 if sessions == 150 else -400)
    rolling = rolling_forecasts(trained_model(inputs="ohlc"), table, since)
    assert list(rolling.windows.cutoffs) == [days(table)[-1]]
    assert np.isfinite(rolling.quantiles).all()
    assert rolling.last.width == 1


LATE = np.tile(np.arange(150)[:, None] >= 120, 4)
UNUSUAL = {
    "a jump": lambda table: table[PRICES] * np.where(LATE, 0.75, 1),
    "a halt": lambda table: table[PRICES].mask(LATE, table["close"][119]),
    "a constant price": lambda table: dict.fromkeys(PRICES, 7.0),
    "no highs": lambda table: {"high": np.nan},
}


@pytest.mark.parametrize("change", UNUSUAL)
@pytest.mark.parametrize("inputs", ["window", "ohlc"])
def test_unusual_prices_have_finite_ordered_bands(change, inputs):
    table = history()
    quantiles = rolled(table.assign(**dict(UNUSUAL[change](table))), inputs=inputs).quantiles
    assert np.isfinite(quantiles).all()
    assert (quantiles > 0).all()
    assert (np.diff(quantiles, axis=-1) > 0).all()


def test_without_the_online_width_the_bands_are_those_of_the_network():
    model = trained_model(inputs="ohlc", online_width=False)
    rolling = rolled(history(), model=model)
    raw = model.quantiles(rolling.windows.inputs, rolling.windows.volatilities, rolling.windows.stocks)
    assert {*rolling.widths} == {1.0}
    assert rolling.quantiles == pytest.approx(raw)
