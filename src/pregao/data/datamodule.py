"""LightningDataModule: windows → loaders. The tensors are held whole and a batch is one indexing, not a collation."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pregao.data.windows import Split, Windows

Batch = tuple[Tensor, Tensor, Tensor]
"""Closes `[B, lookback]`, volatilities `[B, M]`, targets `[B, horizon]`."""

BATCHES_A_BLOCK = 32
"""The training loader hands out this many batches at once, and the training step takes them one after another."""


class WindowDataset(Dataset[Batch]):
    """Windows as tensors, prices in float64, handed out a batch of indices at a time."""

    def __init__(self, windows: Windows) -> None:
        self.tensors = tensors(windows)

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitems__(self, indices: list[int]) -> Batch:
        index = torch.tensor(indices)
        closes, volatilities, targets = self.tensors
        return closes[index], volatilities[index], targets[index]


class EpochShuffle(Sampler[int]):
    """A permutation that depends on the seed and the epoch alone, so that a resumed run sees the same batches.

    Of several processes each takes every `processes`-th window of it, so that the batches that they step on together
    are those of one process alone; the first windows stand in at the end where the last round is not full.
    """

    def __init__(self, size: int, seed: int, rank: int = 0, processes: int = 1) -> None:
        self.size = size
        self.seed = seed
        self.rank = rank
        self.processes = processes
        self.epoch = 0

    def __len__(self) -> int:
        return math.ceil(self.size / self.processes)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.size, generator=generator)
        missing = len(self) * self.processes - self.size
        yield from torch.cat([order, order[:missing]])[self.rank :: self.processes].tolist()

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch


class PricesDataModule(pl.LightningDataModule):
    """Batches of windows, prices in the stock's currency."""

    def __init__(self, split: Split, batch_size: int, seed: int) -> None:
        super().__init__()
        self.split = split
        self.batch_size = batch_size
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled anew each epoch."""
        dataset = WindowDataset(self.split.train)
        rank = 0 if self.trainer is None else self.trainer.global_rank
        shuffle = EpochShuffle(len(dataset), self.seed, rank, self._processes)
        return _loader(dataset, BATCHES_A_BLOCK * self.rows_a_step, shuffle)

    @property
    def rows_a_step(self) -> int:
        """Windows that a process takes in one optimiser step; all of them together take a batch."""
        return self.batch_size // self._processes

    @property
    def _processes(self) -> int:
        return 1 if self.trainer is None else self.trainer.world_size

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation part in one batch, whole in each process: all see the same loss, and stop together."""
        return _loader(WindowDataset(self.split.validation), len(self.split.validation))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Three tensors; Lightning's own search through nested collections costs a tenth of a step."""
        closes, volatilities, targets = batch
        return closes.to(device), volatilities.to(device), targets.to(device)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test part in one batch."""
        return _loader(WindowDataset(self.split.test), len(self.split.test))


def batches(block: Sequence[Tensor], rows: int) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of one length in order, some rows at a time."""
    return zip(*(torch.split(tensor, rows) for tensor in block), strict=True)


def tensors(windows: Windows) -> Batch:
    """All windows as one batch."""
    return (
        torch.from_numpy(windows.inputs.copy()),
        torch.from_numpy(windows.volatilities.copy()),
        torch.from_numpy(windows.targets.copy()),
    )


def _loader(dataset: WindowDataset, batch_size: int, sampler: EpochShuffle | None = None) -> DataLoader[Batch]:
    # A worker process would cost more than the indexing that it does. The generator of its own keeps the loader from
    # drawing on the global one, which dropout uses.
    own = torch.Generator()
    return DataLoader(dataset, batch_size, sampler=sampler, num_workers=0, collate_fn=_as_is, generator=own)


def _as_is(batch: Any) -> Any:  # noqa: ANN401 - what __getitems__ gave; torch types it as a list of items
    return batch
