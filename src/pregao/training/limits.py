"""Limits of a training: an estimate of its cost before it starts, and bounds of its memory and time while it runs."""

import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from errno import ENOMEM
from typing import TYPE_CHECKING

import psutil

from pregao.errors import LimitReached, TrainingTooLarge, causes
from pregao.prices.symbols import Symbol
from pregao.training.config import FitConfig, LimitChoices, TrainConfig

if TYPE_CHECKING:
    from torch import Tensor

    from pregao.data.batch import Batch
    from pregao.models.base import ForecastModel

MEGABYTE = 2**20

FIRST_PRICES = date(1999, 1, 1)
"""No source has earlier closes."""

MEMORY_OF_PROGRAM = 600
"""MB of a training of a small network, most of them the code of torch, Lightning and MLflow."""

COPIES_OF_WEIGHTS = 5
"""Weights, gradients, Adam's two means, and the best epoch's weights."""

SECONDS_BETWEEN_SIGNALS = 10
"""Other libraries may catch the error of the first signal."""


@dataclass(frozen=True)
class Cost:
    """The estimated cost of a training.

    Attributes:
        parameters: trained weights.
        windows: of the training part.
        epochs: the maximum number.
        memory: MB of the whole process, within a factor of two.
    """

    parameters: int
    windows: int
    epochs: int
    memory: float

    @property
    def operations(self) -> int:
        """Proportional to the time of the training: one costs 1 to 4 nanoseconds on one core."""
        return self.parameters * self.windows * self.epochs


def estimate(config: FitConfig, windows: int) -> Cost:
    """The cost of training on this number of windows: the network is built, and run on ten of them."""
    import torch  # late: takes a second

    from pregao.models.choices import build_model

    with torch.random.fork_rng():
        model = build_model(config.network(len(config.stocks or [config.stock])))
        trained = sum(weights.numel() for weights in model.parameters() if weights.requires_grad)
        # The difference leaves out what does not depend on the batch, such as copies of the weights.
        per_window = (_saved_bytes(model, config, 9) - _saved_bytes(model, config, 1)) / 8 if trained else 0
    batch = min(config.data.batch_size, windows)
    bytes_ = 4 * COPIES_OF_WEIGHTS * trained + per_window * batch
    return Cost(trained, windows, config.trainer.max_epochs, MEMORY_OF_PROGRAM + bytes_ / MEGABYTE)


def most_windows(config: TrainConfig) -> int:
    """The windows of the training part if every session of the range has a close: known without prices."""
    from pregao.prices.calendar import sessions  # late: pandas takes half a second

    start, end = config.dates
    stocks = [Symbol.parse(stock) for stock in config.stocks or [config.stock]]
    until = min(end or date.max, datetime.now(UTC).date())
    days = sum(len(sessions(stock.calendar, max(start, FIRST_PRICES), until)) for stock in stocks)
    part = 1.0 if config.evaluation.split == "published" else config.evaluation.train
    return max(1, round(part * (days - len(stocks) * (config.data.lookback + config.data.horizon - 1))))


def refuse_too_large(config: TrainConfig, windows: int | None = None) -> None:
    """Estimate the cost of a training that has limits, on this number of windows or on `most_windows`.

    Raises:
        TrainingTooLarge: the estimate is above a limit.
    """
    limits = config.limits
    if limits is None:
        return
    cost = estimate(config, most_windows(config) if windows is None else windows)
    if cost.operations > (limits.operations or math.inf):
        found = f"{cost.parameters:,} parameters × {cost.windows:,} windows × {cost.epochs:,} epochs"
        raise TrainingTooLarge(f"{found} = {cost.operations:.2g}", f"{limits.operations:.2g}", "limits.operations")
    if cost.memory > (limits.memory or math.inf):
        raise TrainingTooLarge(f"about {cost.memory:,.0f} MB of memory", f"{limits.memory:,.0f} MB", "limits.memory")


@contextmanager
def enforced(limits: LimitChoices | None) -> Iterator[None]:
    """Bound the memory and the time of this process for the block; call it from the main thread.

    The memory is bounded by RLIMIT_DATA, which counts what a process can write; an address space is much larger.

    Raises:
        LimitReached: the block needed more.
    """
    if limits is None:
        yield
        return
    try:
        with _bounded_memory(limits.memory), _bounded_time(limits.minutes):
            yield
    except Exception as error:
        if limits.memory is not None and any(map(_is_lack_of_memory, causes(error))):
            raise LimitReached(f"{limits.memory:,.0f} MB of memory", "limits.memory") from error
        raise


@contextmanager
def _bounded_memory(megabytes: float | None) -> Iterator[None]:
    if megabytes is None or not hasattr(psutil, "RLIMIT_DATA"):  # Linux has it
        yield
        return
    process = psutil.Process()
    before = process.rlimit(psutil.RLIMIT_DATA)
    process.rlimit(psutil.RLIMIT_DATA, (int(megabytes * MEGABYTE), before[1]))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_DATA, before)


@contextmanager
def _bounded_time(minutes: float | None) -> Iterator[None]:
    if minutes is None or not hasattr(signal, "SIGALRM"):
        yield
        return

    def end(number: int, frame: object) -> None:
        raise LimitReached(f"{minutes:g} minutes", "limits.minutes")

    previous = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, 60 * minutes, SECONDS_BETWEEN_SIGNALS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _is_lack_of_memory(error: BaseException) -> bool:
    """PyTorch reports it as a RuntimeError, the loader of a library as an ImportError."""
    return isinstance(error, MemoryError) or os.strerror(ENOMEM) in str(error) or "bad_alloc" in str(error)


def _saved_bytes(model: "ForecastModel", config: FitConfig, windows: int) -> int:
    """The bytes that one step keeps for its gradients."""
    from torch.autograd.graph import saved_tensors_hooks

    kept: dict[int, Tensor] = {}

    def keep(tensor: "Tensor") -> "Tensor":
        kept[tensor.untyped_storage().data_ptr()] = tensor  # the tensor keeps its address from being used again
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        model.loss(_any_windows(config, len(model.measures), windows))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _any_windows(config: FitConfig, measures: int, windows: int) -> "Batch":
    import torch

    from pregao.data.batch import Batch, Inputs

    closes = 50.0 + torch.arange(config.data.lookback, dtype=torch.float64).repeat(windows, 1)
    known, stock = torch.full((windows, measures), 0.02), torch.zeros(windows, dtype=torch.int64)
    ahead = torch.ones(windows, config.data.horizon)
    return Batch(Inputs(closes, known, stock), 50.0 * ahead.double(), 1e-4 * ahead)
