from functools import partial

import numpy as np
import pandas as pd
import pytest

from pregao.data.panel import build_panel, columns
from pregao.data.volatility import TYPICAL_VOLATILITY, typical_volatility, volatilities
from pregao.data.windows import borders_before, fraction_borders, reference_borders
from pregao.errors import TooFewSessions
from tests.conftest import random_walk

FRACTIONS = partial(fraction_borders, train=0.7, validation=0.15)


def histories(**lengths):
    """Stocks of these many sessions up to the same day."""
    return {name: random_walk(n, seed=seed) for seed, (name, n) in enumerate(lengths.items())}


def panel_of(prices, rule=FRACTIONS, inputs="window", **choices):
    return build_panel(prices, 20, 10, inputs, rule, **choices)


def parts(panel):
    return panel.split.train, panel.split.validation, panel.split.test


def thinned(table, every=7, keep=0.9):
    """Another market's calendar: some sessions are missing."""
    rows = np.random.default_rng(every).uniform(size=len(table)) < keep
    return table[rows].reset_index(drop=True)


RULES = {
    "fractions": FRACTIONS,
    "reference": partial(reference_borders, train=0.7, validation=0.15),
    "before a date": partial(borders_before, test=np.datetime64("2023-06-01", "ns"), train=0.8),
}


@pytest.mark.parametrize("rule", RULES)
def test_no_target_of_one_part_lies_in_a_later_part_of_any_stock(rule):
    prices = histories(AAAA3=900, BBBB3=700, CCCC4=650)
    prices["BBBB3"] = thinned(prices["BBBB3"])
    prices["CCCC4"] = prices["CCCC4"].iloc[:-40]
    panel = panel_of(prices, RULES[rule])
    train, validation, test = parts(panel)
    assert train.dates.max() < panel.borders[0] <= validation.dates.min()
    assert validation.dates.max() < panel.borders[1] <= test.dates.min()
    assert {*train.stocks} == {*validation.stocks} == {*test.stocks} == {*prices}


def test_the_borders_are_the_same_days_for_every_stock():
    panel = panel_of(histories(AAAA3=900, BBBB3=500))
    for stock, place in panel.split.test.by_stock():
        first = panel.split.test.dates[place][0, 0]
        assert first == panel.borders[1], stock
    for stock, place in panel.split.validation.by_stock():
        assert panel.split.validation.dates[place][0, 0] == panel.borders[0], stock


def test_borders_by_fractions_leave_so_many_of_all_windows_to_each_part():
    panel = panel_of(histories(AAAA3=2000, BBBB3=1000))
    windows = 1971 + 971
    sizes = [len(part) / windows for part in parts(panel)]
    straddling = 2 * 9 / windows
    assert sizes == pytest.approx([0.7, 0.15, 0.15], abs=straddling + 0.001)
    begins = np.sort(
        np.concatenate([table["date"].to_numpy("datetime64[ns]")[20:-9] for table in panel.prices.values()])
    )
    assert panel.borders == (begins[round(windows * 0.7)], begins[round(windows * 0.85)])


def test_each_stocks_windows_are_its_own():
    prices = histories(AAAA3=400, BBBB3=300)
    panel = panel_of(prices)
    assert panel.stocks == ["AAAA3", "BBBB3"]
    for part in parts(panel):
        for stock, place in part.by_stock():
            windows = part.where(place)
            table = prices[stock].set_index("date")["close"]
            assert np.array_equal(windows.inputs[:, -1], table.loc[windows.cutoffs])
            assert np.array_equal(windows.targets[:, 0], table.loc[windows.dates[:, 0]])
            assert (np.diff(windows.cutoffs) > np.timedelta64(0)).all()


def test_a_panel_of_one_stock_splits_as_the_stock_does():
    one = panel_of(histories(AAAA3=600))
    assert [len(part) for part in parts(one)] == [400 - 9, 485 - 400 - 9, 571 - 485]


def test_a_stock_of_sixty_sessions_joins_where_its_dates_lie():
    panel = panel_of(histories(AAAA3=120, BBBB3=60))
    assert [list(dict(part.by_stock())) for part in parts(panel)] == [["AAAA3", "BBBB3"]] * 3
    train = panel.split.train
    young = train.where(train.stocks == "BBBB3")
    assert 0 < len(young) < 10
    assert np.isfinite(young.volatilities).all()
    assert young.volatilities[0, 0] == pytest.approx(panel.typical, rel=0.25)


def test_a_stock_that_begins_with_the_test_part_is_not_judged_and_one_that_began_before_is():
    panel = panel_of(histories(AAAA3=900, BBBB3=60, CCCC4=220))
    assert panel.stocks == ["AAAA3", "BBBB3", "CCCC4"]
    assert {*panel.split.test.stocks} == {"AAAA3", "CCCC4"}
    assert panel.prices["BBBB3"]["date"].iloc[0] > panel.borders[1] > panel.prices["CCCC4"]["date"].iloc[0]


def test_a_stock_without_one_window_takes_no_part():
    panel = panel_of(histories(AAAA3=900, BBBB3=29))
    assert all({*part.stocks} == {"AAAA3"} for part in parts(panel))


@pytest.mark.parametrize("n", [1, 2, 29, 30, 47])
def test_too_few_sessions_make_no_panel(n):
    with pytest.raises(TooFewSessions, match=rf"^AAAA3: {n} sessions from .*, and at least \d+ are needed"):
        panel_of(histories(AAAA3=n))


def test_stocks_whose_dates_leave_a_part_empty_make_no_panel():
    rule = RULES["before a date"]
    prices = histories(AAAA3=900)
    before = prices["AAAA3"]["date"] < "2023-06-01"
    for part in (before, ~before):
        with pytest.raises(TooFewSessions, match=r"^AAAA3: "):
            panel_of({"AAAA3": prices["AAAA3"][part]}, rule)


def test_the_typical_volatility_is_that_of_all_stocks_before_the_validation_part():
    prices = histories(AAAA3=900, BBBB3=700)
    panel = panel_of(prices)
    past = [table.loc[table["date"] < panel.borders[0], "close"].to_numpy() for table in prices.values()]
    assert panel.typical == typical_volatility(past)
    assert panel_of(prices, typical=0.07).typical == 0.07


def test_what_a_training_learns_from_knows_nothing_of_later_prices():
    prices = histories(AAAA3=900, BBBB3=700)
    before = panel_of(prices, inputs="history")
    poisoned = {name: table.assign(close=table["close"]) for name, table in prices.items()}
    for table in poisoned.values():
        table.loc[table["date"] >= before.borders[0], "close"] *= np.random.default_rng(0).uniform(10, 99)
    after = panel_of(poisoned, inputs="history")
    assert after.typical == before.typical
    assert after.borders == before.borders
    for name in ("inputs", "volatilities", "targets"):
        assert np.array_equal(getattr(after.split.train, name), getattr(before.split.train, name), equal_nan=True)


@pytest.mark.parametrize("inputs", ["window", "history", "ohlc"])
def test_windows_carry_the_volatilities_of_the_chosen_inputs(inputs):
    prices = histories(AAAA3=600)
    table = prices["AAAA3"]
    if inputs == "ohlc":
        table = prices["AAAA3"] = table.assign(
            open=table["close"], high=1.01 * table["close"], low=0.99 * table["close"]
        )
    panel = panel_of(prices, inputs=inputs)
    expected = volatilities(columns(table), inputs, panel.typical)[19:].astype(np.float32)
    train = panel.split.train
    assert np.array_equal(train.volatilities, expected[: len(train)], equal_nan=True)


def test_a_source_without_open_high_and_low_leaves_ranges_unknown():
    prices = histories(AAAA3=600, BBBB3=600)
    prices["AAAA3"] = prices["AAAA3"].assign(open=50.0, high=51.0, low=49.0)
    train = panel_of(prices, inputs="ohlc").split.train
    unknown = {stock: np.isnan(train.volatilities[place, -3:]).all() for stock, place in train.by_stock()}
    assert unknown == {"AAAA3": False, "BBBB3": True}


def test_columns_are_those_that_volatilities_are_made_of():
    table = pd.DataFrame({"date": [0], "volume": [1], "close": [2], "low": [1]})
    assert list(columns(table)) == ["low", "close"]


def test_prices_that_never_move_make_a_panel_with_a_floor():
    table = random_walk(600).assign(close=7.0)
    panel = panel_of({"AAAA3": table}, inputs="history")
    assert 0 < panel.typical < TYPICAL_VOLATILITY
    assert (panel.split.train.volatilities[:, 0] > 0).all()
