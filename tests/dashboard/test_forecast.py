import io

import pandas as pd
import pytest

from pregao.dashboard import state
from pregao.forecasting.compose import forecast_closes, forecast_stock
from pregao.models.trained import MOST_CLOSES
from tests.conftest import random_walk
from tests.dashboard.conftest import metrics, text_of
from tests.forecasting.conftest import count

CLOSES = [54.1, 53.9, 54.4, 54.0, 53.2, 53.5, 52.8, 53.1, 53.9, 54.6, 54.2, 55.0, 55.3, 54.9, 55.6, 55.1, 54.8, 55.4]
CLOSES += [55.9, 55.5]


def brazilian(table):
    lines = [f"{row.date:%d/%m/%Y};{row.close:.2f}".replace(".", ",") for row in table.itertuples()]
    return "Data;Fechamento\r\n" + "\r\n".join(lines) + "\r\n"


def plain(table):
    return table.to_csv(index=False)


WALK = random_walk(60).round({"close": 2})


def uploaded(open_page, data, language="en"):
    app = open_page("forecast", language=language)
    app.segmented_control(key="origin").set_value("uploaded").run()
    app.file_uploader(key="uploaded").set_value(("prices.csv", data, "text/csv")).run()
    return app


def table_of(app):
    return app.dataframe[0].value


def test_the_forecast_of_a_stock_is_that_of_the_package(open_page, with_runs, stocks):
    app = open_page("forecast")
    expected = forecast_stock("VALE3", "csv", stocks)
    assert metrics(app)["Next session, R\\$"] == f"{expected.rows[0]['close']:,.2f}"
    assert table_of(app)["close"].tolist() == expected.table["close"].tolist()
    assert table_of(app)["date"].iloc[0] == expected.rows[0]["date"].isoformat()
    assert "After the close of 2024-12-30. Model VALE3" in text_of(app)
    assert len(app.get("download_button")) == 1


def test_the_forecast_of_a_stock_is_kept_and_those_of_given_closes_are_not(open_page, log):
    for _ in range(2):
        open_page("forecast")
    assert "2024-12-27" in text_of(uploaded(open_page, plain(WALK.iloc[:-1]).encode()))
    assert count(log) == 1


def test_a_forecast_that_the_log_does_not_take_is_shown_with_a_warning(open_page, log, monkeypatch):
    sentence = "this forecast is not recorded yet"
    assert sentence not in text_of(open_page("forecast"))
    monkeypatch.setenv("PREGAO_FORECASTS_URI", "postgresql://nobody@127.0.0.1:1/nothing")
    state.st.cache_resource.clear()
    app = open_page("forecast")
    assert len(table_of(app)) == 10
    assert sentence in text_of(app)
    assert "ainda não foi gravada" in text_of(open_page("forecast", language="pt"))


def test_drift_is_shown_and_a_warning_where_the_stock_has_changed(open_page, log, stocks, tmp_path):
    expected = forecast_stock("VALE3", "csv", stocks).drift
    assert f"Drift since the training: {expected.score:.2f}." in text_of(open_page("forecast"))
    table = pd.read_csv(stocks / "VALE3.csv")[["date", "close"]]
    wild = table["close"].where(table.index < 340, table["close"] * (1 + 0.2 * (table.index % 2)))
    table.assign(close=wild).to_csv(tmp_path / "VALE3.csv", index=False)
    source = ("source=csv", f"source.path={tmp_path}")
    warning = forecast_stock("VALE3", "csv", tmp_path).drift.warning
    assert warning in text_of(open_page("forecast", *source)).replace("\\", "")
    in_portuguese = text_of(open_page("forecast", *source, language="pt")).replace("\\", "")
    assert "A ação se comporta de modo diferente do visto no treino" in in_portuguese
    assert warning in in_portuguese


def test_without_any_model_the_page_says_how_to_get_one(open_page):
    assert "no trained model" in text_of(open_page("forecast"))
    assert "Esta ação ainda não tem modelo." in text_of(open_page("forecast", language="pt"))


def test_pasted_closes_are_forecast(open_page, with_runs):
    app = open_page("forecast", language="pt")
    app.segmented_control(key="origin").set_value("pasted").run()
    assert "Cole pelo menos 20 fechamentos" in text_of(app)
    app.text_area(key="pasted").set_value(" ".join(f"{close:.2f}".replace(".", ",") for close in CLOSES)).run()
    assert metrics(app)["Último fechamento, R\\$"] == "55,50"
    assert table_of(app)["close"].tolist() == forecast_closes(CLOSES, "VALE3").table["close"].tolist()
    assert "date" not in table_of(app)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("54.1 53.9", "2 were given"), ("54.1 abc", "'abc'"), (" ".join(["54.1"] * 19 + ["-1"]), "number 20 of 20")],
)
def test_pasted_closes_that_are_none_are_a_sentence(open_page, with_runs, text, sentence):
    app = open_page("forecast")
    app.segmented_control(key="origin").set_value("pasted").run()
    app.text_area(key="pasted").set_value(text).run()
    assert sentence in text_of(app)
    assert not app.dataframe


@pytest.mark.parametrize(
    "data",
    [
        plain(WALK).encode(),
        brazilian(WALK).encode(),
        ("\ufeff" + brazilian(WALK)).encode(),
        brazilian(WALK.assign()).replace("Fechamento", "Último").encode("cp1252"),
        plain(WALK.iloc[::-1]).encode(),
    ],
    ids=["plain", "Brazilian Excel", "with a byte order mark", "not UTF-8", "newest first"],
)
def test_an_uploaded_file_is_read_right(open_page, with_runs, data):
    app = uploaded(open_page, data)
    assert metrics(app)["Last close, R\\$"] == f"{WALK['close'].iloc[-1]:,.2f}"
    assert table_of(app)["date"].iloc[0] == "2025-01-02"


def test_an_uploaded_column_of_closes_alone_is_forecast(open_page, with_runs):
    data = "fechamento\n" + "\n".join(f"{close:.2f}".replace(".", ",") for close in CLOSES)
    app = uploaded(open_page, data.replace("fechamento", "fechamento;").replace("\n", ";\n").encode())
    assert table_of(app)["close"].tolist() == forecast_closes(CLOSES, "VALE3").table["close"].tolist()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "no column close"),
        (b"day,price\n2024-01-02,1\n", "no column close (found: day, price)"),
        (b"date,price\n2024-01-02,1\n", "no column close"),
        (plain(WALK).replace("50.", "x", 1).encode() + b"2025-01-02,abc\n", "like 61.5"),
        (plain(WALK.tail(5)).encode(), "5 closes up to 2024-12-30, and 20 are needed"),
        (brazilian(WALK.tail(5)).encode(), "5 closes up to 2024-12-30, and 20 are needed"),
        (b"close\n" + b"nan\n" * 25, "number 1 of 25 is nan"),
        (plain(WALK.assign(close=float("nan"))).encode(), "no row with a price"),
        (b"date,close\n" + b"2024-01-02,61.5\n" * 1_000_000, "1,000,001 lines; at most 10,000"),
        (plain(WALK).encode("utf-16"), "no column close"),
        (bytes(range(256)) * 40, "no column close"),
    ],
    ids=[
        *("empty", "wrong header", "wrong column", "text", "five rows", "five Brazilian rows", "NaN", "NaN with dates"),
        *("a million rows", "UTF-16", "no text"),
    ],
)
def test_an_uploaded_file_that_cannot_be_read_is_a_sentence(open_page, with_runs, data, sentence):
    app = uploaded(open_page, data)
    shown = text_of(app).replace("\\", "")
    assert sentence in shown
    assert "error in Pregão" not in shown
    assert "/tmp" not in shown
    assert not app.dataframe


def test_a_missing_close_among_good_ones_is_left_out(open_page, with_runs):
    with_a_hole = WALK.assign(close=WALK["close"].where(WALK.index != 30))
    app = uploaded(open_page, plain(with_a_hole).encode())
    assert metrics(app)["Last close, R\\$"] == f"{WALK['close'].iloc[-1]:,.2f}"


def test_a_portuguese_download_is_one_that_excel_reads(open_page, with_runs, monkeypatch):
    kept = {}
    monkeypatch.setattr(state.st, "download_button", lambda _, data, name, *__, **___: kept.update({name: data}))
    for language, signs in (("pt", {"sep": ";", "decimal": ","}), ("en", {})):
        app = open_page("forecast", language=language)
        table = pd.read_csv(io.StringIO(kept["VALE3-2024-12-30.csv"]), **signs)
        assert table["close"].tolist() == pytest.approx(table_of(app)["close"].tolist(), abs=1e-5)


def test_as_many_rows_as_a_model_takes_are_read(open_page, with_runs):
    data = "close\n" + "\n".join(["54.1", "54.2"] * (MOST_CLOSES // 2))
    assert metrics(uploaded(open_page, data.encode()))["Last close, R\\$"] == "54.20"
