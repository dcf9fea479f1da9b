from functools import partial

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

from pregao.data.datamodule import PricesDataModule, tensors
from pregao.data.windows import fraction_borders, sliding_windows, split_windows
from pregao.evaluation.metrics import Forecasts, mape, rmse
from pregao.quantiles import LEVELS
from pregao.training.module import Forecaster, pinball_loss
from tests.conftest import random_walk
from tests.models.test_trained import CHOICES

ABSOLUTE = {name: value for name, value in CHOICES.items() if name != "shrinkage"} | {"scaling": "none"}


def forecaster(loss="pinball", learning_rate=5e-4, schedule="constant", **choices):
    network = (CHOICES if loss == "pinball" else ABSOLUTE) | choices
    return Forecaster(network, loss=loss, learning_rate=learning_rate, weight_decay=1e-5, seed=1, schedule=schedule)


def data(table=None):
    windows = sliding_windows(random_walk() if table is None else table, 20, 10)
    split = split_windows(windows, partial(fraction_borders, train=0.7, validation=0.15))
    return PricesDataModule(split, batch_size=32, seed=1)


def trainer(**choices):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(accelerator="cpu", enable_checkpointing=False, **quiet, **choices)


@pytest.fixture(params=[True, pytest.param(False, marks=pytest.mark.slow)])
def fast_dev_run(request):
    return request.param


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("loss", ["pinball", "mse"])
def test_every_choice_trains_validates_and_tests(cell, loss, fast_dev_run):
    module, batches = forecaster(loss=loss, cell=cell), data()
    run = trainer(fast_dev_run=fast_dev_run, max_epochs=2)
    run.fit(module, datamodule=batches)
    [scores] = run.test(module, datamodule=batches, verbose=False)
    assert set(scores) == {"test_rmse", "test_mae", "test_mape"}


def test_pinball_is_its_definition():
    torch.manual_seed(0)
    quantiles, goal = torch.randn(5, 3, 7).sort(dim=-1).values, torch.randn(5, 3)
    losses = [
        level * (y - q) if y >= q else (1 - level) * (q - y)
        for row, ys in zip(quantiles.tolist(), goal.tolist(), strict=True)
        for step, y in zip(row, ys, strict=True)
        for level, q in zip(LEVELS, step, strict=True)
    ]
    assert pinball_loss(quantiles, goal).item() == pytest.approx(np.mean(losses), rel=1e-6)


def test_pinball_is_least_at_the_true_quantiles():
    torch.manual_seed(0)
    goal = torch.randn(20_000, 1)
    true = torch.quantile(goal, torch.tensor(LEVELS)).expand(20_000, 1, 7)
    best = pinball_loss(true, goal)
    for other in (true * 1.2, true * 0.8, true + 0.1, true - 0.1):
        assert pinball_loss(other, goal) > best


def losses(module, batch, steps):
    """The loss on a batch after each of some steps."""
    optimizer = module.configure_optimizers()
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = module.loss(module.network.learned(*batch[:2]), module.network.goal(*batch))
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def test_it_can_learn_one_batch_by_heart():
    module = forecaster(learning_rate=1e-2, hidden_size=32, dropout=0.0)
    batch = [tensor[:8] for tensor in next(iter(data().train_dataloader()))]
    found = losses(module, batch, 400)
    assert found[-1] < 0.1 * found[0]


def restless(n, seed):
    """A stock whose volatility falls and rises in spells of fifty sessions, far more than the fan's blend follows."""
    sizes = np.where(np.arange(n) // 50 % 2 == 0, 0.005, 0.04)
    returns = sizes * np.random.default_rng(seed).normal(size=n)
    return pd.DataFrame({"date": pd.bdate_range("2010-01-01", periods=n), "close": 50 * np.exp(returns.cumsum())})


def test_training_beats_the_untrained_fan_where_volatility_comes_in_spells():
    batches = data(restless(2500, seed=0))
    module, untrained = (forecaster(learning_rate=5e-3, dropout=0.0, num_layers=1) for _ in range(2))
    for one in (module, untrained):
        one.network.begin_at(*tensors(batches.split.train))
    run = trainer(max_epochs=6)
    [before] = run.validate(untrained, datamodule=batches, verbose=False)
    run.fit(module, datamodule=batches)
    [after] = run.validate(module, datamodule=batches, verbose=False)
    assert after["val_loss"] < 0.97 * before["val_loss"]


def test_the_cosine_lets_the_learning_rate_fall_to_zero():
    module, rates = forecaster(schedule="cosine"), []

    class Rates(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer(max_epochs=4, callbacks=[Rates()]).fit(module, datamodule=data())
    assert rates == pytest.approx([5e-4 * (1 + np.cos(np.pi * epoch / 4)) / 2 for epoch in range(4)])


@pytest.mark.parametrize("loss", ["pinball", "mse"])
def test_validation_errors_are_in_price_units(loss):
    module, batches = forecaster(loss=loss), data()
    [scores] = trainer().validate(module, datamodule=batches, verbose=False)
    part = batches.split.validation
    closes, volatilities, _ = tensors(part)
    module.eval()
    with torch.no_grad():
        expected = Forecasts(part.targets, module(closes, volatilities).numpy())
    assert scores["val_mape"] == pytest.approx(mape(expected), rel=1e-5)
    assert scores["val_rmse"] == pytest.approx(rmse(expected), rel=1e-5)


def test_the_validation_loss_is_that_of_the_whole_part():
    module, batches = forecaster(), data()
    [scores] = trainer().validate(module, datamodule=batches, verbose=False)
    batch = tensors(batches.split.validation)
    module.eval()
    with torch.no_grad():
        expected = pinball_loss(module.network.learned(*batch[:2]), module.network.goal(*batch))
    assert scores["val_loss"] == pytest.approx(expected.item(), rel=1e-6)


def test_the_seed_decides_the_initial_weights():
    torch.manual_seed(99)
    one = forecaster().state_dict()
    torch.manual_seed(7)
    two = forecaster().state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
