"""Results on the terminal: tables, and JSON for programs."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pregao.forecasting.compose import Forecast, iso

if TYPE_CHECKING:  # predict.py must not import Lightning
    from pregao.backtesting.backtest import BacktestResult
    from pregao.prices.symbols import Symbol
    from pregao.tracking.registry import Registered, Served
    from pregao.training.pipeline import Result
    from pregao.tuning.search import SearchResult
    from pregao.tuning.sweep import SweepResult

SCORES = {"final_mape": "MAPE %", "skill_mape": "skill %", "coverage_80": "in 80 %", "pinball": "pinball"}
"""Test metrics in the table of versions, with their headings."""

SWEPT = {
    "final_mape": "MAPE %",
    "skill_mape": "skill %",
    "coverage_90": "in 90 %",
    "pinball": "pinball",
}
"""Test metrics in the table of a sweep, with their headings."""


def show_result(result: "Result") -> None:
    """Print the scores, whether the model is served, and as the last line the run's folder."""
    console = Console(highlight=False)
    console.print(result.evaluation.terminal_table())
    state = "is served now" if result.verdict.promoted else "is registered, not served"
    console.print(f"{result.stock} version {result.version} {state}: {result.verdict.reason}.")
    # Not wrapped, so that programs can read the last line as a path in a narrow terminal too.
    console.out(str(result.folder))


def show_backtest(outcome: "BacktestResult") -> None:
    """Print the scores, the failures, and as the last line the folder."""
    console = Console(highlight=False)
    console.print(*outcome.walk.terminal_tables(), sep="\n")
    for failure in outcome.walk.failures:
        console.print(failure, markup=False, style="yellow")
    console.out(str(outcome.folder))


def show_sweep(swept: "SweepResult") -> None:
    """Print the jobs (best validation metric first), the failed jobs, and as the last line the folder."""
    console = Console(highlight=False)
    table, metric, settings = swept.table, swept.metric, swept.settings
    title = f"{len(table)} jobs, sorted by {metric}; test metrics are for information only"
    grid = _grid(title, ("job", *settings, metric, *SWEPT.values()))
    done = table[table["reason"].isna()]
    for row in done.to_dict("records"):
        figures = [f"{row[name]:.3f}" for name in (metric, *SWEPT)]
        grid.add_row(str(row["job"]), *(str(row[key]) for key in settings), *figures)
    console.print(grid)
    for row in table[table["reason"].notna()].to_dict("records"):
        console.print(f"job {row['job']} failed: {row['reason']}", style="yellow")
    console.out(str(swept.folder))


def show_search(found: "SearchResult") -> None:
    """Print the best ten trials, the command that trains with the best, and as the last line the folder."""
    console = Console(highlight=False)
    counts = found.trials["state"].value_counts()
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    columns = [str(name) for name in found.trials if name not in ("state", "reason")]
    grid = _grid(f"study {found.study}: {states}", columns)
    for row in found.trials[found.trials["state"] == "complete"].head(10).to_dict("records"):
        grid.add_row(*(f"{row[name]:.4g}" if isinstance(row[name], float) else str(row[name]) for name in columns))
    console.print(grid)
    console.out(found.command or "No trial is complete: see trials.csv for the reasons.")
    console.out(str(found.folder))


def show_versions(symbol: "Symbol", answering: "Served", versions: Sequence["Registered"]) -> None:
    """Print the versions of a stock's model, and what answers where it has none that is served."""
    console = Console(highlight=False)
    title = f"{symbol}: {len(versions)} versions; {answering.stock} version {answering.version} answers now"
    grid = _grid(title, ("version", "trained", *SCORES.values(), "state"))
    for one in versions:
        figures = [f"{one.metrics[name]:.3f}" if name in one.metrics else "–" for name in SCORES]
        state = "served" if one.champion else "served before" if one.served else "not served"
        best = ", best" if one.best else ""
        grid.add_row(str(one.version), f"{one.started:%Y-%m-%d}", *figures, f"{state}{best}")
    console.print(grid)


def _grid(title: str, columns: Sequence[str]) -> Table:
    """Return an empty table; headings are settings without their group, in several lines to fit 80 columns."""
    grid = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in columns:
        grid.add_column(name.rpartition(".")[2].replace("_", "\n"), justify="right", no_wrap=True)
    return grid


def show_forecast(forecast: Forecast, form: Literal["table", "json"]) -> None:
    """Print a table, or JSON with the field names of the API."""
    console = Console(highlight=False)
    if form == "json":
        console.out(json.dumps(forecast.as_json(), ensure_ascii=False, indent=2))
    else:
        console.print(_table(forecast))
        if forecast.closes is not None:
            console.print(forecast.closes.note)
        if forecast.market is not None and forecast.market.note is not None:
            console.print(forecast.market.note)
        if forecast.warning is not None:
            console.print(forecast.warning, style="yellow")
        if forecast.recorded is False:
            console.print("Not recorded: the forecast log does not respond.", style="yellow")


def _table(forecast: Forecast) -> Table:
    unit = forecast.symbol.currency
    since = f"after {forecast.as_of}" if forecast.as_of else "after the given closes"
    served = forecast.served
    table = Table(
        title=f"{forecast.symbol}: the next {len(forecast.table)} closes {since}, {unit}",
        caption=f"model {served.stock} version {served.version}, trained {served.model.card.trained_at}",
        title_justify="left",
        caption_justify="left",
    )
    for name in ("step", "date", "close", "80 % band", "90 % band"):
        table.add_column(name, justify="right")
    for row in forecast.table.to_dict("records"):
        bands = [f"{row[f'lower_{n}']:.2f} – {row[f'upper_{n}']:.2f}" for n in (80, 90)]
        table.add_row(str(row["step"]), iso(row["date"]) or "–", f"{row['close']:.2f}", *bands)
    return table
