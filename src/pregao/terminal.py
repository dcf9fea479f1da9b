"""What a person reads on the terminal, and the JSON that a program reads."""

import json
from typing import Literal

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

from pregao.forecasting import Forecast
from pregao.pipeline import Result


class EpochProgress(Callback):
    """A bar over the epochs, on stderr; nothing where no terminal is."""

    def __init__(self) -> None:
        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the empty bar; a resumed run starts where it was left."""
        self.task = self.bar.add_task("training", total=trainer.max_epochs, completed=trainer.current_epoch)
        self.bar.start()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """One epoch further, with its validation loss."""
        loss = trainer.callback_metrics["val_loss"].item()
        self.bar.update(self.task, advance=1, description=f"training · validation loss {loss:.4f}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Also after an interruption: the cursor must come back."""
        self.bar.stop()


def show_result(result: Result) -> None:
    """The table of model and baselines, whether the model is served, and the run's folder as the last line."""
    console = Console()
    console.print(result.evaluation.terminal_table())
    state = "is served now" if result.verdict.promoted else "is registered, not served"
    console.print(f"{result.stock} version {result.version} {state}: {result.verdict.reason}.", highlight=False)
    # Plain, so that a program can take the last line as a path, however narrow the terminal is.
    console.out(str(result.folder), highlight=False)


def show_forecast(forecast: Forecast, form: Literal["table", "json"]) -> None:
    """A table for a person, or JSON under the API's names."""
    console = Console()
    if form == "json":
        console.out(json.dumps(as_json(forecast), ensure_ascii=False, indent=2), highlight=False)
    else:
        console.print(_table(forecast))


def as_json(forecast: Forecast) -> dict[str, object]:
    """The forecast under the names of POST /predict."""
    rows = forecast.table.assign(date=forecast.table["date"].map(_iso)).to_dict("records")
    card = forecast.served.model.card
    return {
        "stock": forecast.symbol.ticker,
        "prediction": rows[0]["close"],
        "forecast": rows,
        "as_of": _iso(forecast.as_of),
        "stale": forecast.stale,
        "model": {
            "stock": forecast.served.stock,
            "version": forecast.served.version,
            "run_id": forecast.served.run_id,
            "trained_at": card.trained_at,
            "skill_mape": card.metrics.get("skill_mape"),
        },
    }


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
    for row in forecast.table.itertuples():
        bands = [f"{row.lower_80:.2f} – {row.upper_80:.2f}", f"{row.lower_90:.2f} – {row.upper_90:.2f}"]
        table.add_row(str(row.step), _iso(row.date) or "–", f"{row.close:.2f}", *bands)
    return table


def _iso(day: object) -> str | None:
    return None if day is None else str(day)
