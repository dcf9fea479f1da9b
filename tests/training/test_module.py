import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

from pregao.data.batch import as_batch
from tests.training.conftest import data, learner, trainer


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("loss", ["pinball", "mse"])
def test_every_choice_trains_validates_and_tests(cell, loss):
    module, batches = learner(loss=loss, cell=cell), data()
    run = trainer(fast_dev_run=True)
    run.fit(module, datamodule=batches)
    [scores] = run.test(module, datamodule=batches, verbose=False)
    assert set(scores) == {"test_rmse", "test_mape"}


def changing_volatility(n, seed):
    """Closes whose volatility switches every fifty sessions, by more than the scale of the untrained model follows."""
    sizes = np.where(np.arange(n) // 50 % 2 == 0, 0.005, 0.04)
    returns = sizes * np.random.default_rng(seed).normal(size=n)
    return pd.DataFrame({"date": pd.bdate_range("2010-01-01", periods=n), "close": 50 * np.exp(returns.cumsum())})


def test_training_improves_on_the_untrained_quantiles_where_volatility_changes():
    batches = data(changing_volatility(2500, seed=0))
    module, other = (learner(learning_rate=5e-3, dropout=0.0, num_layers=1) for _ in range(2))
    other.model.fit_statistics(as_batch(batches.panel.split.train))
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


def test_the_validation_loss_is_the_mean_over_the_whole_part():
    module, batches = learner(), data()
    [scores] = trainer().validate(module, datamodule=batches, verbose=False)
    with torch.no_grad():
        expected = module.eval().model.loss(as_batch(batches.panel.split.validation))
    assert scores["val_loss"] == pytest.approx(expected.item(), rel=1e-6)
