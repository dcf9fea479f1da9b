"""Altair charts of tables. The colours are readable on white and on black."""

from collections.abc import Sequence
from datetime import date

import altair as alt
import numpy as np
import pandas as pd

from pregao.dashboard.language import language, name_of_forecaster, say
from pregao.evaluation.report import ERROR

ACTUAL, MODEL, NAIVE, OTHER = "#8a8f98", "#16a37a", "#e07b39", "#5b8def"
UP, DOWN = "#16a37a", "#d64550"
PARTS = {"train": "#5b8def", "validation": "#c9a227", "test": "#b05fc4"}
PALETTE = (MODEL, NAIVE, OTHER, "#b05fc4", "#c9a227", "#4fb3bf", ACTUAL)

HEIGHT = 340  # pixels
LEGEND = 26  # pixels per row of a legend
NARROW = 30  # characters per row of a legend on a narrow screen; a longer legend gets two columns
SHORT = pd.Timedelta(days=200)  # shorter time axes show days, longer ones months
LABELS = 45  # minimum pixels of the y labels, so that charts below each other are aligned

_PORTUGUESE = {
    "number": {"decimal": ",", "thousands": ".", "grouping": [3], "currency": ["R$", ""]},
    "time": {
        "dateTime": "%A, %e de %B de %Y. %X",
        "date": "%d/%m/%Y",
        "time": "%H:%M:%S",
        "periods": ["AM", "PM"],
        "days": ["domingo", "segunda", "terça", "quarta", "quinta", "sexta", "sábado"],
        "shortDays": ["dom", "seg", "ter", "qua", "qui", "sex", "sáb"],
        "months": [
            *("janeiro", "fevereiro", "março", "abril", "maio", "junho"),
            *("julho", "agosto", "setembro", "outubro", "novembro", "dezembro"),
        ],
        "shortMonths": ["jan", "fev", "mar", "abr", "mai", "jun", "jul", "ago", "set", "out", "nov", "dez"],
    },
}

Parts = dict[str, tuple[date, date]]
AnyChart = alt.Chart | alt.LayerChart | alt.FacetChart


def closes(table: pd.DataFrame, unit: str, parts: Parts) -> AnyChart:
    """Closes as a line, over the shaded parts of a training run."""
    line = (
        _base(table)
        .mark_line(color=MODEL, strokeWidth=1.5)
        .encode(y=_price("close", unit), tooltip=_price_tooltips(table))
    )
    return _finished(*_shades(parts, table), line)


def candles(table: pd.DataFrame, unit: str, parts: Parts) -> AnyChart:
    """Open, high, low and close of each session, over the shaded parts of a training run."""
    table = table.assign(rises=table["close"] >= table["open"])
    colour = alt.condition("datum.rises", alt.value(UP), alt.value(DOWN))
    width = max(1.0, min(8.0, 500 / len(table)))
    base = _base(table).encode(color=colour, tooltip=_price_tooltips(table))
    wick = base.mark_rule().encode(y=_price("low", unit), y2="high:Q")
    body = base.mark_bar(size=width).encode(y="open:Q", y2="close:Q")
    return _finished(*_shades(parts, table), wick, body)


def volume(table: pd.DataFrame) -> AnyChart:
    """Traded shares per session."""
    y = alt.Y("volume:Q", axis=alt.Axis(title=say("volume"), format="~s", tickCount=3, minExtent=LABELS))
    area = _base(table).mark_area(color=ACTUAL, opacity=0.6, interpolate="step")
    return _finished(area.encode(y=y, tooltip=[_date_tooltip(), _tooltip("volume", say("volume"), ",")]), height=110)


def against_actual(rows: pd.DataFrame, unit: str) -> AnyChart:
    """Actual closes, the forecasts of one step, and their bands."""
    base = _base(rows)
    names = {"y": say("actual"), "y_hat": say("forecast")}
    lines = rows.rename(columns=names).melt("date", list(names.values()), var_name="series")
    colour = _colours("series", list(names.values()), [ACTUAL, MODEL])
    curves = _base(lines).mark_line(strokeWidth=1.5).encode(y=_price("value", unit), color=colour)
    tooltip = [_date_tooltip(), *(_tooltip(column, title) for column, title in names.items()), *_band_tooltips()]
    points = base.mark_point(opacity=0, size=60).encode(y=_price("y_hat", unit), tooltip=tooltip)
    return _finished(*_bands(base, unit, 0.15), curves, points)


def per_step(steps: pd.DataFrame, metric: str, title: str, target: float | None = None) -> AnyChart:
    """One metric of each forecaster by step; the first forecaster is drawn on top, since many lines overlap."""
    steps = steps.assign(forecaster=[name_of_forecaster(name) for name in steps["forecaster"]])
    names = list(dict.fromkeys(steps["forecaster"]))
    reverse = pd.concat([steps[steps["forecaster"] == name] for name in reversed(names)])
    base = alt.Chart(reverse).encode(
        x=alt.X("step:O", axis=alt.Axis(title=say("steps_ahead"), labelAngle=0)),
        y=alt.Y(f"{metric}:Q", title=title, scale=alt.Scale(zero=target is None)),
        color=_colours("forecaster", names, PALETTE),
        tooltip=[
            alt.Tooltip("forecaster:N", title=say("forecaster")),
            alt.Tooltip("step:O", title=say("step")),
            _tooltip(metric, title, ".3f"),
        ],
    )
    layers = [base.mark_line(point=True, strokeWidth=2)]
    if target is not None:
        layers.append(_rule(target))
    return _finished(*layers, height=300 + LEGEND * -(-len(names) // _columns(names)))


def residuals(rows: pd.DataFrame) -> AnyChart:
    """Actual minus forecast, in percent, by date."""
    title = say("residual_percent")
    circles = _base(rows).mark_circle(color=MODEL, opacity=0.5, size=20)
    circles = circles.encode(
        y=alt.Y(f"{ERROR}:Q", title=title), tooltip=[_date_tooltip(), _tooltip(ERROR, title, "+.2f")]
    )
    return _finished(circles, _rule(0), height=260)


def histogram(rows: pd.DataFrame) -> AnyChart:
    """The histogram of the residuals, in percent."""
    counts, edges = np.histogram(rows[ERROR], bins=30)
    bars = pd.DataFrame({"begin": edges[:-1], "end": edges[1:], "count": counts})
    chart = alt.Chart(bars).mark_bar(color=MODEL, opacity=0.8)
    chart = chart.encode(
        x=alt.X("begin:Q", bin="binned", title=say("residual_percent")),
        x2="end",
        y=alt.Y("count:Q", title=say("windows")),
        tooltip=[
            _tooltip("begin", say("from"), "+.2f"),
            _tooltip("end", say("to"), "+.2f"),
            alt.Tooltip("count:Q", title=say("windows")),
        ],
    )
    return _finished(chart, height=260)


def forecast(past: pd.DataFrame, future: pd.DataFrame, unit: str, dated: bool) -> AnyChart:
    """Recent closes, continued by the forecast and its bands.

    Args:
        past: columns `at close`.
        future: columns `at close lower_80 …`; `at` continues that of `past`.
        unit: the currency.
        dated: `at` is a date; else the number of sessions from the last close.
    """
    joint = past.tail(1).assign(**{name: past["close"].iloc[-1] for name in future.columns if name != "at"})
    joined = pd.concat([joint, future], ignore_index=True)
    if dated:
        x, at = alt.X("at:T", axis=_date_axis(past["at"])), _date_tooltip("at")
    else:
        x, at = alt.X("at:Q", title=say("sessions_from_last")), alt.Tooltip("at:Q", title=say("step"))
    y, tooltip = _price("close", unit), [at, _tooltip("close", say("close"))]
    base = alt.Chart(joined).encode(x=x)
    recent = alt.Chart(past).mark_line(color=ACTUAL).encode(x=x, y=y, tooltip=tooltip)
    line = base.mark_line(color=MODEL, point={"color": MODEL, "size": 40})
    return _finished(*_bands(base, unit, 0.18), recent, line.encode(y=y, tooltip=[*tooltip, *_band_tooltips()]))


def losses(history: dict[str, list[float]]) -> AnyChart:
    """Training and validation loss by epoch."""
    names = {"history_train_loss": say("train_loss"), "history_val_loss": say("val_loss")}
    rows = [
        {"epoch": epoch, "value": value, "series": names.get(name, name)}
        for name, values in history.items()
        for epoch, value in enumerate(values, start=1)
    ]
    chart = alt.Chart(pd.DataFrame(rows)).mark_line(point=True)
    chart = chart.encode(
        x=alt.X("epoch:Q", axis=alt.Axis(title=say("epoch"), tickMinStep=1, format="d")),
        y=alt.Y("value:Q", title=say("loss"), scale=alt.Scale(zero=False)),
        color=_colours("series", list(names.values()), [MODEL, NAIVE]),
        tooltip=["series:N", "epoch:Q", alt.Tooltip("value:Q", format=".5f")],
    )
    return _finished(chart, height=260)


def _finished(*layers: alt.Chart, height: int = HEIGHT) -> AnyChart:
    chart: AnyChart = layers[0] if len(layers) == 1 else alt.layer(*layers)
    chart.height = height
    if language() == "pt":
        chart.config = alt.Config(locale=_PORTUGUESE)
    return chart


def _base(table: pd.DataFrame) -> alt.Chart:
    return alt.Chart(table).encode(x=alt.X("date:T", axis=_date_axis(table["date"])))


def _date_axis(dates: "pd.Series[pd.Timestamp]") -> alt.Axis:
    # Vega writes «mai 11», which in Portuguese means May of a year.
    if language() == "pt" and dates.iloc[-1] - dates.iloc[0] < SHORT:
        return alt.Axis(title=None, format="%d/%m", labelOverlap=True)
    return alt.Axis(title=None)


def _price(column: str, unit: str) -> alt.Y:
    return alt.Y(f"{column}:Q", scale=alt.Scale(zero=False), axis=alt.Axis(title=unit, minExtent=LABELS))


def _date_tooltip(column: str = "date") -> alt.Tooltip:
    day = "%d/%m/%Y" if language() == "pt" else "%Y-%m-%d"
    return alt.Tooltip(f"{column}:T", format=day, title=say("date"))


def _tooltip(column: str, title: str, digits: str = ".2f") -> alt.Tooltip:
    return alt.Tooltip(f"{column}:Q", format=digits, title=title)


def _band_tooltips() -> list[alt.Tooltip]:
    return [_tooltip(f"{side}_90", f"{say(side)} 90 %") for side in ("lower", "upper")]


def _bands(base: alt.Chart, unit: str, opacity: float) -> list[alt.Chart]:
    """The areas of the 90 % and the 80 % band."""
    area = base.mark_area(color=MODEL, opacity=opacity)
    return [area.encode(y=_price(f"lower_{level}", unit), y2=f"upper_{level}:Q") for level in (90, 80)]


def _price_tooltips(table: pd.DataFrame) -> list[alt.Tooltip]:
    columns = [name for name in ("open", "high", "low", "close") if table[name].notna().any()]
    return [_date_tooltip(), *(_tooltip(name, say(name)) for name in columns)]


def _shades(parts: Parts, table: pd.DataFrame) -> list[alt.Chart]:
    first, last = table["date"].iloc[0], table["date"].iloc[-1]
    rows = [
        {"part": say(name), "begin": max(pd.Timestamp(begin), first), "end": min(pd.Timestamp(end), last)}
        for name, (begin, end) in parts.items()
    ]
    rows = [row for row in rows if row["begin"] < row["end"]]
    if not rows:
        return []
    colour = _colours("part", [say(name) for name in PARTS], list(PARTS.values()))
    shades = alt.Chart(pd.DataFrame(rows)).mark_rect(opacity=0.13).encode(x="begin:T", x2="end:T", color=colour)
    return [shades]


def _colours(column: str, names: list[str], colours: Sequence[str]) -> alt.Color:
    scale = alt.Scale(domain=names, range=[colours[number % len(colours)] for number in range(len(names))])
    return alt.Color(f"{column}:N", scale=scale, legend=alt.Legend(title=None, orient="top", columns=_columns(names)))


def _columns(names: list[str]) -> int:
    return len(names) if sum(map(len, names)) <= NARROW else min(2, len(names))


def _rule(value: float) -> alt.Chart:
    rule: alt.Chart = alt.Chart(pd.DataFrame({"value": [value]})).mark_rule(color=ACTUAL, strokeDash=[4, 4])
    return rule.encode(y="value:Q")
