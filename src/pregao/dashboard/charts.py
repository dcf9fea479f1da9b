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

HEIGHT = 340

LEGEND = 26
"""Pixels of a legend's line."""

TELEPHONE = 30
"""Letters that a legend's line may have there; where they are more, it has two names a line."""

SHORT = pd.Timedelta(days=200)
"""Below which an axis tells days, and not months."""

LABELS = 45
"""Pixels that labels at the left have at least, so that a chart below another begins where that does."""

_LOCALES = {
    "pt": {
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
    axis = alt.Axis(title=say("volume"), format="~s", tickCount=3, minExtent=LABELS)
    return _drawn(
        _base(table)
        .mark_area(color=ACTUAL, opacity=0.6, interpolate="step")
        .encode(
            y=alt.Y("volume:Q", axis=axis), tooltip=[_date(), alt.Tooltip("volume:Q", format=",", title=say("volume"))]
        ),
        height=110,
    )


def against_actual(rows: pd.DataFrame, unit: str) -> Drawn:
    """What came, what was forecast one step's sessions before, and the bands."""
    base = _base(rows)
    band_90, band_80 = (
        base.mark_area(color=MODEL, opacity=0.15).encode(y=_price(f"lower_{level}", unit), y2=f"upper_{level}:Q")
        for level in (90, 80)
    )
    names = {"y": say("actual"), "y_hat": say("forecast")}
    lines = _long(rows, names, "date")
    colour = _colours("series", list(names.values()), [ACTUAL, MODEL])
    drawn = _base(lines).mark_line(strokeWidth=1.5).encode(y=_price("value", unit), color=colour)
    points = base.mark_point(opacity=0, size=60).encode(
        y=_price("y_hat", unit),
        tooltip=[
            _date(),
            *(alt.Tooltip(f"{column}:Q", format=".2f", title=title) for column, title in names.items()),
            alt.Tooltip("lower_90:Q", format=".2f", title=f"{say('lower')} 90 %"),
            alt.Tooltip("upper_90:Q", format=".2f", title=f"{say('upper')} 90 %"),
        ],
    )
    return _drawn(band_90, band_80, drawn, points)


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
            alt.Tooltip(f"{figure}:Q", format=".3f", title=title),
        ],
    )
    layers = [base.mark_line(point=True, strokeWidth=2)]
    if goal is not None:
        layers.append(_rule(goal))
    return _drawn(*layers, height=300 + LEGEND * -(-len(names) // _columns(names)))


def residuals(rows: pd.DataFrame) -> Drawn:
    """What came less what was forecast, in percent, over time."""
    return _drawn(
        _base(rows)
        .mark_circle(color=MODEL, opacity=0.5, size=20)
        .encode(
            y=alt.Y(f"{ERROR}:Q", title=say("residual_percent")),
            tooltip=[_date(), alt.Tooltip(f"{ERROR}:Q", format="+.2f", title=say("residual_percent"))],
        ),
        _rule(0),
        height=260,
    )


def spread(rows: pd.DataFrame) -> Drawn:
    """How often a residual of each size was seen."""
    counts, edges = np.histogram(rows[ERROR], bins=30)
    bars = pd.DataFrame({"begin": edges[:-1], "end": edges[1:], "count": counts})
    return _drawn(
        alt.Chart(bars)
        .mark_bar(color=MODEL, opacity=0.8)
        .encode(
            x=alt.X("begin:Q", bin="binned", title=say("residual_percent")),
            x2="end",
            y=alt.Y("count:Q", title=say("windows")),
            tooltip=[
                alt.Tooltip("begin:Q", format="+.2f", title=say("from")),
                alt.Tooltip("end:Q", format="+.2f", title=say("to")),
                alt.Tooltip("count:Q", title=say("windows")),
            ],
        ),
        height=260,
    )


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
    kind = "T" if dated else "Q"
    axis = _days(past["at"]) if dated else alt.Axis(title=say("sessions_from_last"))
    x = alt.X(f"at:{kind}", axis=axis)
    base = alt.Chart(fan).encode(x=x)
    bands = [
        base.mark_area(color=MODEL, opacity=0.18).encode(y=_price(f"lower_{level}", unit), y2=f"upper_{level}:Q")
        for level in (90, 80)
    ]
    tooltip = [
        alt.Tooltip("at:T", title=say("date"), format=_day()) if dated else alt.Tooltip("at:Q", title=say("step")),
        alt.Tooltip("close:Q", format=".2f", title=say("close")),
    ]
    limits = [alt.Tooltip(f"{side}_90:Q", format=".2f", title=f"{say(side)} 90 %") for side in ("lower", "upper")]
    before = alt.Chart(past).mark_line(color=ACTUAL).encode(x=x, y=_price("close", unit), tooltip=tooltip)
    line = base.mark_line(color=MODEL, point={"color": MODEL, "size": 40}).encode(
        y=_price("close", unit), tooltip=[*tooltip, *limits]
    )
    return _drawn(*bands, before, line)


def losses(history: dict[str, list[float]]) -> Drawn:
    """Losses by epoch."""
    names = {"history_train_loss": say("train_loss"), "history_val_loss": say("val_loss")}
    rows = [
        {"epoch": epoch, "value": value, "series": names.get(name, name)}
        for name, values in history.items()
        for epoch, value in enumerate(values, start=1)
    ]
    return _drawn(
        alt.Chart(pd.DataFrame(rows))
        .mark_line(point=True)
        .encode(
            x=alt.X("epoch:Q", axis=alt.Axis(title=say("epoch"), tickMinStep=1, format="d")),
            y=alt.Y("value:Q", title=say("loss"), scale=alt.Scale(zero=False)),
            color=_colours("series", list(names.values()), [MODEL, NAIVE]),
            tooltip=["series:N", "epoch:Q", alt.Tooltip("value:Q", format=".5f")],
        ),
        height=260,
    )


def _drawn(*layers: alt.Chart, height: int = HEIGHT) -> Drawn:
    chart: Drawn = layers[0] if len(layers) == 1 else alt.layer(*layers)
    chart.height = height
    if language() in _LOCALES:
        chart.config = alt.Config(locale=_LOCALES[language()])
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


def _day() -> str:
    return "%d/%m/%Y" if language() == "pt" else "%Y-%m-%d"


def _date() -> alt.Tooltip:
    return alt.Tooltip("date:T", format=_day(), title=say("date"))


def _ohlc(table: pd.DataFrame) -> list[alt.Tooltip]:
    known = [name for name in ("open", "high", "low", "close") if table[name].notna().any()]
    return [_date(), *(alt.Tooltip(f"{name}:Q", format=".2f", title=say(name)) for name in known)]


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


def _long(rows: pd.DataFrame, names: dict[str, str], at: str) -> pd.DataFrame:
    return rows.rename(columns=names).melt(id_vars=at, value_vars=list(names.values()), var_name="series")


def _rule(value: float) -> alt.Chart:
    rule: alt.Chart = alt.Chart(pd.DataFrame({"value": [value]})).mark_rule(color=ACTUAL, strokeDash=[4, 4])
    return rule.encode(y="value:Q")
