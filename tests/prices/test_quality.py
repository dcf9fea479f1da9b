from datetime import date

import pandas as pd
import pytest

from pregao.errors import BadPrices
from pregao.prices import quality
from pregao.prices.symbols import Symbol
from tests.prices.conftest import prices_of

CLOSES = [10.0, 11.0, 12.0, 11.0, 10.0, 11.0]
DATES = "dates with two different closes"
DAYS = [str(day.date()) for day in prices_of(CLOSES)["date"]]


def changed(row, **values):
    """The table of CLOSES with other values in a row."""
    table = prices_of(CLOSES)
    for name, value in values.items():
        table.loc[row, name] = value
    return table


def appended(row, **values):
    """The table of CLOSES and, at its end, a copy of one of its rows with other values."""
    table = prices_of(CLOSES)
    return pd.concat([table, table.iloc[[row]].assign(**values)])


SUNDAY = appended(4, date=pd.Timestamp("2024-01-07"))[-1:]


def test_days_without_a_range_are_named_unless_the_source_never_has_one(vale3):
    [found] = quality.inspect(changed(1, open=None, low=None), vale3).findings
    assert (str(found), found.verdict) == ("rows without open, high or low: 1 (2024-01-03)", "warned")
    assert (
        quality.inspect(
            prices_of(CLOSES).assign(open=float("nan"), high=float("nan"), low=float("nan")), vale3
        ).findings
        == ()
    )


@pytest.mark.parametrize(
    ("table", "finding", "volumes"),
    [
        (appended(5), "repeated rows: 1 (2024-01-09)", [100.0] * 6),
        (appended(5, volume=999.0), "repeated rows: 1 (2024-01-09)", [*[100.0] * 5, 999.0]),  # Yahoo's live row
        (prices_of(CLOSES).iloc[[1, 0, 2, 3, 4, 5]], "rows out of order: 1 (2024-01-02)", [100.0] * 6),
        (changed(2, close=None), "rows without a close: 1 (2024-01-04)", [100.0] * 5),
        (changed(1, open=0.0), "open, high or low of zero: 1 (2024-01-03)", [100.0] * 6),
    ],
)
def test_harmless_defects_are_repaired_without_changing_the_given_table(vale3, table, finding, volumes):
    before = table.copy()
    report = quality.inspect(table, vale3)
    assert (str(report.findings[0]), report.findings[0].verdict) == (finding, "repaired")
    assert report.usable("x", "y")["volume"].tolist() == volumes
    assert report.table["date"].is_monotonic_increasing
    assert not (report.table[["open", "high", "low"]] == 0).any().any()
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize(
    ("table", "finding"),
    [
        *((changed(2, **{name: -1.0}), "prices of zero or less: 1 (2024-01-04)") for name in quality._PRICES),
        (changed(1, close=0.0, adj_close=0.0), "prices of zero or less: 1 (2024-01-03)"),
        *((changed(2, close=value), "infinite prices: 1 (2024-01-04)") for value in (float("inf"), float("-inf"))),
        (appended(5, close=10.7), f"{DATES}: 1 (2024-01-09)"),
        (appended(5, adj_close=10.7), f"{DATES}: 1 (2024-01-09)"),
        (prices_of([None, None]), "no row with a price: 1"),
        (changed(0, date=pd.Timestamp("1899-12-31")), "dates before 1900: 1 (1899-12-31)"),
        (changed(5, date=pd.Timestamp("2199-01-01")), "dates in the future: 1 (2199-01-01)"),
    ],
)
def test_defects_that_cannot_be_repaired_are_refused(vale3, table, finding):
    report = quality.inspect(table, vale3)
    assert [str(refused) for refused in report.refused] == [finding]
    with pytest.raises(BadPrices):
        report.usable("x", "y")


@pytest.mark.parametrize(
    ("table", "symbol", "finding"),
    [
        (prices_of(CLOSES).drop(index=2), "VALE3", "sessions missing: 1 (2024-01-04)"),
        (prices_of(CLOSES * 2)[::7], "VALE3", f"sessions missing: 6 ({', '.join(DAYS[1:6])}, …)"),
        (prices_of([10.0, 11.0], "2024-07-03"), "SP500", "rows on days without a session: 1 (2024-07-04)"),
        (pd.concat([prices_of(CLOSES[:4]), SUNDAY]), "VALE3", "rows on days without a session: 1 (2024-01-07)"),
        (prices_of([10.0, 12.4, 9.4, 5.0]), "VALE3", "daily moves over 25%: 1 (2024-01-05)"),
        (prices_of([10.0, 12.6]), "VALE3", "daily moves over 25%: 1 (2024-01-03)"),
        (prices_of([10.0, *[11.0] * 5]), "VALE3", "runs of 5 or more identical closes: 1 (2024-01-03)"),
    ],
)
def test_unusual_prices_are_a_warning(table, symbol, finding):
    (found,) = quality.inspect(table, Symbol.parse(symbol)).findings
    assert (str(found).startswith(finding), found.verdict) == (True, "warned")


def test_moves_of_a_quarter_and_four_identical_closes_are_usual(vale3):
    table = prices_of([8.0, 10.0, 10.0, 10.0, 10.0, 11.0])
    report = quality.inspect(table, vale3)
    assert report.findings == ()
    pd.testing.assert_frame_equal(report.usable("x", "y"), table)


def test_today_is_not_in_the_future(vale3):
    table = prices_of(CLOSES)  # until 2024-01-09
    assert quality.inspect(table, vale3, today=date(2024, 1, 9)).refused == ()
    assert quality.inspect(table, vale3, today=date(2024, 1, 8)).refused != ()
