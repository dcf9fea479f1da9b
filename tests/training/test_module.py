import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from pregao.data.batch import WindowDataset, as_batch
from pregao.models.base import pinball_loss
from pregao.quantiles import LEVELS, MEDIAN
from tests.training.conftest import data, learner, trainer


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("loss", ["pinball", "mse"])
def test_every_choice_trains_validates_and_tests(cell, loss, fast_dev_run):
    module, batches = learner(loss=loss, cell=cell), data()
    run = trainer(fast_dev_run=fast_dev_run, max_epochs=2)
    run.fit(module, datamodule=batches)
    [scores] = run.test(module, datamodule=batches, verbose=False)
    assert set(scores) == {"test_rmse", "test_mape"}


def test_a_plain_loader_over_the_dataset_trains_too():
    split, module = data().panel.split, learner()
    loader = DataLoader(WindowDataset(split.train), batch_size=32, shuffle=True)
    trainer(max_epochs=1).fit(module, loader, DataLoader(WindowDataset(split.validation), batch_size=32))
    assert module.model.fitted
    assert module.model.head.weight.abs().max() > 0


def test_pinball_loss_is_its_definition():
    torch.manual_seed(0)
    quantiles, targets = torch.randn(5, 3, 7).sort(dim=-1).values, torch.randn(5, 3)
    losses = [
        level * (y - q) if y >= q else (1 - level) * (q - y)
        for row, ys in zip(quantiles.tolist(), targets.tolist(), strict=True)
        for step, y in zip(row, ys, strict=True)
        for level, q in zip(LEVELS, step, strict=True)
    ]
    assert pinball_loss(quantiles, targets, torch.tensor(LEVELS)).item() == pytest.approx(np.mean(losses), rel=1e-6)


def changing_volatility(n, seed):
    """Closes whose volatility switches every fifty sessions, by more than the scale of the untrained model follows."""
    sizes = np.where(np.arange(n) // 50 % 2 == 0, 0.005, 0.04)
    returns = sizes * np.random.default_rng(seed).normal(size=n)
    return pd.DataFrame({"date": pd.bdate_range("2010-01-01", periods=n), "close": 50 * np.exp(returns.cumsum())})


def test_training_improves_on_the_untrained_quantiles_where_volatility_changes():
    batches = data(changing_volatility(2500, seed=0))
    module, other = (learner(learning_rate=5e-3, dropout=0.0, num_layers=1) for _ in range(2))
    other.model.fit_statistics(*as_batch(batches.panel.split.train))
    run = trainer(max_epochs=6)
    [before] = run.validate(other, datamodule=batches, verbose=False)
    run.fit(module, datamodule=batches)
    [after] = run.validate(module, datamodule=batches, verbose=False)
    assert after["val_loss"] < 0.97 * before["val_loss"]


def test_the_cosine_schedule_decreases_the_learning_rate_to_zero():
    rates = []

    class Rates(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer(max_epochs=4, callbacks=[Rates()]).fit(learner(schedule="cosine"), datamodule=data())
    assert rates == pytest.approx([5e-4 * (1 + np.cos(np.pi * epoch / 4)) / 2 for epoch in range(4)])


@pytest.mark.parametrize("loss", ["pinball", "mse"])
def test_test_errors_are_those_of_the_forecasts_in_price_units(loss):
    module, batches = learner(loss=loss), data()
    [scores] = trainer().test(module, datamodule=batches, verbose=False)
    inputs, targets = as_batch(batches.panel.split.test)
    with torch.no_grad():
        error = module.eval()(inputs)[..., MEDIAN] - targets
    assert scores["test_rmse"] == pytest.approx(error.square().mean().sqrt().item(), rel=1e-5)
    assert scores["test_mape"] == pytest.approx((error / targets).abs().mean().item(), rel=1e-5)


def test_the_validation_loss_is_the_mean_over_the_whole_part():
    module, batches = learner(), data()
    [scores] = trainer().validate(module, datamodule=batches, verbose=False)
    with torch.no_grad():
        expected = module.eval().model.loss(*as_batch(batches.panel.split.validation))
    assert scores["val_loss"] == pytest.approx(expected.item(), rel=1e-6)


def test_the_training_loss_of_an_epoch_is_the_mean_over_its_steps():
    steps, means = [], []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            steps.append(outputs["loss"].item())

        def on_train_epoch_end(self, trainer, pl_module):
            means.append((trainer.callback_metrics["train_loss"].item(), np.mean(steps)))
            steps.clear()

    trainer(max_epochs=3, callbacks=[Watch()]).fit(learner(), datamodule=data())
    assert len(means) == 3
    assert all(logged == pytest.approx(mean, rel=1e-6) for logged, mean in means)


def test_statistics_that_were_loaded_with_the_weights_are_kept():
    module = learner()
    module.model.fitted.fill_(True)
    before = module.model.gaps.clone()
    trainer(max_epochs=1).fit(module, datamodule=data())
    assert torch.equal(module.model.gaps, before)
