import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from pregao.data.batch import OTHER_STOCK, WindowDataset, as_batch
from pregao.data.datamodule import EpochBatches
from pregao.errors import TooFewSessions
from tests.conftest import random_walk, windows_of


def module(seed=1, load=None):
    data = windows_of(load or (lambda: {"VALE3": random_walk()}), seed=seed)
    data.setup()
    return data


def test_an_epoch_shows_every_training_window_once():
    data = module()
    closes = torch.cat([batch.inputs.closes for batch in data.train_dataloader()])
    assert len(closes) == len(data.panel.split.train)
    assert sorted(closes[:, -1].tolist()) == sorted(data.panel.split.train.inputs[:, -1].tolist())


def test_a_batch_has_the_chosen_number_of_windows():
    sizes = [len(batch.targets) for batch in module().train_dataloader()]
    assert set(sizes[:-1]) == {32}
    assert 0 < sizes[-1] <= 32


def test_closes_measures_and_targets_stay_together():
    data = module()
    part = data.panel.split.train
    rows = {tuple(x): (*v, *y) for x, v, y in zip(part.inputs, part.volatilities, part.targets, strict=True)}
    for inputs, targets in data.train_dataloader():
        for closes, measures, after in zip(*(t.tolist() for t in (*inputs[:2], targets)), strict=True):
            assert rows[tuple(closes)] == (*measures, *after)


def test_the_order_depends_on_seed_and_epoch_alone():
    orders = {}
    for seed, epoch in [(1, 0), (1, 1), (2, 5)]:
        batches = EpochBatches(DistributedSampler(range(50), 1, 0, seed=seed), 8)
        batches.set_epoch(epoch)
        torch.rand(3)
        orders[seed, epoch] = list(batches)
        assert list(batches) == orders[seed, epoch]
    assert len({str(order) for order in orders.values()}) == 3


def test_a_loader_leaves_the_global_random_numbers_alone():
    data = module()
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    for _ in data.train_dataloader():
        pass
    assert torch.equal(torch.rand(1), expected)


def test_validation_and_test_are_whole_and_in_order():
    data = module()
    split = data.panel.split
    for loader, part in [(data.val_dataloader(), split.validation), (data.test_dataloader(), split.test)]:
        [(inputs, targets)] = list(loader)
        assert torch.equal(inputs.closes, torch.from_numpy(part.inputs.copy()))
        assert torch.equal(inputs.measures, torch.from_numpy(part.volatilities.copy()))
        assert torch.equal(targets, torch.from_numpy(part.targets.copy()))


def test_prices_stay_float64_and_the_tensors_are_copies_of_the_history():
    part = module().panel.split.train
    inputs, targets = as_batch(part)
    assert (inputs.closes.dtype, inputs.measures.dtype, targets.dtype) == (torch.float64, torch.float32, torch.float64)
    inputs.closes.zero_()
    assert np.all(part.inputs > 0)


def test_a_window_knows_the_place_of_its_stock_among_the_models():
    data = module(load=lambda: {"VALE3": random_walk(), "PETR4": random_walk(seed=1)})
    part = data.panel.split.train
    assert as_batch(part, ["PETR4", "ITUB4"]).inputs.stock.tolist() == [
        0 if stock == "PETR4" else OTHER_STOCK for stock in part.stocks
    ]
    [(inputs, _)] = list(data.val_dataloader())
    assert set(inputs.stock.tolist()) == {0, 1}


def test_a_plain_loader_collates_single_windows():
    dataset = WindowDataset(module().panel.split.train, ["VALE3"])
    inputs, targets = next(iter(DataLoader(dataset, batch_size=4)))
    assert inputs.closes.shape == (4, 20)
    assert targets.shape == (4, 10)
    assert torch.equal(inputs.closes, dataset[:4].inputs.closes)


def test_prices_are_loaded_once_for_the_windows_and_once_for_the_cache():
    calls = []
    data = windows_of(lambda: calls.append(1) or {"VALE3": random_walk()})
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    data.prepare_data()
    assert len(calls) == 2


def test_too_short_a_history_is_refused():
    with pytest.raises(TooFewSessions, match="35"):
        module(load=lambda: {"VALE3": pd.DataFrame(random_walk(35))})
