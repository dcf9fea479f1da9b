"""LightningDataModule: windows → loaders. The tensors are held whole and a batch is one indexing, not a collation."""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pregao.windows import Split, Windows

Batch = tuple[Tensor, Tensor, Tensor]
"""Closes `[B, lookback]`, volatilities `[B, M]`, targets `[B, horizon]`."""


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
    """A permutation that depends on the seed and the epoch alone, so that a resumed run sees the same batches."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        yield from torch.randperm(self.size, generator=generator).tolist()

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
        return _loader(dataset, self.batch_size, EpochShuffle(len(dataset), self.seed))

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation part in one batch."""
        return _loader(WindowDataset(self.split.validation), len(self.split.validation))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Three tensors; Lightning's own search through nested collections costs a tenth of a step."""
        closes, volatilities, targets = batch
        return closes.to(device), volatilities.to(device), targets.to(device)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test part in one batch."""
        return _loader(WindowDataset(self.split.test), len(self.split.test))


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
