"""Altair charts: tables in, charts out. Colours are readable on white and on black."""

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
LEGEND = 26  # pixels of a legend's line
TELEPHONE = 30  # letters that a legend's line may have there; a longer legend has two names a line
SHORT = pd.Timedelta(days=200)  # a shorter axis shows days, a longer one months
LABELS = 45  # pixels, at least, for the labels at the left, so that charts below each other are aligned

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
Drawn = alt.Chart | alt.LayerChart | alt.FacetChart


def closes(table: pd.DataFrame, unit: str, parts: Parts) -> Drawn:
    """A line of closes over the shaded parts of a training."""
    line = _base(table).mark_line(color=MODEL, strokeWidth=1.5).encode(y=_price("close", unit), tooltip=_ohlc(table))
    return _drawn(*_shades(parts, table), line)


def candles(table: pd.DataFrame, unit: str, parts: Parts) -> Drawn:
    """Open, high, low and close of each session over the shaded parts of a training."""
    table = table.assign(rises=table["close"] >= table["open"])
    colour = alt.condition("datum.rises", alt.value(UP), alt.value(DOWN))
    width = max(1.0, min(8.0, 500 / len(table)))
    base = _base(table).encode(color=colour, tooltip=_ohlc(table))
    wick = base.mark_rule().encode(y=_price("low", unit), y2="high:Q")
    body = base.mark_bar(size=width).encode(y="open:Q", y2="close:Q")
    return _drawn(*_shades(parts, table), wick, body)


def volume(table: pd.DataFrame) -> Drawn:
    """Shares a session."""
    y = alt.Y("volume:Q", axis=alt.Axis(title=say("volume"), format="~s", tickCount=3, minExtent=LABELS))
    area = _base(table).mark_area(color=ACTUAL, opacity=0.6, interpolate="step")
    return _drawn(area.encode(y=y, tooltip=[_date(), _figure("volume", say("volume"), ",")]), height=110)


def against_actual(rows: pd.DataFrame, unit: str) -> Drawn:
    """Actual closes, the forecasts of one step, and their bands."""
    base = _base(rows)
    names = {"y": say("actual"), "y_hat": say("forecast")}
    lines = rows.rename(columns=names).melt("date", list(names.values()), var_name="series")
    colour = _colours("series", list(names.values()), [ACTUAL, MODEL])
    drawn = _base(lines).mark_line(strokeWidth=1.5).encode(y=_price("value", unit), color=colour)
    tooltip = [_date(), *(_figure(column, title) for column, title in names.items()), *_limits()]
    points = base.mark_point(opacity=0, size=60).encode(y=_price("y_hat", unit), tooltip=tooltip)
    return _drawn(*_bands(base, unit, 0.15), drawn, points)


def per_step(steps: pd.DataFrame, figure: str, title: str, goal: float | None = None) -> Drawn:
    """One figure of each forecaster by step; the first one lies above the others, since many of them agree."""
    steps = steps.assign(forecaster=[name_of_forecaster(name) for name in steps["forecaster"]])
    names = list(dict.fromkeys(steps["forecaster"]))
    backwards = pd.concat([steps[steps["forecaster"] == name] for name in reversed(names)])
    base = alt.Chart(backwards).encode(
        x=alt.X("step:O", axis=alt.Axis(title=say("steps_ahead"), labelAngle=0)),
        y=alt.Y(f"{figure}:Q", title=title, scale=alt.Scale(zero=goal is None)),
        color=_colours("forecaster", names, PALETTE),
        tooltip=[
            alt.Tooltip("forecaster:N", title=say("forecaster")),
            alt.Tooltip("step:O", title=say("step")),
            _figure(figure, title, ".3f"),
        ],
    )
    layers = [base.mark_line(point=True, strokeWidth=2)]
    if goal is not None:
        layers.append(_rule(goal))
    return _drawn(*layers, height=300 + LEGEND * -(-len(names) // _columns(names)))


def residuals(rows: pd.DataFrame) -> Drawn:
    """Actual minus forecast, in percent, over time."""
    title = say("residual_percent")
    circles = _base(rows).mark_circle(color=MODEL, opacity=0.5, size=20)
    circles = circles.encode(y=alt.Y(f"{ERROR}:Q", title=title), tooltip=[_date(), _figure(ERROR, title, "+.2f")])
    return _drawn(circles, _rule(0), height=260)


def spread(rows: pd.DataFrame) -> Drawn:
    """How often a residual of each size was seen."""
    counts, edges = np.histogram(rows[ERROR], bins=30)
    bars = pd.DataFrame({"begin": edges[:-1], "end": edges[1:], "count": counts})
    chart = alt.Chart(bars).mark_bar(color=MODEL, opacity=0.8)
    chart = chart.encode(
        x=alt.X("begin:Q", bin="binned", title=say("residual_percent")),
        x2="end",
        y=alt.Y("count:Q", title=say("windows")),
        tooltip=[
            _figure("begin", say("from"), "+.2f"),
            _figure("end", say("to"), "+.2f"),
            alt.Tooltip("count:Q", title=say("windows")),
        ],
    )
    return _drawn(chart, height=260)


def ahead(past: pd.DataFrame, coming: pd.DataFrame, unit: str, dated: bool) -> Drawn:
    """Recent closes, and the forecast that is joined to the last of them, with its bands.

    Args:
        past: `at close`.
        coming: `at close lower_80 …`; `at` goes on where the past's ends.
        unit: the currency.
        dated: `at` is a date; else a number of sessions from the last close.
    """
    joint = past.tail(1).assign(**{name: past["close"].iloc[-1] for name in coming.columns if name != "at"})
    fan = pd.concat([joint, coming], ignore_index=True)
    if dated:
        x, at = alt.X("at:T", axis=_days(past["at"])), _date("at")
    else:
        x, at = alt.X("at:Q", title=say("sessions_from_last")), alt.Tooltip("at:Q", title=say("step"))
    y, tooltip = _price("close", unit), [at, _figure("close", say("close"))]
    base = alt.Chart(fan).encode(x=x)
    before = alt.Chart(past).mark_line(color=ACTUAL).encode(x=x, y=y, tooltip=tooltip)
    line = base.mark_line(color=MODEL, point={"color": MODEL, "size": 40})
    return _drawn(*_bands(base, unit, 0.18), before, line.encode(y=y, tooltip=[*tooltip, *_limits()]))


def losses(history: dict[str, list[float]]) -> Drawn:
    """Losses by epoch."""
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
    return _drawn(chart, height=260)


def _drawn(*layers: alt.Chart, height: int = HEIGHT) -> Drawn:
    chart: Drawn = layers[0] if len(layers) == 1 else alt.layer(*layers)
    chart.height = height
    if language() == "pt":
        chart.config = alt.Config(locale=_PORTUGUESE)
    return chart


def _base(table: pd.DataFrame) -> alt.Chart:
    return alt.Chart(table).encode(x=alt.X("date:T", axis=_days(table["date"])))


def _days(dates: "pd.Series[pd.Timestamp]") -> alt.Axis:
    # Vega would write «mai 11», which in Portuguese is a month of a year.
    if language() == "pt" and dates.iloc[-1] - dates.iloc[0] < SHORT:
        return alt.Axis(title=None, format="%d/%m", labelOverlap=True)
    return alt.Axis(title=None)


def _price(column: str, unit: str) -> alt.Y:
    return alt.Y(f"{column}:Q", scale=alt.Scale(zero=False), axis=alt.Axis(title=unit, minExtent=LABELS))


def _date(column: str = "date") -> alt.Tooltip:
    day = "%d/%m/%Y" if language() == "pt" else "%Y-%m-%d"
    return alt.Tooltip(f"{column}:T", format=day, title=say("date"))


def _figure(column: str, title: str, digits: str = ".2f") -> alt.Tooltip:
    return alt.Tooltip(f"{column}:Q", format=digits, title=title)


def _limits() -> list[alt.Tooltip]:
    return [_figure(f"{side}_90", f"{say(side)} 90 %") for side in ("lower", "upper")]


def _bands(base: alt.Chart, unit: str, opacity: float) -> list[alt.Chart]:
    """The areas of the 90 % and the 80 % band."""
    area = base.mark_area(color=MODEL, opacity=opacity)
    return [area.encode(y=_price(f"lower_{level}", unit), y2=f"upper_{level}:Q") for level in (90, 80)]


def _ohlc(table: pd.DataFrame) -> list[alt.Tooltip]:
    known = [name for name in ("open", "high", "low", "close") if table[name].notna().any()]
    return [_date(), *(_figure(name, say(name)) for name in known)]


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
    scale = alt.Scale(domain=names, range=[colours[place % len(colours)] for place in range(len(names))])
    return alt.Color(f"{column}:N", scale=scale, legend=alt.Legend(title=None, orient="top", columns=_columns(names)))


def _columns(names: list[str]) -> int:
    return len(names) if sum(map(len, names)) <= TELEPHONE else min(2, len(names))


def _rule(value: float) -> alt.Chart:
    rule: alt.Chart = alt.Chart(pd.DataFrame({"value": [value]})).mark_rule(color=ACTUAL, strokeDash=[4, 4])
    return rule.encode(y="value:Q")
