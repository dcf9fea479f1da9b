"""The picture of a stock's prices and their quality findings."""

from pathlib import Path

from matplotlib.axes import Axes

from pregao.prices import quality
from pregao.prices.agreement import Agreement
from pregao.prices.downloader import Prices
from pregao.prices.figure import GREEN, INK, RED, picture

SPLIT, DIFFERENT = "#7a1f7a", "#1f5fa8"
COLOURS = {quality.MISSING_SESSIONS: RED, quality.LARGE_MOVES: GREEN, quality.STALE_CLOSES: "#c9a227"}


def draw(prices: Prices, agreement: Agreement | None, path: Path) -> None:
    """Closes with gaps, jumps and stale runs marked; daily moves; the difference to a second source."""
    rows = 2 if agreement is None else 3
    with picture(path, 11, 2.6 * rows + 1) as figure:
        axes = figure.subplots(rows, 1, sharex=True)
        _closes(axes[0], prices)
        _moves(axes[1], prices)
        if agreement is not None:
            _difference(axes[2], agreement)
        figure.suptitle(_title(prices), x=0.01, ha="left", fontsize=11, fontweight="bold")


def _title(prices: Prices) -> str:
    days = prices.table["date"].dt.date
    return f"{prices.symbol} from {prices.source}: {len(days):,} sessions, {days.iloc[0]} to {days.iloc[-1]}"


def _closes(axis: Axes, prices: Prices) -> None:
    table = prices.table
    axis.plot(table["date"], table["close"], color=INK, lw=0.9)
    axis.set_ylabel(f"close, {prices.symbol.currency}")
    for finding in prices.findings:
        colour = SPLIT if finding.what.startswith("jumps like") else COLOURS.get(finding.what)
        for number, day in enumerate(finding.dates if colour else ()):
            label = f"{finding.what} ({finding.count})" if number == 0 else None
            # matplotlib's type annotations lack dates
            axis.axvline(day, color=colour, lw=1.1, alpha=0.6, label=label)  # type: ignore[arg-type]
    if axis.get_legend_handles_labels()[1]:
        axis.legend(loc="upper left", frameon=True, framealpha=0.9, edgecolor="none", fontsize=8)
    else:
        axis.set_title("no gap, no jump, no stale run", loc="left")
    axis.margins(x=0.01)


def _moves(axis: Axes, prices: Prices) -> None:
    moves = 100 * prices.table["close"].pct_change()
    axis.vlines(prices.table["date"], 0, moves.fillna(0), color=INK, lw=0.6)
    for side in (-1, 1):
        axis.axhline(side * 100 * quality.LARGEST_MOVE, color=GREEN, lw=0.8, ls=":")
    axis.set_ylabel("daily move, %")


def _difference(axis: Axes, agreement: Agreement) -> None:
    first, second = agreement.names
    axis.fill_between(
        agreement.both["date"], -agreement.tolerance, agreement.tolerance, color=DIFFERENT, alpha=0.2, lw=0
    )
    axis.plot(agreement.both["date"], agreement.both["percent"], ".", ms=2.5, color=INK)
    axis.plot(agreement.differing["date"], agreement.differing["percent"], ".", ms=4, color=DIFFERENT)
    axis.set_ylabel(f"{first} against {second}, %")
    axis.set_title(
        f"{len(agreement.differing):,} of {len(agreement.both):,} common dates differ by more than "
        f"{agreement.tolerance:g} %",
        loc="left",
    )
