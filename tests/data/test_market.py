"""The market factor: the mean daily variance over the stocks of a panel."""

import numpy as np
import pandas as pd
import pytest

from pregao.data.market import OLDEST, Market
from pregao.data.variance import columns, daily_variance
from pregao.data.volatility import NAMES, volatilities
from tests.conftest import random_walk, with_ranges


@pytest.fixture(scope="module")
def histories():
    tables = {
        stock: with_ranges(random_walk(300, seed), seed) for seed, stock in enumerate(("PETR4", "ITUB4", "VALE3"))
    }
    tables["VALE3"] = tables["VALE3"].iloc[100:].reset_index(drop=True)
    return tables


@pytest.fixture(scope="module")
def market(histories):
    return Market.of(histories)


def test_it_is_the_mean_over_the_stocks_that_traded(histories, market):
    by_stock = [daily_variance(columns(histories[stock])) for stock in ("PETR4", "ITUB4", "VALE3")]
    assert market.variances[49] == pytest.approx(np.mean([by_stock[0][50], by_stock[1][50]]))
    assert market.variances[-1] == pytest.approx(np.mean([each[-1] for each in by_stock]))


def test_one_stock_or_closes_alone_have_no_market(histories):
    assert Market.of({"PETR4": histories["PETR4"]}) is None
    assert Market.of({stock: table[["date", "close"]] for stock, table in histories.items()}) is None


def test_measures_are_known_at_their_date_and_for_a_month_after_the_end(market):
    days = pd.DatetimeIndex(market.dates)
    later = pd.bdate_range(days[-1] + pd.Timedelta(days=1), periods=OLDEST + 1)
    dates = np.concatenate([[days[0] - pd.Timedelta(days=1)], days, later]).astype("datetime64[ns]")
    found = market.measures(dates)
    assert np.isnan(found[0]).all()
    assert found[1, 0] == pytest.approx(np.sqrt(market.variances[0]))
    assert found[len(days), 1] == pytest.approx(np.sqrt(market.variances[-5:].mean()))
    assert found[-2].tolist() == found[len(days)].tolist()
    assert np.isnan(found[-1]).all()


def test_a_later_day_changes_no_earlier_measure(histories, market):
    changed = {stock: table.copy() for stock, table in histories.items()}
    for table in changed.values():
        table.loc[len(table) - 1, "high"] *= 2
    before, after = (each.measures(market.dates)[:-1] for each in (market, Market.of(changed)))
    np.testing.assert_array_equal(before, after)


def test_it_is_saved_as_dates_and_measures(market, tmp_path):
    market.save(tmp_path / "market.csv")
    again = Market.parse((tmp_path / "market.csv").read_text())
    assert (again.dates == market.dates).all()
    assert again.variances == pytest.approx(market.variances, rel=1e-5)
    assert (tmp_path / "market.csv").read_text().startswith("date,variance\n")


def test_the_panel_measures_have_ranges_market_and_long_squares(histories, market):
    table = histories["PETR4"]
    found = pd.DataFrame(volatilities(columns(table), "panel", market=market), columns=NAMES["panel"])
    assert found["variance_1"].iloc[-1] == pytest.approx(np.sqrt(daily_variance(columns(table))[-1]))
    assert found["market_1"].iloc[-1] == pytest.approx(np.sqrt(market.variances[-1]))
    assert found["squares_60"].notna().idxmax() == 59
    returns = np.diff(np.log(table["close"]))
    assert found["squares_250"].iloc[-1] == pytest.approx(np.sqrt(np.mean(returns[-250:] ** 2)), rel=1e-5)
    without = pd.DataFrame(volatilities({"close": table["close"].to_numpy()}, "panel"), columns=NAMES["panel"])
    assert without[["variance_1", "market_1"]].isna().all(axis=None)
