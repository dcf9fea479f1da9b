import pytest

from pregao.dashboard import state
from tests.dashboard.conftest import metrics, text_of

CHARTS = "vega_lite_chart"


def test_the_first_page_shows_a_stock_and_where_its_prices_are_from(open_page):
    app = open_page()
    shown = metrics(app)
    assert shown["Sessions"] == "400"
    assert shown["Source"] == "CSV file"
    assert shown["Up to"] == "2024-12-30"
    assert "parts of a training run" in text_of(app)
    assert len(app.get(CHARTS)) == 2


def test_every_range_is_drawn_both_ways(open_page):
    app = open_page()
    for drawn in ("closes", "candles"):
        app.segmented_control(key="style").set_value(drawn)
        for chosen in ("month", "half", "five", "all", "dates"):
            app.segmented_control(key="range").set_value(chosen).run()
            assert "error in Pregão" not in text_of(app)
            assert len(app.get(CHARTS)) == 2


def test_a_stock_of_closes_alone_is_drawn_as_a_line(open_page):
    app = open_page(stock="PETR4")
    app.segmented_control(key="style").set_value("candles").run()
    assert "lack open, high or low" in text_of(app)
    assert len(app.get(CHARTS)) == 1


def test_a_history_too_short_for_a_training_has_no_parts(open_page):
    app = open_page(stock="SHRT3")
    assert metrics(app)["Sessions"] == "60"
    assert "parts of a training run" not in text_of(app)


@pytest.mark.parametrize(
    ("stock", "sentence"),
    [("PETR9", "knows no such stock"), ("x; DROP TABLE", "is not a ticker"), ("SHARED", "many stocks")],
)
def test_a_stock_that_nobody_knows_is_a_sentence(open_page, stock, sentence):
    app = open_page(stock=stock)
    assert sentence in text_of(app)
    assert "Traceback" not in text_of(app)


def test_a_refusal_in_portuguese_begins_in_portuguese_and_names_no_folder(open_page, stocks):
    app = open_page(language="pt", stock="PETR9")
    assert app.warning[0].value.startswith("A fonte não conhece esta ação.")
    assert "PETR9.csv" in text_of(app)
    assert str(stocks) not in text_of(app)


def test_without_a_network_the_page_says_what_works(open_page, monkeypatch):
    def down(*_):
        raise ConnectionError("no network")

    monkeypatch.setattr("pregao.prices.sources.yahoo._ask", down)
    monkeypatch.setattr("pregao.prices.sources.yahoo.YahooSource._pauses", lambda *_: iter((0,)))
    app = open_page("prices", "source=auto")
    assert "no prices. Tried" in text_of(app).replace("\\", "")
    app.selectbox(key="stock").set_value("SP500").run()
    assert metrics(app)["Source"] == "sample"
    assert metrics(app)["Last close, US\\$"] == "2,506.85"


def test_the_chosen_stock_stays_when_another_page_is_opened(open_page):
    app = open_page()
    app.selectbox(key="stock").set_value("PETR4").run()
    for page in ("forecast", "experiments", "train"):
        app.switch_page(f"{page}.py").run()
    assert app.selectbox(key="stock").value == "PETR4"
    assert str(app.date_input[0].value) == "2020-01-01"
    app.selectbox(key="stock").set_value("SP500").run()
    assert str(app.date_input[0].value) == "2009-01-01"


def test_a_source_that_refused_is_not_asked_again_at_every_click(open_page, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "pregao.prices.sources.yahoo.YahooSource.history",
        lambda self, symbol: asked.append(symbol) or (_ for _ in ()).throw(ConnectionError("no network")),
    )
    app = open_page("prices", "source=yahoo")
    app.toggle(key="adjusted").set_value(True).run()
    assert len(asked) == 1


def test_a_mistake_of_ours_is_a_sentence_and_no_trace(open_page, monkeypatch):
    monkeypatch.setattr(state.Downloader, "prices", lambda *_: 1 / 0)
    app = open_page()
    assert "error in Pregão" in text_of(app)
    assert "ZeroDivisionError" not in text_of(app)


def test_eleven_years_are_drawn_as_candles(open_page, real_prices):
    app = open_page("prices", "source=csv", f"source.path={real_prices}")
    app.segmented_control(key="range").set_value("all")
    app.segmented_control(key="style").set_value("candles").run()
    assert int(metrics(app)["Sessions"].replace(",", "")) > 2600
    assert len(app.get(CHARTS)) == 2
