import io

import numpy as np
import pandas as pd
import pytest

from pregao.dashboard import state
from pregao.dashboard.sentences import SENTENCES, SUMMARIES
from pregao.data.market import OLDEST, Market
from pregao.forecasting.compose import forecast_closes, forecast_stock
from pregao.models.card import MARKET, ModelCard
from pregao.models.forecaster import MOST_CLOSES
from pregao.tracking import registry
from tests.conftest import random_walk, with_ranges
from tests.dashboard.conftest import chart_data, metrics, text_of
from tests.forecasting.conftest import count
from tests.forecasting.test_market import write_panel

WALK = random_walk(60).round({"close": 2})
CLOSES = WALK["close"].tolist()[-20:]
ENGLISH = WALK.iloc[:-1].to_csv(index=False).encode()


def in_portuguese(value):
    return f"{value:.2f}".replace(".", ",")


def brazilian(table):
    lines = [f"{row.date:%d/%m/%Y};{in_portuguese(row.close)}" for row in table.itertuples()]
    return ("Data;Fechamento\r\n" + "\r\n".join(lines) + "\r\n").encode()


def closes_of(app):
    return app.dataframe[0].value["close"].tolist()


def test_the_page_shows_the_forecast_of_the_package_for_a_stock(open_page, log, stocks):
    app = open_page("forecast")
    expected = forecast_stock("VALE3", "csv", stocks)
    first, last_close = expected.rows[0]["close"], pd.read_csv(stocks / "VALE3.csv")["close"].iloc[-1]
    assert metrics(app)["Next session, R\\$"] == f"{first:,.2f}"
    changes = [f"{100 * (row['close'] / last_close - 1):+z.2f} %" for row in (expected.rows[0], expected.rows[-1])]
    assert [metric.delta for metric in app.metric[1:]] == changes != ["+0.00 %"] * 2
    assert closes_of(app) == expected.table["close"].tolist()
    assert app.dataframe[0].value["date"].iloc[0] == expected.rows[0]["date"].isoformat()
    assert "After the close of 2024-12-30. Model VALE3" in text_of(app)
    bands, recent = chart_data(app)
    assert set(bands.iloc[0].drop("at")) == {last_close}
    assert bands["lower_90"].tolist()[1:] == expected.table["lower_90"].tolist()
    assert len(recent) == 60


def test_a_newly_served_version_replaces_the_cached_forecast(open_page, log, vale3):
    served, app = registry.champion(vale3).version, open_page("forecast")
    other = 3 - served
    assert f"version {served}," in text_of(app)
    registry.set_champion(vale3, other)
    assert f"version {other}," in text_of(app.run())
    registry.set_champion(vale3, served)


def test_a_forecast_is_logged_once_or_shown_with_a_warning(open_page, log, monkeypatch):
    for _ in range(2):
        assert SENTENCES["forecast.not_recorded"][1] not in text_of(open_page("forecast"))
    assert count(log) == 1
    monkeypatch.setenv("PREGAO_FORECASTS_URI", "postgresql://unknown@127.0.0.1:1/nothing")
    app = open_page("forecast")
    assert len(closes_of(app)) == 10
    assert SENTENCES["forecast.not_recorded"][1] in text_of(app)


def test_drift_of_the_stock_is_a_warning_in_both_languages(open_page, log, stocks, tmp_path):
    table = pd.read_csv(stocks / "VALE3.csv")[["date", "close"]]
    wild = table["close"].where(table.index < 340, table["close"] * (1 + 0.2 * (table.index % 2)))
    table.assign(close=wild).to_csv(tmp_path / "VALE3.csv", index=False)
    warning = forecast_stock("VALE3", "csv", tmp_path).drift.warning
    for language, expected in ("en", warning), ("pt", SUMMARIES["drift"]):
        assert expected in text_of(open_page("forecast", folder=tmp_path, language=language))


def test_pasted_closes_are_forecast_or_refused(open_page, with_runs, stocks):
    app = open_page("forecast", language="pt")
    app.segmented_control(key="origin").set_value("pasted").run()
    assert SENTENCES["pasted.empty"][0] in text_of(app)
    for text in ("54.1 53.9", " ".join(["54.1"] * 19 + ["-1"])):
        app.text_area(key="pasted").set_value(text).run()
        assert SUMMARIES["InvalidCloses"] in text_of(app)
        assert not app.dataframe
    app.text_area(key="pasted").set_value(" ".join(map(in_portuguese, CLOSES))).run()
    assert metrics(app)["Último fechamento, R\\$"] == in_portuguese(CLOSES[-1])
    assert closes_of(app) == forecast_closes(CLOSES, "VALE3", "csv", stocks).table["close"].tolist()
    assert SENTENCES["closes.history"][0] in text_of(app)
    assert "date" not in app.dataframe[0].value


UPLOADS = {
    "Brazilian": (brazilian(WALK), "02/01/2025"),
    "a close is missing": (WALK.to_csv(index=False).replace(f",{WALK['close'][30]}\n", ",\n").encode(), "02/01/2025"),
    "too many": (b"close\n" + b"54.1\n" * (MOST_CLOSES + 1), "InvalidCloses"),
    "NaN": (b"close\n" + b"nan\n" * 25, "InvalidCloses"),
    "not a text": (bytes(range(256)) * 40, "InvalidCloses"),
    "too few": (brazilian(WALK.tail(5)), "InvalidCloses"),
    "not a number": (ENGLISH + b"2025-01-02,abc\n", "BadPrices"),
}


def test_uploaded_files_are_forecast_or_refused_and_never_logged(open_page, log):
    app = open_page("forecast", language="pt")
    app.segmented_control(key="origin").set_value("uploaded").run()
    for name, (data, result) in UPLOADS.items():
        app.file_uploader(key="uploaded").set_value((f"{name}.csv", data, "text/csv")).run()
        if result in SUMMARIES:
            assert SUMMARIES[result] in text_of(app), name
            assert "/tmp" not in text_of(app)
            assert not app.dataframe
        else:
            assert metrics(app)["Último fechamento, R\\$"] == in_portuguese(CLOSES[-1]), name
            assert app.dataframe[0].value.iloc[0].get("date") == result
    assert count(log) == 1  # of the page before the upload


def test_a_download_has_the_number_format_of_excel_in_the_language(open_page, with_runs, monkeypatch):
    kept = {}
    monkeypatch.setattr(state.st, "download_button", lambda _, data, name, *__, **___: kept.update({name: data}))
    for language, separators in (("pt", {"sep": ";", "decimal": ","}), ("en", {})):
        app = open_page("forecast", language=language)
        table = pd.read_csv(io.StringIO(kept["VALE3-2024-12-30.csv"]), **separators)
        assert table["close"].tolist() == pytest.approx(closes_of(app), abs=1e-5)


@pytest.mark.parametrize(("sessions", "key"), [(3, "market.old"), (OLDEST + 1, "market.unused")])
def test_old_market_measures_are_a_sentence_in_both_languages(open_page, shared, tmp_path, sessions, key):
    with_ranges(random_walk(seed=9)).to_csv(tmp_path / "WEGE3.csv", index=False)
    dates = random_walk()["date"].to_numpy("datetime64[ns]")[:-sessions]
    Market(dates, np.full(len(dates), 1e-3)).save(shared / MARKET)
    ModelCard.load(shared).save(shared)
    for language, place, last in ("pt", 0, f"{pd.Timestamp(dates[-1]):%d/%m/%Y}"), ("en", 1, str(dates[-1])[:10]):
        app = open_page("forecast", stock="WEGE3", folder=tmp_path, language=language)
        assert SENTENCES[key][place].format(day=last, sessions=sessions) in text_of(app)
    write_panel(tmp_path)
    app = open_page("forecast", stock="WEGE3", folder=tmp_path)
    assert "market measures" not in text_of(app)
