"""Splits and dividends: known ones adjust prices by Yahoo's formula, likely ones are only listed."""

import json
from datetime import date

import numpy as np
import pandas as pd
import pytest

from pregao.errors import BadPrices
from pregao.prices.actions import RATIOS, Actions, ActionStore, adjusted, from_yahoo, likely_splits
from tests.prices.conftest import prices_of

D = [date(2024, 1, day) for day in (2, 3, 4, 5)]
UNTIL = D[3]
OLD = date(2020, 1, 1)
UNADJUSTED = [40.0, 44.0, 20.0, 21.0]  # 2:1 on the third day
QUOTES = prices_of(UNADJUSTED).drop(columns="adj_close")


@pytest.mark.parametrize(
    ("yahoo", "confirmed", "closes"),
    [
        ({D[2]: 2.0}, {}, [20.0, 22.0, 20.0, 21.0]),
        ({D[2]: 2.0, D[3]: 0.1}, {}, [200.0, 220.0, 200.0, 21.0]),
        ({}, {D[2]: 2.0}, [20.0, 22.0, 20.0, 21.0]),
        ({D[2]: 2.0}, {D[2]: 3.0}, [20.0, 22.0, 20.0, 21.0]),
        ({OLD: 3.0}, {}, UNADJUSTED),
    ],
    ids=["split", "reverse split", "confirmed", "in both", "before the first quote"],
)
def test_splits_put_earlier_prices_and_volumes_on_todays_share_count(yahoo, confirmed, closes):
    table = adjusted(QUOTES, Actions(splits=yahoo), Actions(splits=confirmed))
    assert table["close"].tolist() == table["open"].tolist() == pytest.approx(closes)
    assert (table["close"] * table["volume"]).tolist() == pytest.approx((QUOTES["close"] * QUOTES["volume"]).tolist())
    assert table["adj_close"].isna().all()


@pytest.mark.parametrize(
    ("yahoo", "confirmed", "adjusted_closes"),
    [
        (Actions(splits={D[2]: 2.0}, dividends={D[3]: 1.0}, until=UNTIL), {}, [19.0, 20.9, 19.0, 21.0]),
        (Actions(until=UNTIL), {}, UNADJUSTED),
        (Actions(dividends={OLD: 3.0, date(2024, 2, 1): 2.1}, until=UNTIL), {}, [36.0, 39.6, 18.0, 18.9]),
        (Actions(dividends={D[1]: 4.0}, until=D[1]), {D[2]: 2.0}, [18.0, 22.0, 20.0, 21.0]),  # 4.0 of 40: 10 %
        (Actions(dividends={D[1]: 2.0}, until=D[2]), {D[2]: 2.0}, [18.0, 22.0, 20.0, 21.0]),  # on the new count
    ],
    ids=["after a split", "none", "outside the quotes", "before a confirmed split", "of the split's day"],
)
def test_dividends_lower_earlier_adjusted_closes_by_their_share_of_the_previous_close(
    yahoo, confirmed, adjusted_closes
):
    table = adjusted(QUOTES, yahoo, Actions(splits=confirmed))
    assert table["adj_close"].tolist() == pytest.approx(adjusted_closes)


def test_yahoos_actions_are_replaced_and_confirmed_splits_are_added(vale3):
    frame = pd.DataFrame({"Dividends": [0.0, 0.5], "Stock Splits": [2.0, 0.0]}, pd.DatetimeIndex(D[:2]))
    store, found = ActionStore(), from_yahoo(frame, UNTIL)
    assert found == Actions(splits={D[0]: 2.0}, dividends={D[1]: 0.5}, until=UNTIL)
    assert store.read(vale3, "yahoo") == store.read(vale3, "confirmed") == Actions()
    for answer in (Actions(splits={D[2]: 2.0}, until=UNTIL), found):
        store.write(vale3, "yahoo", answer)
        assert store.read(vale3, "yahoo") == answer
    store.confirm(vale3, D[0], 2.0)
    path = store.confirm(vale3, D[2], 0.1)
    assert json.loads(path.read_text())["splits"] == {"2024-01-02": 2.0, "2024-01-04": 0.1}
    assert store.read(vale3, "confirmed").splits == {D[0]: 2.0, D[2]: 0.1}


@pytest.mark.parametrize("content", ["", "[]", '{"splits": {"soon": 2}}', '{"splits": {"2024-01-31": -2}}'])
def test_damaged_actions_are_refused_with_their_file(vale3, content):
    store = ActionStore()
    store.folder.mkdir(parents=True)
    (store.folder / "VALE3.confirmed.json").write_text(content)
    with pytest.raises(BadPrices, match=r"VALE3\.confirmed\.json"):
        store.read(vale3, "confirmed")


def walk(n=120):
    """Closes by a random walk, each open at 0.2 % above its close."""
    rng = np.random.default_rng(0)
    closes, volumes = 50 * np.exp(rng.normal(0, 0.015, n).cumsum()), rng.uniform(0.7, 1.4, n) * 1e6
    days = pd.bdate_range("2024-01-01", periods=n)
    return pd.DataFrame({"date": days, "open": closes * 1.002, "close": closes, "volume": volumes})


def unsplit(table, row, ratio, volume=None):
    """The unadjusted table of a split in a row: higher prices before it, and volumes lower by `volume`."""
    factors = np.where(table.index < row, float(ratio), 1)
    volumes = table["volume"] / np.where(table.index < row, float(ratio if volume is None else volume), 1)
    return table.assign(open=table["open"] * factors, close=table["close"] * factors, volume=volumes)


@pytest.mark.parametrize("ratio", RATIOS, ids=str)
def test_a_jump_by_a_simple_ratio_of_price_and_volume_is_a_likely_split(ratio):
    table = walk()
    for row in (5, 60, 119):  # the last is yesterday's
        (found,) = likely_splits(unsplit(table, row, ratio))
        assert (found.day, found.ratio) == (table["date"].iloc[row].date(), ratio)


def test_the_jump_is_from_the_close_to_the_next_open():
    table = unsplit(walk(), 60, 2)
    table.loc[60, "close"] *= 1.12  # the first session after the split closes far above its open
    assert [str(split) for split in likely_splits(table)] == [f"2:1 on {table['date'].iloc[60].date()}"]


@pytest.mark.parametrize(("ratio", "volume"), [(2, 1), (2, 1 / 6), (100, 10), (2, np.nan)])
def test_a_jump_with_another_volume_or_without_volumes_is_not_a_likely_split(ratio, volume):
    assert likely_splits(unsplit(walk(), 60, ratio, volume)) == []
    assert likely_splits(unsplit(walk(), 60, ratio, volume).tail(2)) == []
