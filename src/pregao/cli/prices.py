"""The command prices: a report on the prices of a stock."""

from typing import TYPE_CHECKING

from omegaconf import DictConfig

from pregao.cli.command import command
from pregao.config import parse
from pregao.prices.config import PricesConfig
from pregao.prices.symbols import Symbol

if TYPE_CHECKING:  # --help must not wait for pandas
    from rich.console import Console

    from pregao.prices.agreement import Agreement
    from pregao.prices.downloader import Prices

_MOST_STRETCHES = 40


@command("prices")
def main(cfg: DictConfig) -> None:
    """Report gaps, jumps, stale closes and likely splits in a stock's prices, and compare two sources.

      pregao prices VALE3
      pregao prices VALE3 source=b3 against=yahoo
      pregao prices VALE3 source=b3 confirm=2021-09-13:2

    Writes report.png, findings.csv and differences.csv to outputs/prices/STOCK, the last line that it prints.
    """
    config = parse(PricesConfig, cfg)
    symbol = Symbol.parse(config.stock)

    # Late: pandas takes a second to import, which --help and a refused setting must not wait for.
    from rich.console import Console

    from pregao.prices import report

    console = Console(highlight=False)
    if config.confirm is not None:
        file = report.confirm(symbol, config.confirm)
        console.print(
            f"source=b3 now applies the split {config.confirm} to {symbol}. To undo this, edit {file}.",
            soft_wrap=True,
        )
    prices, agreement = report.load(config)
    folder = report.write(prices, agreement)
    _show_quality(console, prices)
    if agreement is None:
        console.print("No second source is available without the network; name one: against=yahoo, against=b3.")
    else:
        _show_agreement(console, agreement)
    console.out(str(folder))


def _show_quality(console: "Console", prices: "Prices") -> None:
    from rich.table import Table

    from pregao.prices.actions import likely_splits
    from pregao.prices.table import first_five

    days = prices.table["date"].dt.date
    console.print(
        f"{prices.symbol} from {prices.source}{' (stale)' if prices.stale else ''}: {len(days):,} sessions, "
        f"{days.iloc[0]} to {days.iloc[-1]}"
    )
    for reason in prices.tried:
        console.print(f"  skipped: {reason}")
    table = Table("found", "count", "dates", "action", title="Quality", title_justify="left")
    for finding in prices.findings:
        table.add_row(finding.what, f"{finding.count:,}", first_five(finding.dates), finding.verdict)
    console.print(table if prices.findings else "No gap, no jump, no stale closes, nothing repaired.")
    if prices.source == "b3":
        for split in likely_splits(prices.table):
            command = f"pregao prices {prices.symbol} confirm={split.day}:{split.ratio}"
            console.print(f"If there was a split of {split}: {command}", soft_wrap=True)


def _show_agreement(console: "Console", agreement: "Agreement") -> None:
    from rich.table import Table

    from pregao.prices.table import first_five

    first, second = agreement.names
    console.print(
        f"{first} and {second} have {len(agreement.both):,} dates in common; {len(agreement.differing):,} differ by "
        f"more than {agreement.tolerance:g} %."
    )
    for name, days in zip(agreement.names, agreement.only, strict=True):
        if days:
            console.print(f"Only {name} has {len(days):,} dates: {first_five(days)}")
    stretches = agreement.stretches
    if stretches.empty:
        return
    table = Table("from", "until", "dates", f"{first} / {second}", title="Where they differ", title_justify="left")
    for row in stretches.head(_MOST_STRETCHES).itertuples(index=False):
        table.add_row(str(row[0].date()), str(row[1].date()), f"{row[2]:,}", f"{row[3]:.4f}")
    console.print(table)
    if len(stretches) > _MOST_STRETCHES:
        console.print(f"and {len(stretches) - _MOST_STRETCHES:,} more; every date is in differences.csv.")
