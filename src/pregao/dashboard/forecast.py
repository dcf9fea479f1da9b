"""Forecast: the next sessions of a stock, or of pasted or uploaded closes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import streamlit as st

from pregao.dashboard import charts, refusals, tables
from pregao.dashboard.language import choose, day, language, number, say
from pregao.dashboard.refusals import guarded
from pregao.dashboard.state import cached, configuration, forecast_writer
from pregao.dashboard.stocks import choose_stock
from pregao.errors import InvalidCloses
from pregao.forecasting.compose import Forecast, forecast_closes, forecast_stock
from pregao.forecasting.writer import ForecastWriter
from pregao.models.forecaster import MOST_CLOSES
from pregao.prices.brazilian import as_source_csv, bare_closes, closes_in, has_dates
from pregao.prices.symbols import SHARED, Symbol

RECENT = 60
"""Sessions shown before the forecast."""

EXAMPLE = "54,1 53,9 54,4 54,0 53,2 53,5 52,8 53,1 53,9 54,6 54,2 55,0 55,3 54,9 55,6 55,1 54,8 55,4 55,9 55,5"


@dataclass(frozen=True)
class Answer:
    """A forecast and the closes before it: columns `date close`, or `close` alone."""

    forecast: Forecast
    past: pd.DataFrame


def main() -> None:
    """Show the page."""
    st.title(say("forecast.title"))
    st.caption(say("forecast.about"))
    symbol = choose_stock()
    origin = choose("closes_from", ["stock", "pasted", "uploaded"], "stock", key="origin")
    with guarded():
        answer = _answer(symbol, origin)
        if answer is not None:
            _show(answer)


def _answer(symbol: Symbol, origin: str) -> Answer | None:
    if origin == "stock":
        source = configuration().source
        with st.spinner(say("forecast.wait")):
            return cached(
                "forecast", lambda: of_source(symbol, source.name, source.path, forecast_writer()), symbol.ticker
            )
    if origin == "pasted":
        text = st.text_area(say("pasted"), placeholder=EXAMPLE, help=say("pasted.help"), key="pasted")
        pressed = st.button(say("forecast.do"), type="primary", key="do")
        if not text.strip():
            st.info(say("pasted.nothing" if pressed else "pasted.empty"), icon=":material/info:")
            return None
        return of_closes(symbol, closes_in(text))
    file = st.file_uploader(say("uploaded"), type=["csv", "txt"], help=say("uploaded.help"), key="uploaded")
    if file is None:
        st.info(say("uploaded.empty"), icon=":material/info:")
        return None
    with st.spinner(say("forecast.wait")):
        return of_upload(symbol, file.getvalue())


def of_source(symbol: Symbol, source: str, path: Path | None, writer: ForecastWriter | None) -> Answer:
    """Forecast from a stock's latest prices; arguments and errors of `forecast_stock`."""
    forecast = forecast_stock(symbol.ticker, source, path, writer)
    assert forecast.prices is not None
    return Answer(forecast, forecast.prices.closes.tail(RECENT))


def of_closes(symbol: Symbol, closes: Sequence[float]) -> Answer:
    """Forecast from given closes; errors of `forecast_closes`."""
    source = configuration().source
    return Answer(
        forecast_closes(closes, symbol.ticker, source.name, source.path), pd.DataFrame({"close": closes[-RECENT:]})
    )


def of_upload(symbol: Symbol, data: bytes) -> Answer:
    """Forecast from a csv file with dates, or of closes alone, in English or Brazilian format.

    Raises:
        InvalidCloses: too many lines, or no column of closes.
        PregaoError: the file cannot be read, or has too few closes.
    """
    lines = data.count(b"\n")
    if lines > MOST_CLOSES + 1:
        raise InvalidCloses(
            f"The file has {lines:,} lines; at most {MOST_CLOSES:,} closes are read. Remove the oldest: a forecast "
            "uses the last few hundred at most."
        )
    readable = as_source_csv(data)
    if not has_dates(readable):
        return of_closes(symbol, bare_closes(readable))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "upload.csv"
        file.write_bytes(readable)
        return of_source(symbol, "csv", file, None)  # not logged: these may not be the stock's prices


def _show(answer: Answer) -> None:
    forecast, unit = answer.forecast, answer.forecast.symbol.currency
    _heading(answer)
    dated = forecast.as_of is not None
    future = forecast.table.assign(at=pd.to_datetime(forecast.table["date"]) if dated else forecast.table["step"])
    at = answer.past["date"] if dated else np.arange(1 - len(answer.past), 1)
    past = pd.DataFrame({"at": at, "close": answer.past["close"]})
    st.altair_chart(charts.forecast(past, future.drop(columns=["date", "step"]), unit, dated), key="chart")
    _table(forecast)


def _heading(answer: Answer) -> None:
    forecast = answer.forecast
    first, last, last_close = forecast.rows[0], forecast.rows[-1], answer.past["close"].iloc[-1]
    columns = st.columns(3)
    unit = forecast.symbol.currency.replace("$", "\\$")
    columns[0].metric(f"{say('last_close')}, {unit}", number(last_close))
    for column, row in zip(columns[1:], (first, last), strict=True):
        change = round(100 * (row["close"] / last_close - 1), 2)
        name = say("next_session") if row["step"] == 1 else say("in_sessions", step=row["step"])
        column.metric(
            f"{name}, {unit}",
            number(row["close"]),
            f"{number(change, 2, sign=True)} %",
            delta_color="normal" if change else "off",
        )
        column.caption(say("band", lower=number(row["lower_90"]), upper=number(row["upper_90"])))
    served, card = forecast.served, forecast.served.model.card
    model = say("model", stock=served.stock, version=served.version, day=day(date.fromisoformat(card.trained_at[:10])))
    since = say("after", day=day(forecast.as_of)) if forecast.as_of else say("after_given")
    skill = card.metrics.get("skill_mape")
    gain = "" if skill is None else say("model.skill", skill=number(skill, 2, sign=True))
    st.caption(f"{since} {model} {gain}")
    if forecast.stale and forecast.as_of:
        st.warning(say("stale", day=day(forecast.as_of)), icon=":material/history:")
    if forecast.closes is not None:
        st.caption(say("closes.history" if forecast.closes.history else "closes.alone", used=forecast.closes.used))
    if forecast.market is not None and forecast.market.sessions_old:
        key = "market.old" if forecast.market.used else "market.unused"
        st.caption(say(key, day=day(forecast.market.as_of), sessions=forecast.market.sessions_old))
    if forecast.recorded is False:
        st.warning(say("forecast.not_recorded"), icon=":material/history:")
    if served.stock == SHARED:
        st.caption(say("shared"))
    if forecast.drift is not None:
        st.caption(say("drift", score=number(forecast.drift.score)), help=say("drift.help"))
        if forecast.drift.warning:
            refusals.show("drift", forecast.drift.warning)


def _table(forecast: Forecast) -> None:
    table = forecast.table
    if forecast.as_of is None:
        table = shown = table.drop(columns="date")
    else:
        shown = table.assign(date=table["date"].map(day))
    tables.show(shown, key="forecast table")
    # Excel reads the separators of its language only
    separator, decimal = (";", ",") if language() == "pt" else (",", ".")
    tables.download(table, f"{forecast.symbol}-{forecast.as_of or 'forecast'}", sep=separator, decimal=decimal)


main()
