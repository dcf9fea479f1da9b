"""Makes home.tar.xz: one of each file that commit 157f4ea, the version before, leaves in a home.

From the root of this repository:

    git worktree add BASE 157f4ea
    cd BASE && PYTHONPATH=$PWD/src:$PWD python ../tests/previous/make.py

The commands are those of the code on PYTHONPATH, with tiny networks on synthetic prices. `expected.json` says how each
of them continues there. The home lies at a fixed path, which a test replaces by its own.
"""

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import time
import urllib.request
from contextlib import closing, suppress
from pathlib import Path
from shutil import rmtree

import pandas as pd
import torch

from pregao.settings import REPOSITORY
from tests.conftest import environment, random_walk, with_ranges

HERE = Path(__file__).parent
ARCHIVE, EXPECTED = HERE / "home.tar.xz", HERE / "expected.json"

ROOT = Path("/tmp/pregao-previous")
HOME, PRICES = ROOT / "home", ROOT / "prices"
STOCKS = ("VALE3", "PETR4", "ITUB4", "ABEV3")

SOURCE = ("source=csv", f"source.path={PRICES}")
DATES = ("start=2015-01-01", "end=2024-12-30")
TINY = ("model.hidden_size=4", "trainer.max_epochs=2")
ENDLESS = ("model.hidden_size=4", "trainer.patience=null", "trainer.max_epochs=100000", "train.init=none")

SHARED = ("stock=SHARED", "stocks=[PETR4,ITUB4]", "start=2015-01-01", "end=2024-06-28", *TINY, *SOURCE)
CHAMPION = ("stock=VALE3", *DATES, *TINY, *SOURCE)
SPACE = "sweep.space={model.hidden_size: 'choice(3, 4, 5)', optimizer.learning_rate: 'tag(log, interval(1e-4, 1e-2))'}"
STUDY = ("stock=PETR4", *DATES, *TINY, *SOURCE, SPACE, "study=previous")
BACKTEST = (
    *("stock=ITUB4", "start=2015-01-01", "first_cutoff=2024-07-01", "end=2024-12-30", "refit_every=3"),
    *("models=[last close,shared]", "model.hidden_size=4", "trainer.max_epochs=20", *SOURCE),
)
SWEEP = ("stock=PETR4", *DATES, "trainer.max_epochs=20", "model.hidden_size=3,4", *SOURCE)
INTERRUPTED = ("stock=ABEV3", *DATES, *ENDLESS, *SOURCE)
LOAD = """
import json, mlflow, sys
from pregao.settings import settings
mlflow.set_tracking_uri(settings().tracking_uri)
model = mlflow.pyfunc.load_model("models:/VALE3@champion")
print(model.predict(json.loads(sys.argv[1])).to_numpy().tolist())
"""


def call(program, *arguments):
    """The stdout of a command that ends well."""
    command = [sys.executable, str(REPOSITORY / program), *arguments]
    return subprocess.run(command, env=environment(HOME), check=True, stdout=subprocess.PIPE, text=True).stdout


def last_line(text):
    return Path(text.splitlines()[-1])


def interrupted(program, *arguments, once):
    """The folder of a command that got ctrl-C when this pattern of files existed in it."""
    command = [sys.executable, str(REPOSITORY / program), *arguments]
    process = subprocess.Popen(command, env=environment(HOME), stdout=subprocess.DEVNULL)
    while not (found := list((HOME / "outputs").glob(once))):
        assert process.poll() is None, f"{command} ended before {once}"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    [file] = found
    return (HOME / "outputs").joinpath(*file.relative_to(HOME / "outputs").parts[:2])


def ask(port, path, body=None):
    """An answer of the API."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def served():
    """A forecast that is logged, and a training in the background that is done."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(REPOSITORY / "serve.py"), f"port={port}", *SOURCE]
    process = subprocess.Popen(command, env=environment(HOME))
    try:
        while True:
            with suppress(OSError):
                ask(port, "/health")
                break
            assert process.poll() is None
            time.sleep(0.2)
        ask(port, "/predict", {"stock": "VALE3"})
        overrides = {"model.hidden_size": 4, "trainer.max_epochs": 2, "promote": "never"}
        ask(port, "/train", {"stock": "ITUB4", "inicio": "2015-01-01", "fim": "2024-12-30", "overrides": overrides})
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def make():
    """A home with one of each, and the commands that continue what is not finished."""
    rmtree(ROOT, ignore_errors=True)
    PRICES.mkdir(parents=True)
    for seed, stock in enumerate(STOCKS):
        with_ranges(random_walk(seed=seed), seed=seed).to_csv(PRICES / f"{stock}.csv", index=False)
    call("train.py", *SHARED, "promote=always")
    call("train.py", *CHAMPION, "promote=always")
    call("tune.py", *STUDY, "trials=2")
    served()
    backtest = interrupted("backtest.py", *BACKTEST, once="backtest/*/parts/000 last close.parquet")
    sweep = interrupted("train.py", "-m", *SWEEP, once="multirun/*/0/job.json")
    training = interrupted("train.py", *INTERRUPTED, once="ABEV3/*/checkpoints/last.ckpt")
    checkpoint = training / "checkpoints/last.ckpt"
    epochs = torch.load(checkpoint, weights_only=True)["epoch"] + 3
    return {
        **{stock: ("predict", f"stock={stock}", "format=json", *SOURCE) for stock in ("VALE3", "PETR4")},
        "study": ("tune", *STUDY, "trials=3"),
        "backtest": ("backtest", *BACKTEST, f"hydra.run.dir={backtest}"),
        "sweep": ("train", "-m", *SWEEP, f"hydra.sweep.dir={sweep}"),
        "training": ("train", *INTERRUPTED, f"ckpt_path={checkpoint}", f"trainer.max_epochs={epochs}"),
    }


def pack():
    """Leave out pictures, which no code reads, and the pages that SQLite has freed."""
    for picture in [*HOME.rglob("*.png"), *HOME.rglob("*.log")]:
        picture.unlink()
    for database in HOME.rglob("*.db"):
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("VACUUM")
    with tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
        archive.add(ROOT, ".", filter=lambda entry: entry.replace(uid=0, gid=0, uname="", gname="", deep=False))


def rows(text, name):
    """The table in the folder that a command names, without what differs from run to run."""
    table = pd.read_csv(last_line(text) / name)
    kept = [name for name in table if not name.endswith("_time") and name != "run_id"]
    return json.loads(table[kept].to_json(orient="records", double_precision=15))


def figures(text):
    """The metrics of a training without its times."""
    metrics = json.loads((last_line(text) / "metrics.json").read_text(encoding="utf-8"))
    return {key: value for key, value in metrics.items() if not key.endswith("_time")}


LEFT = {
    "VALE3": json.loads,
    "PETR4": json.loads,
    "study": lambda text: rows(text, "trials.csv"),
    "backtest": lambda text: rows(text, "scores.csv"),
    "sweep": lambda text: rows(text, "sweep.csv"),
    "training": figures,
}
"""What each command of `expected` answers, or leaves in its folder, from its stdout."""


def expected(commands):
    """How this version answers from that home, and continues what is not finished there."""
    closes = pd.read_csv(PRICES / "VALE3.csv")["close"].tolist()
    loaded = [sys.executable, "-c", LOAD, json.dumps(closes)]
    forecast = subprocess.run(loaded, env=environment(HOME), check=True, stdout=subprocess.PIPE, text=True).stdout
    with closing(sqlite3.connect(HOME / "mlruns/mlflow.db")) as connection:
        query = "SELECT experiments.name, run_uuid, status FROM runs JOIN experiments USING (experiment_id)"
        runs = sorted(connection.execute(query).fetchall())
    answers = {name: LEFT[name](call(f"{program}.py", *rest)) for name, (program, *rest) in commands.items()}
    return {"commands": commands, "pyfunc": json.loads(forecast), "runs": runs, **answers}


def main():
    """Write both files, and remove the home."""
    commands = make()
    pack()
    EXPECTED.write_text(json.dumps(expected(commands), indent=1) + "\n", encoding="utf-8")
    rmtree(ROOT)


if __name__ == "__main__":
    main()
