"""Speed of a training, side by side in alternating rounds: python benchmarks/speed.py DIR [ROUNDS].

DIR holds VALE3.csv (source=csv). Measures the seconds inside Trainer.fit against a bare PyTorch loop with the same
steps on the same windows (the same network, loss, optimiser and validation pass each epoch; no checkpoints, metrics or
stopping), and the whole command from process start to registered model. Writes benchmarks/speed.md.
"""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import torch
from hydra import compose, initialize_config_dir
from machine import machine
from torch import Tensor

from pregao.cli import CONF
from pregao.config import TrainConfig, parse
from pregao.datamodule import PricesDataModule, tensors
from pregao.forecaster import LOSSES, Forecaster
from pregao.pipeline import Pipeline
from pregao.settings import REPOSITORY
from pregao.windows import Split

TABLE = Path(__file__).with_suffix(".md")
RECIPES = {"default": (), "reference": ("experiment=reference",)}


def configure(prices: Path, *overrides: str) -> TrainConfig:
    """A training of VALE3."""
    with initialize_config_dir(str(CONF), version_base=None):
        return parse(
            TrainConfig, compose("train", ["source=csv", f"source.path={prices}", "end=2025-07-27", *overrides])
        )


def ours(config: TrainConfig) -> tuple[float, int, Split]:
    """Seconds in fit, epochs taken, the windows."""
    with TemporaryDirectory() as folder:
        pipeline = Pipeline(config, Path(folder))
        panel = pipeline.panel(pipeline.download())
        data = PricesDataModule(panel.split, config.data.batch_size, config.seed)
        fitted = pipeline.prepare(panel).fit(data)
    return fitted.seconds, len(fitted.val_loss), panel.split


def bare(config: TrainConfig, split: Split, epochs: int) -> float:
    """Seconds of the same steps without Lightning."""
    torch.manual_seed(config.seed)
    choices = config.optimizer.model_dump()
    forecaster = Forecaster(
        config.model.network(config.data.horizon, config.data.inputs),
        loss=config.model.loss,
        seed=config.seed,
        **choices,
    )
    network, loss = forecaster.network, LOSSES[config.model.loss]
    optimizer = torch.optim.Adam(
        network.parameters(), lr=choices["learning_rate"], weight_decay=choices["weight_decay"]
    )
    seen, checked = tensors(split.train), tensors(split.validation)
    network.begin_at(*seen)
    batch_loss, clip = partial(_loss, network, loss), config.trainer.gradient_clip_val
    started = perf_counter()
    for _ in range(epochs):
        network.train()
        for index in torch.randperm(len(split.train)).split(config.data.batch_size):
            optimizer.zero_grad()
            batch_loss(*(part[index] for part in seen)).backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimizer.step()
        network.eval()
        with torch.no_grad():
            batch_loss(*checked)
    return perf_counter() - started


def _loss(network: torch.nn.Module, loss: object, closes: Tensor, volatilities: Tensor, targets: Tensor) -> Tensor:
    goal = network.goal(closes, volatilities, targets)
    return loss(network.learned(closes, volatilities), goal)  # type: ignore[operator]


def whole_run(prices: Path) -> float:
    """Seconds of `python train.py` from process start to its end, on a home that has a database."""
    command = [sys.executable, str(REPOSITORY / "train.py"), "source=csv", f"source.path={prices}", "end=2025-07-28"]
    started = perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return perf_counter() - started


def main(prices: Path, rounds: int) -> None:
    """Print and write the table."""
    torch.set_num_threads(1)
    lines = ["| what | ours, s | bare loop, s | ratio |", "|---|---:|---:|---:|"]
    for name, overrides in RECIPES.items():
        config, pairs = configure(prices, *overrides), []
        ours(config)  # the first fit of a process pays for imports
        for _ in range(rounds):
            seconds, epochs, split = ours(config)
            pairs.append((seconds, bare(config, split, epochs)))
        fit, loop = (median(column) for column in zip(*pairs, strict=True))
        ratio = median(a / b for a, b in pairs)
        lines.append(f"| time in fit, {name} recipe, {epochs} epochs | {fit:.2f} | {loop:.2f} | {ratio:.2f} |")
        print(lines[-1], flush=True)
    with TemporaryDirectory() as home:
        os.environ["PREGAO_HOME"] = home
        whole_run(prices)  # makes the database
        lines.append(
            f"| process start to registered model | {median(whole_run(prices) for _ in range(rounds)):.1f} | | |"
        )
    text = (
        "\n".join(lines)
        + f"\n\nMedians of {rounds} alternating rounds, one thread, on: {machine()}. Again: `make bench`.\n"
    )
    print(text)
    TABLE.write_text(f"# Speed of a training\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
