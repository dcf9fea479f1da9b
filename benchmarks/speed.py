"""Speed of a training, side by side in alternating rounds: python benchmarks/speed.py DIR [ROUNDS].

DIR contains VALE3.csv and others (source=csv). Measures the seconds in Trainer.fit compared with a bare PyTorch loop of
the same steps on the same windows (same model, loss, clipping, optimiser, schedule and validation pass; no checkpoints,
logging or early stopping) and with neuralforecast's LSTM in its own virtual environment; the time until last close's
MAPE is reached; the data loaders; and the growth with stocks, windows and threads. Writes benchmarks/speed.md.
commands.py measures whole commands.
"""

import subprocess
import sys
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from machine import machine
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader

from pregao.cli.command import CONF
from pregao.config import parse
from pregao.data.batch import Batch, WindowDataset, as_batch
from pregao.data.panel import Panel
from pregao.data.windows import Windows
from pregao.evaluation import metrics
from pregao.evaluation.metrics import Forecasts
from pregao.evaluation.report import NAIVE, baseline_forecasts
from pregao.models.base import ForecastModel
from pregao.models.choices import build_model
from pregao.settings import REPOSITORY
from pregao.training.config import TrainConfig
from pregao.training.fit import Fitted
from pregao.training.pipeline import Pipeline
from pregao.training.steps import prepare

TABLE = Path(__file__).with_suffix(".md")
LONG = ("trainer.patience=null", "trainer.max_epochs=40")
RECIPES = {"default": (), "long": LONG, "reference": ("experiment=reference",)}
PEER = REPOSITORY / ".venv-neuralforecast"
PEER_PACKAGES = ("torch==2.13.0", "neuralforecast==3.3.0")


class Trainings:
    """Fits of one recipe on one panel, by Lightning and by a bare loop."""

    def __init__(self, prices: Path, *overrides: str) -> None:
        given = ["source=csv", f"source.path={prices}", "end=2025-07-27", "train.init=none", *overrides]
        with initialize_config_dir(str(CONF), version_base=None):
            self.config = parse(TrainConfig, compose("train", given))
        pipeline = Pipeline(self.config, Path())
        self.prices = pipeline.download()
        self.data, _ = pipeline.data(self.prices)
        self.panel = self.data.panel

    def ours(self, panel: Panel | None = None, callbacks: tuple[Callback, ...] = ()) -> tuple[ForecastModel, Fitted]:
        """A fit by the code of train.py."""
        data = copy(self.data)
        data.panel = panel or self.panel
        with TemporaryDirectory() as folder:
            training = prepare(self.config, data.panel, Path(folder), callbacks=callbacks)
            return training.module.model, training.fit(data)

    def bare(self, epochs: int) -> float:
        """Seconds of the same steps in a loop without Lightning."""
        optimizer, clip = self.config.optimizer, self.config.trainer.gradient_clip_val
        torch.manual_seed(self.config.seed)
        model = build_model(self.config.network(len(self.panel.stocks)))
        train, validation = as_batch(self.panel.split.train), as_batch(self.panel.split.validation)
        model.initialise(train)
        dataset = WindowDataset(self.panel.split.train)
        adam = torch.optim.Adam(model.parameters(), lr=optimizer.learning_rate, weight_decay=optimizer.weight_decay)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.config.trainer.max_epochs)
        started = perf_counter()
        for _ in range(epochs):
            model.train()
            for index in torch.randperm(len(dataset)).split(self.config.data.batch_size):
                adam.zero_grad()
                model.loss(dataset[index.tolist()]).backward()
                if clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), clip)
                adam.step()
            model.eval()
            with torch.no_grad():
                model.loss(validation).item()
            if optimizer.schedule == "cosine":
                cosine.step()
        return perf_counter() - started


class Clock(Callback):
    """Seconds since the fit started, and the validation part's MAPE in percent, after each epoch."""

    def __init__(self, panel: Panel) -> None:
        self.validation = as_batch(panel.split.validation)
        self.found: list[tuple[float, float]] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.started = perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the time and the MAPE."""
        inputs, targets, _ = self.validation
        seconds = perf_counter() - self.started
        pl_module.eval()
        with torch.no_grad():
            quantiles = pl_module(inputs).numpy()
        pl_module.train()
        self.found.append((seconds, metrics.mape(Forecasts(targets.numpy(), quantiles))))


def fits(prices: Path, rounds: int) -> Iterator[str]:
    """a) Time in fit compared with the bare loop."""
    yield "| a) time in fit | ours, s | bare loop, s | ratio |\n|---|---:|---:|---:|"
    for name, overrides in RECIPES.items():
        trainings, pairs = Trainings(prices, *overrides), []
        trainings.ours()  # the first fit of a process includes imports
        for _ in range(rounds):
            _, fitted = trainings.ours()
            pairs.append((fitted.seconds, trainings.bare(len(fitted.val_loss))))
        fit, loop = (median(column) for column in zip(*pairs, strict=True))
        ratio = median(a / b for a, b in pairs)
        yield f"| {name} recipe, {len(fitted.val_loss)} epochs | {fit:.2f} | {loop:.2f} | {ratio:.2f} |"


def peer(prices: Path, rounds: int) -> Iterator[str]:
    """c) neuralforecast's LSTM with the same windows, sizes and number of steps."""
    yield "| c) reference split, 40 epochs of batches of 32 | fit, s | ms per step | MAPE % | last close's |"
    yield "|---|---:|---:|---:|---:|"
    python = PEER / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", PEER], check=True)
        done = subprocess.run([PEER / "bin/pip", "install", "--quiet", *PEER_PACKAGES], capture_output=True, text=True)
        if done.returncode:
            yield failed("cannot be installed here", done.stderr)
            return
    for stock in ("VALE3", "PETR4"):
        trainings = Trainings(prices, f"stock={stock}", "evaluation.split=reference", *LONG)
        test = trainings.panel.split.test
        steps = 40 * -(-len(trainings.panel.split.train) // 32)
        trainings.ours()
        ours, theirs = [], []
        with TemporaryDirectory() as folder:
            closes = trainings.prices[stock][["date", "close"]]
            closes.to_csv(f"{folder}/closes.csv", index=False)
            np.save(f"{folder}/cutoffs.npy", test.cutoffs)
            for _ in range(rounds):
                model, fitted = trainings.ours()
                with torch.no_grad():
                    forecast = model.eval()(as_batch(test).inputs).numpy()
                ours.append((fitted.seconds, metrics.mape(Forecasts(test.targets, forecast))))
                script = str(Path(__file__).with_name("peer_lstm.py"))
                command = [python, script, folder, str(steps), str(trainings.panel.borders[0])]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    yield failed(f"fails here on {stock}", done.stderr)
                    return
                theirs.append((float(done.stdout.split()[-1]), mape_of(folder, test)))
        naive = baseline_forecasts(test, trainings.prices, trainings.panel.borders[1], [NAIVE])[NAIVE]
        last = metrics.mape(Forecasts(test.targets, naive))
        for name, rows in (("Pregão", ours), ("neuralforecast's LSTM", theirs)):
            seconds, mape = (median(column) for column in zip(*rows, strict=True))
            step = 1000 * seconds / steps
            yield f"| {stock}: {name}, {steps} steps | {seconds:.1f} | {step:.2f} | {mape:.3f} | {last:.3f} |"
        ratio = median(a / b for (a, _), (b, _) in zip(ours, theirs, strict=True))
        yield f"| {stock}: ratio of the times | {ratio:.2f} | | | |"


def failed(how: str, stderr: str) -> str:
    """The table row with the reason of a failure."""
    return f"| neuralforecast's LSTM {how}: {stderr.strip().splitlines()[-1][:100]} | | | | |"


def mape_of(folder: str, test: Windows) -> float:
    """The MAPE of the peer on the test windows."""
    points = np.load(f"{folder}/forecasts.npy").astype(np.float64)
    return metrics.mape(Forecasts(test.targets, points[..., None], levels=(0.5,)))


def to_last_close(prices: Path) -> Iterator[str]:
    """d) Time until the learned median is as good as last close."""
    trainings = Trainings(prices, *LONG)
    clock = Clock(trainings.panel)
    trainings.ours(callbacks=(clock,))
    validation = trainings.panel.split.validation
    naive = baseline_forecasts(validation, trainings.prices, trainings.panel.borders[0], [NAIVE])[NAIVE]
    last = metrics.mape(Forecasts(validation.targets, naive))
    yield "| d) until the validation MAPE is that of last close | s in fit | epochs |\n|---|---:|---:|"
    for name, bound in (("as good", last), ("within 0.1 % of it", 1.001 * last)):
        first = next(((n + 1, seconds) for n, (seconds, mape) in enumerate(clock.found) if mape <= bound), None)
        yield f"| {name} | {f'{first[1]:.2f} | {first[0]}' if first else 'never | –'} |"


def loaders(prices: Path, rounds: int) -> Iterator[str]:
    """e) Windows per second of the data loaders."""
    trainings = Trainings(prices)
    split, size = trainings.panel.split, trainings.config.data.batch_size
    ours = trainings.data.train_dataloader()
    plain = DataLoader(WindowDataset(split.train), size, shuffle=True)
    speeds = [[20 * len(split.train) / timed(loader) for loader in (ours, plain)] for _ in range(rounds)]
    yield "| e) windows per second | ours | a plain DataLoader |\n|---|---:|---:|"
    yield "| batches of 32 | " + " | ".join(f"{median(column):,.0f}" for column in zip(*speeds, strict=True)) + " |"


def timed(loader: DataLoader[Batch]) -> float:
    """Seconds of twenty passes."""
    started = perf_counter()
    for _ in range(20):
        for _ in loader:
            pass
    return perf_counter() - started


def growth(prices: Path) -> Iterator[str]:
    """h) Time in fit by number of stocks and of windows."""
    names = sorted(path.stem for path in prices.glob("*.csv") if path.stem != "BVSP")
    yield "| h) two epochs, batches of 32 | windows | fit, s | ms per 1,000 windows |\n|---|---:|---:|---:|"
    two = ("trainer.patience=null", "trainer.max_epochs=2")
    for count in (1, 6, len(names)):
        chosen = ("stock=SHARED", f"stocks=[{','.join(names[:count])}]") if count > 1 else (f"stock={names[0]}",)
        trainings = Trainings(prices, *two, *chosen)
        yield row_of(f"{count} stocks", trainings, trainings.panel)
    trainings = Trainings(prices, *two)
    for number in (1_000, 10_000, 100_000):
        train = trainings.panel.split.train
        places = np.arange(number) % len(train)
        split = replace(trainings.panel.split, train=train.where(places))
        yield row_of("VALE3, repeated", trainings, replace(trainings.panel, split=split))


def threads(prices: Path, rounds: int) -> Iterator[str]:
    """i) Two epochs with one thread and with two."""
    yield "| i) threads, two epochs | hidden × batch | one, s | two, s | ratio |\n|---|---:|---:|---:|---:|"
    for hidden, batch in ((40, 32), (40, 128), (40, 256), (80, 128), (256, 64)):
        size = (f"model.hidden_size={hidden}", f"data.batch_size={batch}")
        alone, both = (
            Trainings(prices, *size, "trainer.patience=null", "trainer.max_epochs=2", f"trainer.threads={number}")
            for number in (1, 2)
        )
        pairs = [(alone.ours()[1].seconds, both.ours()[1].seconds) for _ in range(rounds)]
        one, two = (median(column) for column in zip(*pairs, strict=True))
        ratio = median(a / b for a, b in pairs)
        yield f"| hidden {hidden}, batches of {batch} | {hidden * batch:,} | {one:.2f} | {two:.2f} | {ratio:.2f} |"
    torch.set_num_threads(1)


def row_of(name: str, trainings: Trainings, panel: Panel) -> str:
    """A row of the growth table."""
    _, fitted = trainings.ours(panel)
    windows = len(panel.split.train)
    return f"| {name} | {windows:,} | {fitted.seconds:.2f} | {1e6 * fitted.seconds / 2 / windows:.0f} |"


def main(prices: Path, rounds: int) -> None:
    """Print and write the tables."""
    torch.set_num_threads(1)
    lines: list[str] = []
    few = min(rounds, 3)
    for part in (
        fits(prices, rounds),
        peer(prices, few),
        to_last_close(prices),
        loaders(prices, rounds),
        growth(prices),
        threads(prices, rounds),
    ):
        for line in part:
            print(line, flush=True)
            lines.append(line)
        lines.append("")
    note = f"Medians of {rounds} (c: {few}) alternating rounds, one thread, on: {machine()}. To repeat: `make bench`."
    TABLE.write_text("\n".join(["# Speed of a training", "", *lines, note, ""]), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
