from functools import partial

import numpy as np
import pytest

from pregao.data.panel import build_panel
from pregao.data.variance import columns
from pregao.data.volatility import typical_volatility, volatilities
from pregao.data.windows import borders_before, fraction_borders, reference_borders
from pregao.errors import TooFewSessions
from tests.conftest import random_walk

RULES = {
    "fractions": partial(fraction_borders, train=0.7, validation=0.15),
    "reference": partial(reference_borders, train=0.7, validation=0.15),
    "before a date": partial(borders_before, test=np.datetime64("2023-06-01", "ns"), train=0.8),
}


def histories(**lengths):
    """Stocks with these numbers of sessions up to the same day."""
    return {name: random_walk(n, seed=seed) for seed, (name, n) in enumerate(lengths.items())}


def panel_of(prices, rule="fractions", inputs="window", **choices):
    return build_panel(prices, 20, 10, inputs, RULES[rule], **choices)


def parts(panel):
    return panel.split.train, panel.split.validation, panel.split.test


def stocks(panel):
    return [{*part.stocks} for part in parts(panel)]


@pytest.mark.parametrize("rule", RULES)
def test_no_target_of_one_part_is_in_a_later_part_of_any_stock(rule):
    prices = histories(AAAA3=900, BBBB3=700, CCCC4=650)
    kept = np.random.default_rng(7).uniform(size=700) < 0.9  # another calendar
    prices["BBBB3"] = prices["BBBB3"][kept].reset_index(drop=True)
    prices["CCCC4"] = prices["CCCC4"].iloc[:-40]
    panel = panel_of(prices, rule)
    train, validation, test = parts(panel)
    assert train.dates.max() < panel.borders[0] <= validation.dates.min()
    assert validation.dates.max() < panel.borders[1] <= test.dates.min()
    assert stocks(panel) == [{*prices}] * 3


@pytest.mark.parametrize("rule", RULES)
def test_every_lookback_has_the_same_validation_and_test_dates(rule):
    prices = histories(AAAA3=900, BBBB3=800)
    five, default, sixty = (build_panel(prices, lookback, 10, "window", RULES[rule]) for lookback in (5, 20, 60))
    for other in five, sixty:
        assert other.borders == default.borders
        for part in "validation", "test":
            assert np.array_equal(getattr(other.split, part).dates, getattr(default.split, part).dates)


def test_the_fractions_count_the_windows_of_all_stocks():
    panel = panel_of(histories(AAAA3=2000, BBBB3=1000))
    starts = np.sort(
        np.concatenate([table["date"].to_numpy("datetime64[ns]")[20:-9] for table in panel.prices.values()])
    )
    assert panel.borders == (starts[round(len(starts) * 0.7)], starts[round(len(starts) * 0.85)])
    for part, border in zip(parts(panel)[1:], panel.borders, strict=True):
        assert {part.dates[place][0, 0] for _, place in part.by_stock()} == {border}


@pytest.mark.parametrize(
    ("sessions", "expected"),
    [
        (29, [False, False, False]),  # no window
        (60, [False, False, False]),  # windows in the test part only: no closes for the baselines
        (180, [False, True, True]),  # first windows in the validation part
        (800, [True, True, True]),
    ],
)
def test_a_young_stock_is_tested_only_if_it_has_windows_before_the_test_part(sessions, expected):
    panel = panel_of(histories(AAAA3=900, BBBB3=sessions))
    assert ["BBBB3" in found for found in stocks(panel)] == expected
    assert all("AAAA3" in found for found in stocks(panel))


@pytest.mark.parametrize("n", [1, 29, 30, 47])
def test_too_few_sessions_are_refused(n):
    with pytest.raises(TooFewSessions, match=rf"^AAAA3: {n} sessions from .*, and at least \d+ are needed"):
        panel_of(histories(AAAA3=n))


def test_dates_that_leave_a_part_empty_are_refused():
    [table] = histories(AAAA3=900).values()
    for before in (True, False):
        with pytest.raises(TooFewSessions, match=r"^AAAA3: "):
            panel_of({"AAAA3": table[(table["date"] < "2023-06-01") == before]}, "before a date")


def test_the_training_part_does_not_depend_on_later_prices():
    prices = histories(AAAA3=900, BBBB3=700)
    before = panel_of(prices, inputs="history")
    past = [table.loc[table["date"] < before.borders[0], "close"].to_numpy() for table in prices.values()]
    assert before.typical == typical_volatility(past)
    poisoned = {name: table.copy() for name, table in prices.items()}
    for table in poisoned.values():
        table.loc[table["date"] >= before.borders[0], "close"] *= np.random.default_rng(0).uniform(10, 99)
    assert panel_of(prices, typical=0.07).typical == 0.07
    after = panel_of(poisoned, inputs="history")
    assert (after.typical, after.borders) == (before.typical, before.borders)
    for name in ("inputs", "volatilities", "targets"):
        assert np.array_equal(getattr(after.split.train, name), getattr(before.split.train, name), equal_nan=True)


@pytest.mark.parametrize("inputs", ["window", "history", "ohlc"])
def test_windows_contain_the_volatilities_of_the_chosen_inputs(inputs):
    [table] = histories(AAAA3=600).values()
    close = table["close"]
    ranges = table.assign(open=close, high=1.01 * close, low=0.99 * close, volume=1)
    panel = panel_of({"AAAA3": ranges, "BBBB3": table}, inputs=inputs)
    assert list(columns(ranges)) == ["open", "high", "low", "close", "date"]
    train = panel.split.train
    for stock, place in train.by_stock():
        known = volatilities(columns(panel.prices[stock]), inputs, panel.typical)[19:].astype(np.float32)
        found = train.volatilities[place]
        assert np.array_equal(found, known[: len(found)], equal_nan=True)
        assert np.isnan(found[-1]).sum() == (3 if (stock, inputs) == ("BBBB3", "ohlc") else 0)
