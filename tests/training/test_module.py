import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from pregao.data.batch import WindowDataset, as_batch
from pregao.models.absolute import AbsoluteModel
from pregao.models.base import pinball_loss
from pregao.models.recurrent import RecurrentModel
from pregao.quantiles import LEVELS, MEDIAN
from pregao.training.module import ForecastModule
from tests.conftest import random_walk, windows_of

CHOICES = {"cell": "lstm", "hidden_size": 8, "num_layers": 2, "dropout": 0.1}


def untrained(loss="pinball", **choices):
    """A model with the initial weights of a seed."""
    torch.manual_seed(1)
    common = {"horizon": 10, "inputs": "window"} | CHOICES | choices
    return RecurrentModel(**common, shrinkage=0.25) if loss == "pinball" else AbsoluteModel(**common)


def module(loss="pinball", learning_rate=5e-4, schedule="constant", **choices):
    chosen = {"learning_rate": learning_rate, "weight_decay": 1e-5, "schedule": schedule, "seed": 1}
    return ForecastModule(untrained(loss, **choices), **chosen)


def data(table=None):
    history = {"VALE3": random_walk() if table is None else table}
    found = windows_of(lambda: history)
    found.setup()
    return found


def trainer(**choices):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(accelerator="cpu", enable_checkpointing=False, **quiet, **choices)


@pytest.fixture(params=[True, pytest.param(False, marks=pytest.mark.slow)])
def fast_dev_run(request):
    return request.param


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("loss", ["pinball", "mse"])
def test_every_choice_trains_validates_and_tests(cell, loss, fast_dev_run):
    learner, batches = module(loss=loss, cell=cell), data()
    run = trainer(fast_dev_run=fast_dev_run, max_epochs=2)
    run.fit(learner, datamodule=batches)
    [scores] = run.test(learner, datamodule=batches, verbose=False)
    assert set(scores) == {"test_rmse", "test_mape"}


def test_a_plain_loader_over_the_dataset_trains_too():
    split, learner = data().panel.split, module()
    train = DataLoader(WindowDataset(split.train), batch_size=32, shuffle=True)
    trainer(max_epochs=1).fit(learner, train, DataLoader(WindowDataset(split.validation), batch_size=32))
    assert learner.model.fitted
    assert learner.model.head.weight.abs().max() > 0


def test_pinball_is_its_definition():
    torch.manual_seed(0)
    quantiles, targets = torch.randn(5, 3, 7).sort(dim=-1).values, torch.randn(5, 3)
    losses = [
        level * (y - q) if y >= q else (1 - level) * (q - y)
        for row, ys in zip(quantiles.tolist(), targets.tolist(), strict=True)
        for step, y in zip(row, ys, strict=True)
        for level, q in zip(LEVELS, step, strict=True)
    ]
    assert pinball_loss(quantiles, targets, torch.tensor(LEVELS)).item() == pytest.approx(np.mean(losses), rel=1e-6)


def test_pinball_is_least_at_the_true_quantiles():
    torch.manual_seed(0)
    targets, levels = torch.randn(20_000, 1), torch.tensor(LEVELS)
    true = torch.quantile(targets, levels).expand(20_000, 1, 7)
    best = pinball_loss(true, targets, levels)
    for other in (true * 1.2, true * 0.8, true + 0.1, true - 0.1):
        assert pinball_loss(other, targets, levels) > best


def restless(n, seed):
    """A stock whose volatility falls and rises in spells of fifty sessions, far more than the fan's blend follows."""
    sizes = np.where(np.arange(n) // 50 % 2 == 0, 0.005, 0.04)
    returns = sizes * np.random.default_rng(seed).normal(size=n)
    return pd.DataFrame({"date": pd.bdate_range("2010-01-01", periods=n), "close": 50 * np.exp(returns.cumsum())})


def test_training_beats_the_untrained_bands_where_volatility_comes_in_spells():
    batches = data(restless(2500, seed=0))
    learner, other = (module(learning_rate=5e-3, dropout=0.0, num_layers=1) for _ in range(2))
    other.model.fit_statistics(*as_batch(batches.panel.split.train))
    run = trainer(max_epochs=6)
    [before] = run.validate(other, datamodule=batches, verbose=False)
    run.fit(learner, datamodule=batches)
    [after] = run.validate(learner, datamodule=batches, verbose=False)
    assert after["val_loss"] < 0.97 * before["val_loss"]


def test_the_cosine_lets_the_learning_rate_fall_to_zero():
    rates = []

    class Rates(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer(max_epochs=4, callbacks=[Rates()]).fit(module(schedule="cosine"), datamodule=data())
    assert rates == pytest.approx([5e-4 * (1 + np.cos(np.pi * epoch / 4)) / 2 for epoch in range(4)])


@pytest.mark.parametrize("loss", ["pinball", "mse"])
def test_test_errors_are_those_of_the_forecasts_in_price_units(loss):
    learner, batches = module(loss=loss), data()
    [scores] = trainer().test(learner, datamodule=batches, verbose=False)
    inputs, targets = as_batch(batches.panel.split.test)
    learner.eval()
    with torch.no_grad():
        error = learner(inputs)[..., MEDIAN] - targets
    assert scores["test_rmse"] == pytest.approx(error.square().mean().sqrt().item(), rel=1e-5)
    assert scores["test_mape"] == pytest.approx((error / targets).abs().mean().item(), rel=1e-5)


def test_the_validation_loss_is_that_of_the_whole_part():
    learner, batches = module(), data()
    [scores] = trainer().validate(learner, datamodule=batches, verbose=False)
    learner.eval()
    with torch.no_grad():
        expected = learner.model.loss(*as_batch(batches.panel.split.validation))
    assert scores["val_loss"] == pytest.approx(expected.item(), rel=1e-6)


def test_the_training_loss_is_known_after_each_epoch_as_the_mean_of_its_steps():
    steps, means = [], []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            steps.append(outputs["loss"].item())

        def on_train_epoch_end(self, trainer, pl_module):
            means.append((trainer.callback_metrics["train_loss"].item(), np.mean(steps)))
            steps.clear()

    trainer(max_epochs=3, callbacks=[Watch()]).fit(module(), datamodule=data())
    assert len(means) == 3
    assert all(logged == pytest.approx(mean, rel=1e-6) for logged, mean in means)


def test_statistics_that_came_with_the_weights_are_kept():
    learner = module()
    learner.model.fitted.fill_(True)
    before = learner.model.gaps.clone()
    trainer(max_epochs=1).fit(learner, datamodule=data())
    assert torch.equal(learner.model.gaps, before)
