"""The report on a stock's prices: findings, comparison with a second source, picture; and confirming a split."""

from datetime import date
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd

from pregao.errors import InvalidChoice, PregaoError
from pregao.files import atomic_write
from pregao.prices import calendar
from pregao.prices.actions import RATIO_TOLERANCE, ActionStore
from pregao.prices.agreement import Agreement, compare
from pregao.prices.cache import Cache
from pregao.prices.config import PricesConfig
from pregao.prices.downloader import Downloader, Prices
from pregao.prices.plots import draw
from pregao.prices.sources.b3 import B3Source
from pregao.prices.symbols import Symbol
from pregao.prices.table import on_basis
from pregao.settings import settings

_LARGEST_RATIO = 1000
SESSIONS_BETWEEN_SPLITS = 5
"""Two splits that are closer are one split with two dates."""


def load(config: PricesConfig) -> tuple[Prices, Agreement | None]:
    """Return the prices, and their comparison with a second source if one is available."""
    downloader = Downloader(config.source.name, config.source.path, config.price)
    prices = downloader.prices(Symbol.parse(config.stock), config.start, config.end)
    second = _second(config, prices)
    if second is None:
        return prices, None
    name, closes = second
    return prices, compare(prices.closes, closes, (prices.source, name), config.tolerance)


def _second(config: PricesConfig, prices: Prices) -> tuple[str, pd.DataFrame] | None:
    """Name and closes of the source `against`; by default the cache or B3's stored quotes, which need no network."""
    first, last = prices.table["date"].iloc[0], prices.table["date"].iloc[-1]
    if config.against is not None:
        try:
            other = Downloader(config.against, config.against_path, config.price)
        except InvalidChoice as error:
            said = str(error).replace("source.path=", "against_path=").replace("source=", "against=")
            raise InvalidChoice(said) from None
        found = other.prices(prices.symbol, first.date(), prices.as_of)
        return found.source, found.closes
    if prices.source in ("b3", "csv"):
        table, name = Cache(settings().data).read(prices.symbol), "cache"
    else:
        try:
            table, name = B3Source(None).stored(prices.symbol), "b3"
        except PregaoError:
            return None
    if table is None:
        return None
    inside = table[table["date"].between(first, last)]
    return None if inside.empty else (name, on_basis(inside, config.price))


def write(prices: Prices, agreement: Agreement | None) -> Path:
    """Write report.png, findings.csv and, with an agreement, differences.csv; return their folder."""
    folder = settings().outputs / "prices" / prices.symbol.ticker
    with atomic_write(folder / "report.png") as file:
        draw(prices, agreement, file)
    with atomic_write(folder / "findings.csv") as file:
        _findings(prices).to_csv(file, index=False)
    differences = folder / "differences.csv"
    if agreement is None:
        differences.unlink(missing_ok=True)  # of an earlier report
    else:
        with atomic_write(differences) as file:
            agreement.differing.to_csv(file, index=False)
    return folder


def _findings(prices: Prices) -> pd.DataFrame:
    rows = [(finding.what, finding.verdict, day) for finding in prices.findings for day in finding.dates]
    return pd.DataFrame(rows, columns=["what", "verdict", "date"])


def confirm(symbol: Symbol, text: str) -> Path:
    """Record DATE:RATIO as a split for source=b3, and return the file that holds it.

    Raises:
        InvalidChoice: the text is not a date and a ratio, or the split cannot be right.
    """
    day, _, ratio = text.partition(":")
    try:
        found, share = date.fromisoformat(day), Fraction(ratio)
    except (ValueError, ZeroDivisionError):
        found, share = date.min, Fraction(0)
    if found == date.min or share == 1 or not Fraction(1, _LARGEST_RATIO) <= share <= _LARGEST_RATIO:
        raise InvalidChoice(
            f"confirm={text[:40]} is not DATE:RATIO. Write the first day at the new price and the number of new shares "
            "per old share: confirm=2021-09-13:2 for a 2:1 split, :1/10 for a reverse split, :1.1 for a bonus of 10 %."
        )
    _refuse_impossible(symbol, found, float(share))
    return ActionStore().confirm(symbol, found, float(share))


def _refuse_impossible(symbol: Symbol, day: date, ratio: float) -> None:
    """Refuse a split on a day without a finished session, near a known one, or that enlarges the jump of the price."""
    finished = calendar.last_finished_session(symbol.calendar)
    if day > finished or calendar.last_session_until(symbol.calendar, day) != day:
        raise InvalidChoice(
            f"confirm={day}: there was no session of {symbol} on that day (the last finished one was {finished}). Give "
            "the first day at the new price."
        )
    store = ActionStore()
    for origin in ("yahoo", "confirmed"):
        for other, known in store.read(symbol, origin).splits.items():
            between = len(calendar.sessions(symbol.calendar, min(day, other), max(day, other))) - 1
            if between <= SESSIONS_BETWEEN_SPLITS and (day, origin) != (other, "confirmed"):
                raise InvalidChoice(
                    f"confirm={day}:{ratio:g}: a split of {known:g} on {other} is known ({origin}), and both would be "
                    "applied. Correct or remove that one first."
                )
    try:
        closes = B3Source(None).stored(symbol).set_index("date")["close"]
    except PregaoError:
        return  # nothing is stored to compare with
    before, after = closes[: pd.Timestamp(day) - pd.Timedelta(days=1)].tail(1), closes[pd.Timestamp(day) :].head(1)
    if before.empty or after.empty:
        return
    jump = float(after.iloc[0] / before.iloc[0])
    if abs(np.log(jump * ratio)) > abs(np.log(jump)) + np.log1p(RATIO_TOLERANCE):
        raise InvalidChoice(
            f"confirm={day}:{ratio:g}: the close moved from {before.iloc[0]:.2f} to {after.iloc[0]:.2f} on that day, "
            "and this split would enlarge the jump. Check the day and the direction (new shares per old share)."
        )
