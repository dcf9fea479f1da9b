from functools import partial

import torch

from pregao.datamodule import EpochShuffle, PricesDataModule
from pregao.windows import fraction_borders, split_windows
from tests.conftest import random_walk


def module(seed=1):
    split = split_windows("VALE3", random_walk(), 20, 10, partial(fraction_borders, train=0.7, validation=0.15))
    return PricesDataModule(split, batch_size=32, seed=seed)


def test_an_epoch_shows_every_training_window_once():
    data = module()
    inputs = torch.cat([x for x, _ in data.train_dataloader()])
    assert len(inputs) == len(data.split.train)
    assert sorted(inputs[:, -1].tolist()) == sorted(data.split.train.inputs[:, -1].tolist())


def test_inputs_and_targets_stay_together():
    rows = {tuple(x): tuple(y) for x, y in zip(module().split.train.inputs, module().split.train.targets, strict=True)}
    for inputs, targets in module().train_dataloader():
        assert all(rows[tuple(x.tolist())] == tuple(y.tolist()) for x, y in zip(inputs, targets, strict=True))


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
        [(inputs, targets)] = list(loader)
        assert torch.equal(inputs, torch.from_numpy(part.inputs.copy()))
        assert torch.equal(targets, torch.from_numpy(part.targets.copy()))
