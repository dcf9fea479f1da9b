from datetime import date

import pandas as pd
import pytest

from pregao.errors import BadPrices
from pregao.prices import quality
from pregao.prices.symbols import Symbol

CLOSES = [10.0, 11.0, 12.0, 11.0, 10.0, 11.0]


def found(report):
    return {finding.what: (finding.count, finding.verdict) for finding in report.findings}


def test_a_clean_table_has_no_findings_and_stays_as_it_is(prices_of, vale):
    table = prices_of(CLOSES)
    report = quality.inspect(table, vale)
    assert report.findings == ()
    pd.testing.assert_frame_equal(report.table, table)
    pd.testing.assert_frame_equal(report.usable("x", "y"), table)


def test_an_identical_repeated_row_is_dropped(prices_of, vale):
    table = prices_of(CLOSES)
    report = quality.inspect(pd.concat([table, table.iloc[[5]]]), vale)
    assert found(report) == {"repeated rows": (1, "repaired")}
    pd.testing.assert_frame_equal(report.table, table)


def test_the_later_of_two_rows_that_differ_in_volume_only_stays(prices_of, vale):
    table = prices_of(CLOSES)
    live = table.iloc[[5]].assign(volume=999.0)
    report = quality.inspect(pd.concat([table, live]), vale)
    assert report.table["volume"].iloc[-1] == 999.0
    assert not report.refused


@pytest.mark.parametrize("column", ["close", "adj_close"])
def test_a_date_with_two_different_closes_is_refused(prices_of, vale, column):
    table = prices_of(CLOSES)
    other = table.iloc[[5]].assign(**{column: 10.7})
    report = quality.inspect(pd.concat([table, other]), vale)
    assert found(report) == {"dates with two different closes": (1, "refused")}


def test_rows_without_a_close_are_dropped_and_counted(prices_of, vale):
    report = quality.inspect(prices_of([10.0, None, None, 11.0]), vale)
    assert found(report)["rows without a close"] == (2, "repaired")
    assert len(report.table) == 2


def test_rows_out_of_order_are_sorted(prices_of, vale):
    table = prices_of(CLOSES)
    report = quality.inspect(table.iloc[[1, 0, 2, 3, 4, 5]], vale)
    assert found(report) == {"rows out of order": (1, "repaired")}
    pd.testing.assert_frame_equal(report.table, table)


@pytest.mark.parametrize("column", ["open", "high", "low", "close", "adj_close"])
def test_a_negative_price_is_refused(prices_of, vale, column):
    table = prices_of(CLOSES)
    table.loc[2, column] = -1.0
    (finding,) = quality.inspect(table, vale).refused
    assert str(finding) == "prices of zero or less: 1 (2024-01-04)"


def test_a_close_of_zero_is_refused_and_an_open_of_zero_is_emptied(prices_of, vale):
    table = prices_of(CLOSES)
    table.loc[1, "open"] = 0.0
    report = quality.inspect(table, vale)
    assert found(report) == {"open, high or low of zero": (1, "repaired")}
    assert report.table["open"].isna().tolist() == [False, True, False, False, False, False]
    table.loc[1, "close"] = 0.0
    assert quality.inspect(table, vale).refused


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_an_infinite_price_is_refused_once(prices_of, vale, value):
    table = prices_of(CLOSES)
    table.loc[2, "close"] = value
    assert [str(finding) for finding in quality.inspect(table, vale).refused] == ["infinite prices: 1 (2024-01-04)"]


def test_a_missing_session_is_warned_about(prices_of, vale):
    (finding,) = quality.inspect(prices_of(CLOSES).drop(index=2), vale).findings
    assert (str(finding), finding.verdict) == ("sessions missing: 1 (2024-01-04)", "warned")


def test_the_symbols_own_calendar_says_which_sessions_are_missing(prices_of):
    independence_day = prices_of([10.0, 11.0, 12.0], start="2024-07-03")
    report = quality.inspect(independence_day, Symbol.parse("SP500"))
    assert found(report) == {"rows on days without a session": (1, "warned")}


def test_a_row_on_a_sunday_is_warned_about(prices_of, vale):
    table = prices_of(CLOSES)
    sunday = table.iloc[[3]].assign(date=pd.Timestamp("2024-01-07"))
    report = quality.inspect(pd.concat([table, sunday]).sort_values("date"), vale)
    assert found(report) == {"rows on days without a session": (1, "warned")}


def test_a_daily_move_over_a_quarter_is_warned_about(prices_of, vale):
    report = quality.inspect(prices_of([10.0, 12.4, 9.4, 5.0]), vale)
    assert found(report) == {"daily moves over 25%": (1, "warned")}


def test_five_identical_closes_are_stale_and_four_are_not(prices_of, vale):
    assert quality.inspect(prices_of([10.0, 11.0, 11.0, 11.0, 11.0, 10.0]), vale).findings == ()
    (finding,) = quality.inspect(prices_of([10.0, 11.0, 11.0, 11.0, 11.0, 11.0]), vale).findings
    assert str(finding) == "runs of 5 or more identical closes: 1 (2024-01-03)"


def test_a_day_in_the_future_is_refused(prices_of, vale):
    report = quality.inspect(prices_of(CLOSES), vale, today=date(2024, 1, 8))
    assert [str(finding) for finding in report.refused] == ["dates in the future: 1 (2024-01-09)"]


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_an_absurd_year_is_refused_without_asking_the_calendar(prices_of, vale, year):
    table = prices_of(CLOSES).astype({"date": "datetime64[s]"})
    table.loc[0, "date"] = pd.Timestamp(f"{year}-01-01")
    assert "dates" in quality.inspect(table, vale).refused[0].what


def test_a_table_whose_rows_are_all_empty_is_refused(prices_of, vale):
    assert [finding.what for finding in quality.inspect(prices_of([None, None]), vale).refused] == [
        "no row with a price"
    ]


def test_every_defect_is_found_in_one_pass_and_every_refused_one_is_in_the_sentence(prices_of, vale):
    table = prices_of([10.0, 10.0, 10.0, 10.0, 10.0, 14.0, None, 14.5, 14.0])
    table.loc[7, "close"] = -14.5
    table.loc[8, "open"] = float("inf")
    table = pd.concat([table, table.iloc[[0]].assign(close=10.5), table.iloc[[1]]])
    report = quality.inspect(table, vale)
    assert len(report.findings) >= 7
    with pytest.raises(BadPrices) as refusal:
        report.usable("source=csv", "Correct the file.")
    assert str(refusal.value) == (
        "VALE3: source=csv cannot be used: infinite prices: 1 (2024-01-12); prices of zero or less: 1 (2024-01-11); "
        "dates with two different closes: 1 (2024-01-02). Correct the file."
    )


def test_inspecting_leaves_the_table_alone(prices_of, vale):
    table = prices_of([10.0, None, 11.0]).iloc[::-1]
    before = table.copy()
    quality.inspect(table, vale)
    pd.testing.assert_frame_equal(table, before)


def test_only_the_first_dates_are_shown(prices_of, vale):
    (finding,) = quality.inspect(prices_of(CLOSES * 4).iloc[[0, -1]], vale).findings
    assert str(finding).endswith("2024-01-09, …)")
    assert finding.count == 22
