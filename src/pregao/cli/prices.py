"""Can a stock's prices be trusted? pregao prices VALE3 [source=b3] [against=yahoo]."""

from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from pregao.cli.command import command
from pregao.config import parse
from pregao.errors import InvalidChoice, PregaoError
from pregao.files import atomic_write
from pregao.prices.config import PricesConfig
from pregao.prices.symbols import Symbol
from pregao.settings import settings

if TYPE_CHECKING:  # --help shall not wait for pandas
    import pandas as pd
    from rich.console import Console

    from pregao.prices.agreement import Agreement
    from pregao.prices.downloader import Prices

_SHOWN = 40
_LARGEST_RATIO = 1000


@command("prices")
def main(cfg: DictConfig) -> None:
    """Report gaps, jumps, stale runs and the agreement of two sources; draw them; list likely splits."""
    config = parse(PricesConfig, cfg)
    symbol = Symbol.parse(config.stock)

    # Late: pandas takes a second that --help and a refused choice need not wait for.
    from rich.console import Console

    from pregao.prices.agreement import compare
    from pregao.prices.downloader import Downloader

    console = Console()
    if config.confirm is not None:
        book = confirm(symbol, config.confirm)
        console.print(
            f"{config.confirm} is a split of {symbol} for source=b3 from now on. To take it back, correct {book}.",
            highlight=False,
            soft_wrap=True,
        )
    downloader = Downloader(config.source.name, config.source.path, config.price)
    prices = downloader.prices(symbol, config.start, config.end)
    second = _second(config, prices)
    agreement = None
    if second is not None:
        agreement = compare(prices.closes, second[1], (prices.source, second[0]), config.tolerance)
    folder = _write(prices, agreement)
    _show(console, prices, agreement)
    console.out(str(folder), highlight=False)


def _write(prices: "Prices", agreement: "Agreement | None") -> Path:
    """Write the picture and the tables, and return their folder."""
    from pregao.prices.plots import draw

    folder = settings().outputs / "prices" / prices.symbol.ticker
    with atomic_write(folder / "report.png") as file:
        draw(prices, agreement, file)
    with atomic_write(folder / "findings.csv") as file:
        _findings(prices).to_csv(file, index=False)
    differences = folder / "differences.csv"
    if agreement is None:
        differences.unlink(missing_ok=True)  # an earlier call's
    else:
        with atomic_write(differences) as file:
            agreement.differing.to_csv(file, index=False)
    return folder


def confirm(symbol: Symbol, text: str) -> Path:
    """Take DATE:RATIO as a split.

    Raises:
        InvalidChoice: it is something else.
    """
    from pregao.prices.actions import Book

    day, _, ratio = text.partition(":")
    try:
        found, share = date.fromisoformat(day), Fraction(ratio)
    except (ValueError, ZeroDivisionError):
        found, share = date.min, Fraction(0)
    if found == date.min or share == 1 or not Fraction(1, _LARGEST_RATIO) <= share <= _LARGEST_RATIO:
        raise InvalidChoice(
            f"confirm={text[:40]} is no DATE:RATIO. Write the first day at the new price and how many papers there are "
            "for an old one: confirm=2021-09-13:2 for a 2:1 split, :1/10 for a reverse split, :1.1 for a bonus of 10 %."
        )
    return Book().confirm(symbol, found, float(share))


def _second(config: PricesConfig, prices: "Prices") -> "tuple[str, pd.DataFrame] | None":
    """The closes to compare with: of the source that was named, else of what is at hand without a network."""
    from pregao.prices.cache import Cache
    from pregao.prices.downloader import Downloader
    from pregao.prices.sources.b3 import B3Source
    from pregao.prices.table import on_basis

    first, last = prices.table["date"].iloc[0].date(), prices.as_of
    if config.against is not None:
        other = Downloader(config.against, config.against_path, config.price).prices(prices.symbol, first, last)
        return other.source, other.closes
    if prices.source in ("b3", "csv"):
        table, name = Cache(settings().data).read(prices.symbol), "cache"
    else:
        try:
            table, name = B3Source(None).stored(prices.symbol), "b3"
        except PregaoError:
            return None
    if table is None:
        return None
    inside = table[(table["date"] >= prices.table["date"].iloc[0]) & (table["date"] <= prices.table["date"].iloc[-1])]
    return None if inside.empty else (name, on_basis(inside, config.price))


def _findings(prices: "Prices") -> "pd.DataFrame":
    import pandas as pd

    rows = [(finding.what, finding.verdict, day) for finding in prices.findings for day in finding.dates]
    return pd.DataFrame(rows, columns=["what", "verdict", "date"])


def _show(console: "Console", prices: "Prices", agreement: "Agreement | None") -> None:
    from rich.table import Table

    from pregao.prices.actions import suspected

    days = prices.table["date"].dt.date
    console.print(
        f"{prices.symbol} from {prices.source}{' (stale)' if prices.stale else ''}: {len(days):,} sessions, "
        f"{days.iloc[0]} to {days.iloc[-1]}",
        highlight=False,
    )
    for reason in prices.tried:
        console.print(f"  passed over: {reason}", highlight=False)
    table = Table("found", "how often", "dates", "what became of it", title="Quality", title_justify="left")
    for finding in prices.findings:
        shown = ", ".join(map(str, finding.dates[:5])) + (", …" if len(finding.dates) > 5 else "")
        table.add_row(finding.what, f"{finding.count:,}", shown, finding.verdict)
    console.print(table if prices.findings else "No gap, no jump, no stale run, nothing repaired.")
    if prices.source == "b3":
        for likely in suspected(prices.table):
            asked = f"pregao prices {prices.symbol} confirm={likely.day}:{likely.ratio}"
            console.print(f"If there was a split of {likely}: {asked}", highlight=False, soft_wrap=True)
    if agreement is None:
        console.print("No second source at hand to compare with; name one: against=yahoo, against=b3.", highlight=False)
        return
    _show_agreement(console, agreement)


def _show_agreement(console: "Console", agreement: "Agreement") -> None:
    from rich.table import Table

    first, second = agreement.names
    console.print(
        f"{first} and {second} have {len(agreement.both):,} dates in common; {len(agreement.differing):,} differ by "
        f"more than {agreement.tolerance:g} %.",
        highlight=False,
    )
    for name, days in zip(agreement.names, agreement.only, strict=True):
        if days:
            shown = ", ".join(map(str, days[:5])) + (", …" if len(days) > 5 else "")
            console.print(f"Only {name} has {len(days):,} dates: {shown}", highlight=False)
    stretches = agreement.stretches
    if stretches.empty:
        return
    table = Table("from", "until", "dates", f"{first} / {second}", title="Where they differ", title_justify="left")
    for row in stretches.head(_SHOWN).itertuples(index=False):
        table.add_row(str(row[0].date()), str(row[1].date()), f"{row[2]:,}", f"{row[3]:.4f}")
    console.print(table)
    if len(stretches) > _SHOWN:
        console.print(f"and {len(stretches) - _SHOWN:,} more; every date is in differences.csv.", highlight=False)
