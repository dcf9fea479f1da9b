"""Values that a refactoring must not change; run as a program, this file writes them to golden.json.

golden.json has the values of commit 157f4ea; `PYTHONPATH=src:. python tests/golden.py` writes those of this commit. All
prices are synthetic.
"""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from pregao.models.trained import TrainedModel
from pregao.settings import REPOSITORY
from tests.conftest import environment, random_walk, with_ranges

FILE = Path(__file__).with_name("golden.json")

SHIPPED = ("VALE3", "SHARED")
ORIGINS = (60, 250, 399)
"""Indices of the last close of each forecast."""

TRAININGS = {
    "default": ("stock=VALE3",),
    "absolute": ("stock=VALE3", "model=absolute"),
    "panel": ("stock=SHARED", "stocks=[PETR4,ITUB4]"),
}
SMALL = (
    *("start=2015-01-01", "end=2024-12-30", "model.hidden_size=8", "trainer.max_epochs=3"),
    *("train.init=none", "promote=never"),
)


def history():
    """Closes and ranges of 400 sessions."""
    return with_ranges(random_walk(seed=7), seed=7)


def forecasts():
    """Quantiles [origin, step, level] of both shipped models, and the rows of a forecast from closes alone."""
    table, found = history(), {}
    windows = np.stack([table["close"].to_numpy()[at - 19 : at + 1] for at in ORIGINS])
    for stock in SHIPPED:
        model = TrainedModel.load(REPOSITORY / "models" / stock)
        for name, columns in (("ranges", ["close", "open", "high", "low"]), ("closes", ["close"])):
            known = model.volatilities({column: table[column].to_numpy() for column in columns})
            found[f"{stock} {name}"] = model.quantiles(windows, known[list(ORIGINS)], [stock] * len(ORIGINS)).tolist()
        found[f"{stock} bare"] = model.forecast(table["close"].tolist()).to_numpy().tolist()
        found[f"{stock} shortest"] = model.forecast(table["close"].tolist()[-20:]).to_numpy().tolist()
    return found


def commands(home, prices):
    """Two results of predict.py; metrics, losses per epoch and forecast.csv of three training runs."""
    for seed, stock in enumerate(("VALE3", "PETR4", "ITUB4"), start=7):
        with_ranges(random_walk(seed=seed), seed=seed).to_csv(prices / f"{stock}.csv", index=False)
    source = ("source=csv", f"source.path={prices}")
    stocks = ("VALE3", "PETR4")  # by its model and by the shared one; both with the online width
    asked = [("predict", f"stock={stock}", "format=json", *source) for stock in stocks]
    asked += [("train", *SMALL, *chosen, *source) for chosen in TRAININGS.values()]
    codes, texts = zip(*in_one_process(asked, home), strict=True)
    assert not any(codes)
    predicted = {f"predict {stock}": json.loads(text) for stock, text in zip(stocks, texts, strict=False)}
    for answer in predicted.values():
        del answer["model"]["run_id"]  # a random number
    folders = [Path(text.splitlines()[-1]) for text in texts[len(stocks) :]]
    return predicted | {name: left_in(folder, home) for name, folder in zip(TRAININGS, folders, strict=True)}


PROGRAM = """
import importlib, json, sys
for name, *arguments in json.loads(sys.argv[1]):
    sys.argv, code = [name, *arguments], 0
    try:
        importlib.import_module(name).main()
    except SystemExit as stop:
        code = stop.code or 0
    sys.stdout.write(f"\\f{code}\\f")
"""


def in_one_process(asked, home, code=REPOSITORY, **variables):
    """Exit code and stdout of commands like `["predict", "stock=VALE3"]`; one process saves seconds of imports."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(asked)]
    run = {"cwd": code, "env": environment(home, **variables), "timeout": 240}
    parts = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **run).stdout.split("\f")
    return [(int(code), out) for out, code in zip(parts[:-1:2], parts[1::2], strict=True)]


def left_in(folder, home):
    """The files in a training run's folder, and its losses in MLflow's database."""
    query = "SELECT value FROM metrics JOIN runs USING (run_uuid) WHERE key = ? AND name = ? ORDER BY step"
    with closing(sqlite3.connect(home / "mlruns/mlflow.db")) as database:
        losses = {
            key: [value for (value,) in database.execute(query, (key, folder.name))]
            for key in ("history_train_loss", "history_val_loss")
        }
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    forecast = pd.read_csv(folder / "forecast.csv")
    return {
        "metrics": {key: None if key.endswith("_time") else value for key, value in metrics.items()},
        "losses": losses,
        "forecast": {column: forecast[column].tolist() for column in forecast},
    }


def main():
    """Write golden.json."""
    with TemporaryDirectory() as home, TemporaryDirectory() as prices:
        found = {"forecasts": forecasts(), "commands": commands(Path(home), Path(prices))}
    FILE.write_text(json.dumps(found, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
