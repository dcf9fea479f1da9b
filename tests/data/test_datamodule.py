from functools import partial

import numpy as np
import torch

from pregao.data.datamodule import EpochShuffle, PricesDataModule, tensors
from pregao.data.windows import fraction_borders, sliding_windows, split_windows
from tests.conftest import random_walk


def module(seed=1):
    windows = sliding_windows(random_walk(), 20, 10)
    split = split_windows(windows, partial(fraction_borders, train=0.7, validation=0.15))
    return PricesDataModule(split, batch_size=32, seed=seed)


def test_an_epoch_shows_every_training_window_once():
    data = module()
    inputs = torch.cat([x for x, _, _ in data.train_dataloader()])
    assert len(inputs) == len(data.split.train)
    assert sorted(inputs[:, -1].tolist()) == sorted(data.split.train.inputs[:, -1].tolist())


def test_closes_volatilities_and_targets_stay_together():
    part = module().split.train
    rows = {tuple(x): (*v, *y) for x, v, y in zip(part.inputs, part.volatilities, part.targets, strict=True)}
    for batch in module().train_dataloader():
        for closes, volatilities, targets in zip(*(tensor.tolist() for tensor in batch), strict=True):
            assert rows[tuple(closes)] == (*volatilities, *targets)


def test_the_order_depends_on_seed_and_epoch_alone():
    orders = {}
    for seed, epoch in [(1, 0), (1, 1), (2, 5)]:
        shuffle = EpochShuffle(50, seed)
        shuffle.set_epoch(epoch)
        torch.rand(3)
        orders[seed, epoch] = list(shuffle)
        assert list(shuffle) == orders[seed, epoch]
    assert len({tuple(order) for order in orders.values()}) == 3


def test_validation_and_test_are_whole_and_in_order():
    data = module()
    for loader, part in [(data.val_dataloader(), data.split.validation), (data.test_dataloader(), data.split.test)]:
        [(inputs, volatilities, targets)] = list(loader)
        assert torch.equal(inputs, torch.from_numpy(part.inputs.copy()))
        assert torch.equal(volatilities, torch.from_numpy(part.volatilities.copy()))
        assert torch.equal(targets, torch.from_numpy(part.targets.copy()))


def test_prices_stay_float64_and_the_tensors_are_no_views_of_the_history():
    part = module().split.train
    closes, volatilities, targets = tensors(part)
    assert (closes.dtype, volatilities.dtype, targets.dtype) == (torch.float64, torch.float32, torch.float64)
    closes.zero_()
    assert np.all(part.inputs > 0)
