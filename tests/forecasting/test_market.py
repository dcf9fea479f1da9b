import json
import os
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from pregao.cli.terminal import show_forecast
from pregao.data.market import OLDEST, Market
from pregao.data.variance import columns, daily_variance
from pregao.forecasting import market
from pregao.forecasting.compose import forecast_closes, forecast_stock, last_window
from pregao.forecasting.market import market_age, panel_folder, with_stored_prices
from pregao.models.card import CARD, MARKET, ModelCard
from pregao.models.trained import TrainedModel
from pregao.prices.calendar import last_finished_session
from pregao.prices.sources.csv import read_table
from pregao.prices.sources.yahoo import YahooSource
from pregao.settings import settings
from tests.conftest import random_walk, with_ranges
from tests.models.test_trained import trained_model

PANEL = ("PETR4", "ITUB4")
LAST = "2024-12-30"
BAND = ["lower_90", "upper_90"]


def table_of(seed, n=400, last=LAST):
    return with_ranges(random_walk(n, seed=seed, last=last))


def write_panel(folder, last=LAST, stocks=PANEL):
    for seed, stock in enumerate(stocks, start=1):
        table_of(seed, last=last).to_csv(folder / f"{stock}.csv", index=False)


def bands(forecast):
    return forecast.table[BAND].to_numpy().tolist()


@pytest.fixture
def stock(tmp_path):
    """A folder with a stock outside the panel."""
    table_of(9).to_csv(tmp_path / "WEGE3.csv", index=False)
    return tmp_path


def ends_before(shared, sessions):
    """The market of the shipped SHARED ends this number of sessions before the last close."""
    dates = random_walk(300)["date"].to_numpy("datetime64[ns]")
    variances = np.full(300 - sessions, 1e-3)
    Market(dates[: 300 - sessions], variances).save(shared / MARKET)
    ModelCard.load(shared).save(shared)


def test_newer_prices_of_the_panel_extend_the_market_and_change_the_forecast(shared, stock):
    before = forecast_stock("WEGE3", "csv", stock)
    assert (before.market.as_of, before.market.used) == (date(2024, 6, 28), False)
    write_panel(stock)
    after = forecast_stock("WEGE3", "csv", stock)
    assert after.as_json()["market"] == {"as_of": LAST, "sessions_old": 0, "stocks": 2}
    assert bands(after) != bands(before)
    assert (after.market.note, before.as_json()["market"]["stocks"]) == (None, 2)


def test_the_market_ages_with_the_panel_of_the_cache_and_the_answer_says_so(shared, stock, capsys):
    ends_before(shared, 3)
    forecast = forecast_stock("WEGE3", "csv", stock)
    last = random_walk(4)["date"].iloc[0].date()
    assert forecast.as_json()["market"] == {"as_of": str(last), "sessions_old": 3, "stocks": 2}
    note = f"The market measures end on {last}, 3 sessions before the last close."
    show_forecast(forecast, "table")
    assert note in " ".join(capsys.readouterr().out.split())
    show_forecast(forecast, "json")
    assert json.loads(capsys.readouterr().out)["market"]["sessions_old"] == 3
    write_panel(stock, last=str(last))  # as old as the model's
    assert bands(forecast_stock("WEGE3", "csv", stock)) == bands(forecast)


@pytest.mark.parametrize(("sessions", "used"), [(OLDEST, True), (OLDEST + 1, False)])
def test_a_market_that_is_too_old_is_not_used(shared, stock, sessions, used):
    ends_before(shared, sessions)
    found = forecast_stock("WEGE3", "csv", stock)
    alone = replace(TrainedModel.load(shared), market=None)
    measures = alone.volatilities(columns(table_of(9)))[-1]
    [quantiles] = alone.quantiles(table_of(9)[["close"]].to_numpy()[-20:].T, measures[None], ["WEGE3"])
    assert (found.table["upper_90"].to_numpy() == pytest.approx(quantiles[:, -1], rel=1e-5)) != used
    assert found.market.used == used
    assert ("too old and are not used" in found.market.note) != used


def test_forecasting_downloads_nothing_for_the_panel(shared, home, monkeypatch):
    settings().data.mkdir()
    asked = []
    monkeypatch.setattr(YahooSource, "history", lambda source, symbol: asked.append(symbol))
    last = str(last_finished_session("BVMF"))
    table_of(9, last=last).to_csv(settings().data / "WEGE3.csv", index=False)
    assert not forecast_stock("WEGE3").market.used
    write_panel(settings().data, last=last)
    assert forecast_stock("WEGE3").market.sessions_old == 0
    assert asked == []


def test_closes_have_market_measures_only_with_the_history_of_their_stock(shared, stock):
    closes = table_of(9)["close"].tolist()
    write_panel(stock)
    assert forecast_closes(closes, "WEGE3").as_json()["market"] is None
    assert forecast_closes(closes, "WEGE3", "csv", stock).market.sessions_old == 0


def test_days_after_the_stocks_last_close_do_not_change_its_forecast(shared, stock):
    write_panel(stock)
    expected = forecast_stock("WEGE3", "csv", stock)
    for name in PANEL:
        table = pd.read_csv(stock / f"{name}.csv")
        later = table.tail(1).assign(date="2025-01-02", high=lambda row: 2 * row["high"])
        pd.concat([table, later]).to_csv(stock / f"{name}.csv", index=False)
    found = forecast_stock("WEGE3", "csv", stock)
    assert (bands(found), found.market) == (bands(expected), expected.market)


@pytest.fixture
def model():
    """A model with a market of four stocks, which ends before the last ten sessions."""
    dates = random_walk(60)["date"].to_numpy("datetime64[ns]")[:50]
    stocks = ("PETR4", "ITUB4", "VALE3", "ABEV3")
    return replace(trained_model(), market=Market(dates, np.full(50, 1e-3), stocks))


def test_a_day_counts_once_half_of_the_panel_has_traded(model, tmp_path):
    write_panel(tmp_path, stocks=["PETR4"])
    assert with_stored_prices(model, tmp_path) is model
    write_panel(tmp_path)
    found = with_stored_prices(model, tmp_path).market
    expected = np.mean([daily_variance(columns(table_of(seed)))[-10:] for seed in (1, 2)], axis=0)
    assert found.variances[-10:] == pytest.approx(expected)
    assert found.dates[:50].tolist() == model.market.dates.tolist()
    assert found.variances[:50].tolist() == model.market.variances.tolist()
    assert (len(found.dates), found.stocks) == (60, model.market.stocks)


def test_a_day_without_ranges_is_left_out(model, tmp_path):
    write_panel(tmp_path)
    table = pd.read_csv(tmp_path / "PETR4.csv")
    table.loc[len(table) - 4, "open"] = np.nan
    table.to_csv(tmp_path / "PETR4.csv", index=False)
    found = with_stored_prices(model, tmp_path).market
    missing = set(random_walk(60)["date"].to_numpy("datetime64[ns]")) - set(found.dates)
    assert missing == {np.datetime64(table["date"].iloc[-4])}


def test_a_stock_without_ranges_on_some_days_is_forecast_with_the_market(shared, stock):
    write_panel(stock)
    whole = forecast_stock("WEGE3", "csv", stock)
    table = table_of(9)
    table.loc[len(table) - 3 :, ["open", "high", "low"]] = np.nan
    table.to_csv(stock / "WEGE3.csv", index=False)
    found = forecast_stock("WEGE3", "csv", stock)
    alone = replace(TrainedModel.load(shared), market=None)
    assert found.market.sessions_old == 0
    assert bands(found) != bands(whole)
    assert bands(found) != pd.DataFrame(alone.rows(last_window(alone, found.symbol, table)))[BAND].to_numpy().tolist()


def test_a_file_that_cannot_be_read_or_has_no_ranges_is_left_out(model, tmp_path, caplog):
    write_panel(tmp_path)
    expected = with_stored_prices(model, tmp_path).market
    (tmp_path / "VALE3.csv").write_text("nothing here\n")
    random_walk().to_csv(tmp_path / "ABEV3.csv", index=False)
    found = with_stored_prices(model, tmp_path).market
    assert found.variances.tolist() == expected.variances.tolist()
    assert "VALE3.csv is left out of the market" in caplog.text


def test_dividends_are_not_overnight_returns(model, tmp_path):
    write_panel(tmp_path)
    expected = with_stored_prices(model, tmp_path).market
    for name in PANEL:
        table = pd.read_csv(tmp_path / f"{name}.csv")
        before = table.index < len(table) - 5  # a dividend of 10 % is paid before the last five sessions
        prices = ["open", "high", "low", "close"]
        paid = table.assign(adj_close=table["close"], **{p: table[p].where(~before, table[p] / 0.9) for p in prices})
        paid.to_csv(tmp_path / f"{name}.csv", index=False)
    found = with_stored_prices(model, tmp_path).market
    assert found.variances == pytest.approx(expected.variances, rel=1e-4)


def test_only_changed_files_are_read_again(model, tmp_path, monkeypatch):
    write_panel(tmp_path)
    read = []
    monkeypatch.setattr(market, "read_table", lambda file, stock: read.append(file.stem) or read_table(file, stock))
    for _ in range(2):
        with_stored_prices(model, tmp_path)
    assert sorted(read) == ["ITUB4", "PETR4"]
    os.utime(tmp_path / "PETR4.csv", ns=(1, 1))
    with_stored_prices(model, tmp_path)
    assert read[2:] == ["PETR4"]


@pytest.mark.parametrize(("stocks", "expected"), [(["PETR4", "ITUB4"], ("PETR4", "ITUB4")), (["VALE3"], ())])
def test_a_card_of_an_older_version_has_the_panel_of_a_shared_model_only(model, tmp_path, stocks, expected):
    replace(model, card=replace(model.card, stocks=stocks)).save(tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    del card["panel"]
    (tmp_path / CARD).write_text(json.dumps(card))
    assert TrainedModel.load(tmp_path).market.stocks == expected


def test_a_model_without_a_market_has_no_age(model, tmp_path):
    write_panel(tmp_path)
    without = replace(model, market=None)
    assert with_stored_prices(without, tmp_path) is without
    assert market_age(without, random_walk()) is None
    assert market_age(model, random_walk(60, last="2020-12-30")) is None, "the market starts later"


def test_the_panel_is_read_from_the_folder_of_the_source_or_from_the_cache(home, tmp_path):
    assert panel_folder("csv", tmp_path) == tmp_path
    assert panel_folder("csv", tmp_path / "VALE3.csv") is None
    assert panel_folder("sample", None) is None
    assert panel_folder("auto", None) == panel_folder("b3", tmp_path) == home / "data"
