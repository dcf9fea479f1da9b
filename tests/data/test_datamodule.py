from types import SimpleNamespace

import torch
from torch.utils.data import DistributedSampler

from pregao.data import datamodule
from pregao.data.batch import as_batch
from pregao.data.datamodule import EpochBatches
from pregao.data.stock_index import OTHER_STOCK
from tests.conftest import random_walk, windows_of


def module(stocks=("VALE3",), n=400):
    data = windows_of(lambda: {stock: random_walk(n, seed=seed) for seed, stock in enumerate(stocks)})
    data.setup()
    return data


def test_an_epoch_contains_every_training_window_once_in_batches_of_the_chosen_size():
    data = module()
    part = data.panel.split.train
    rows = {tuple(x): (*v, *y) for x, v, y in zip(part.inputs, part.volatilities, part.targets, strict=True)}
    sizes = []
    for inputs, targets, _ in data.train_dataloader():
        sizes.append(len(targets))
        for closes, measures, after in zip(*(t.tolist() for t in (*inputs[:2], targets)), strict=True):
            assert rows.pop(tuple(closes)) == (*measures, *after)
    assert not rows
    assert set(sizes[:-1]) == {32}
    assert 0 < sizes[-1] <= 32


def test_two_processes_share_each_batch():
    data, seen = module(), []
    for rank in (0, 1):
        data.trainer = SimpleNamespace(global_rank=rank, world_size=2)
        batches = [batch.inputs.closes for batch in data.train_dataloader()]
        assert len(batches[0]) == 16
        seen += torch.cat(batches)[:, -1].tolist()
    assert {*seen} == {*data.panel.split.train.inputs[:, -1]}


def test_the_order_depends_only_on_seed_and_epoch():
    orders = {}
    for seed, epoch in [(1, 0), (1, 1), (2, 5)]:
        batches = EpochBatches(DistributedSampler(range(50), 1, 0, seed=seed), 8)
        batches.set_epoch(epoch)
        torch.rand(3)
        orders[seed, epoch] = list(batches)
        assert list(batches) == orders[seed, epoch]
    assert len({str(order) for order in orders.values()}) == 3


def test_without_shuffling_every_epoch_has_the_windows_in_their_order():
    data = module()
    data.shuffle = False
    loader = data.train_dataloader()
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        closes = torch.cat([batch.inputs.closes for batch in loader])
        assert torch.equal(closes, torch.from_numpy(data.panel.split.train.inputs.copy()))


def test_validation_and_test_are_one_ordered_batch_each():
    data = module()
    split = data.panel.split
    for loader, part in [(data.val_dataloader(), split.validation), (data.test_dataloader(), split.test)]:
        [(inputs, targets, variances)] = list(loader)
        assert torch.equal(inputs.closes, torch.from_numpy(part.inputs.copy()))
        assert torch.equal(inputs.measures, torch.from_numpy(part.volatilities.copy()))
        assert torch.equal(targets, torch.from_numpy(part.targets.copy()))
        assert variances.shape == targets.shape


def test_a_large_part_is_evaluated_in_several_batches(monkeypatch):
    monkeypatch.setattr(datamodule, "LARGEST_BATCH", 30)
    data = module()
    sizes = [len(batch.targets) for batch in data.val_dataloader()]
    assert sizes[:-1] == [30] * (len(sizes) - 1)
    assert len(sizes) > 1
    assert sum(sizes) == len(data.panel.split.validation)


def test_a_batch_is_a_copy_of_the_history_with_prices_in_float64():
    part = module().panel.split.train
    inputs, targets, _ = as_batch(part)
    assert (inputs.closes.dtype, inputs.measures.dtype, targets.dtype) == (torch.float64, torch.float32, torch.float64)
    inputs.closes.zero_()
    assert (part.inputs > 0).all()


def test_a_window_has_the_index_of_its_stock_in_the_model():
    data = module(("VALE3", "PETR4"))
    part = data.panel.split.train
    expected = [0 if stock == "PETR4" else OTHER_STOCK for stock in part.stocks]
    assert as_batch(part, ["PETR4", "ITUB4"]).inputs.stock.tolist() == expected
    [(inputs, *_)] = list(data.val_dataloader())
    assert set(inputs.stock.tolist()) == {0, 1}


def test_prices_are_loaded_once_for_the_cache_and_once_for_the_windows():
    calls = []
    data = windows_of(lambda: calls.append(1) or {"VALE3": random_walk()})
    data.prepare_data()
    for stage in ("fit", "test"):
        data.setup(stage)
    data.prepare_data()
    assert len(calls) == 2
