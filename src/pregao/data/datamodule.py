"""LightningDataModule: histories → windows → batches. A batch is one indexing of in-memory tensors."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from typing import cast

import pandas as pd
import pytorch_lightning as pl
import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, Sampler

from pregao.data.batch import LARGEST_BATCH, Batch, WindowDataset
from pregao.data.market import Market
from pregao.data.panel import ALL_PARTS, Panel, build_panel
from pregao.data.seeds import ORDER, derived
from pregao.data.windows import BorderRule, Windows


class EpochBatches(BatchSampler):
    """Batches of indices in an order set by seed and epoch, so that a resumed run sees the same batches."""

    def __init__(self, order: "DistributedSampler[Batch]", batch_size: int) -> None:
        super().__init__(cast("Sampler[int]", order), batch_size, drop_last=False)
        self.order = order

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.order.set_epoch(epoch)


class PricesDataModule(pl.LightningDataModule):
    """Windows of one or more stocks, split by date, prices in the stocks' currency.

    Args:
        load: returns the histories by ticker: `date close`, and `open high low` if known.
        lookback: closes per window.
        horizon: closes to forecast.
        inputs: the measures, a key of `volatility.NAMES`.
        split: where the validation and the test part start.
        batch_size: windows of an optimiser step, over all processes.
        seed: of the order of the training windows.
        shuffle: whether that order differs in each epoch; False: by stock, oldest first.
        typical: typical volatility of the model that training starts from; None estimates it from the training part.
        needed: parts that must not be empty.
        since: the first day of the windows; earlier sessions serve only the measures. None for all days.
        market: market factor of the model that training starts from; None computes it from the histories.

    Attributes:
        panel: the windows, after `setup`.
    """

    panel: Panel

    def __init__(
        self,
        load: Callable[[], Mapping[str, pd.DataFrame]],
        *,
        lookback: int,
        horizon: int,
        inputs: str,
        split: BorderRule,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        typical: float | None = None,
        needed: Sequence[str] = ALL_PARTS,
        since: date | None = None,
        market: Market | None = None,
    ) -> None:
        super().__init__()
        self.load = load
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self._copies: list[WindowDataset] = []
        self._build = partial(
            build_panel,
            lookback=lookback,
            horizon=horizon,
            inputs=inputs,
            rule=split,
            typical=typical,
            needed=needed,
            since=since,
            market=market,
        )

    def prepare_data(self) -> None:
        """Download in one process; the other processes then read the cache."""
        if not self._is_built:
            self.load()

    def setup(self, stage: str | None = None) -> None:
        """Build the windows, once.

        Raises:
            TooFewSessions: a part of the split would be empty.
        """
        if not self._is_built:
            self.panel = self._build(self.load())

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches in an order set by seed and epoch; the processes share each batch."""
        rank, processes = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        dataset = self._dataset(self.panel.split.train)
        order: DistributedSampler[Batch] = DistributedSampler(
            dataset, processes, rank, self.shuffle, seed=derived(self.seed, ORDER)
        )
        return _loader(dataset, EpochBatches(order, self.batch_size // processes))

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation part, complete in each process: all see the same loss and stop together."""
        return self._whole(self.panel.split.validation)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test part."""
        return self._whole(self.panel.split.test)

    def teardown(self, stage: str) -> None:
        """Free the loaders' copies of the windows after a fit: Lightning's reference cycles would keep them."""
        for dataset in self._copies:
            del dataset.batch
        self._copies.clear()

    @property
    def _is_built(self) -> bool:
        return hasattr(self, "panel")

    def _dataset(self, part: Windows) -> WindowDataset:
        self._copies.append(WindowDataset(part, self.panel.stocks))
        return self._copies[-1]

    def _whole(self, part: Windows) -> DataLoader[Batch]:
        dataset = self._dataset(part)
        return _loader(dataset, BatchSampler(range(len(dataset)), LARGEST_BATCH, drop_last=False))


def _loader(dataset: WindowDataset, batches: BatchSampler) -> DataLoader[Batch]:
    # batch_size=None: the dataset indexes by a list, so nothing is collated. A separate generator: the loader would
    # otherwise draw from the global one, which dropout uses.
    return DataLoader(dataset, batch_size=None, sampler=batches, generator=torch.Generator())
