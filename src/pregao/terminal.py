"""What a person reads on the terminal, and the JSON that a program reads."""

import json
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table

from pregao.forecasting import Forecast, iso

if TYPE_CHECKING:  # predict.py shall not wait for Lightning
    from pregao.backtest import Outcome
    from pregao.pipeline import Result


def show_result(result: "Result") -> None:
    """The table of model and baselines, whether the model is served, and the run's folder as the last line."""
    console = Console()
    console.print(result.evaluation.terminal_table())
    state = "is served now" if result.verdict.promoted else "is registered, not served"
    console.print(f"{result.stock} version {result.version} {state}: {result.verdict.reason}.", highlight=False)
    # Plain, so that a program can take the last line as a path, however narrow the terminal is.
    console.out(str(result.folder), highlight=False)


def show_backtest(outcome: "Outcome") -> None:
    """The table of models, what failed, and the folder as the last line."""
    console = Console()
    console.print(outcome.walk.terminal_table())
    for failure in outcome.walk.failures:
        console.print(failure, highlight=False, markup=False, style="yellow")
    console.out(str(outcome.folder), highlight=False)


def show_forecast(forecast: Forecast, form: Literal["table", "json"]) -> None:
    """A table for a person, or JSON under the API's names."""
    console = Console()
    if form == "json":
        console.out(json.dumps(forecast.as_json(), ensure_ascii=False, indent=2), highlight=False)
    else:
        console.print(_table(forecast))


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
