from functools import partial

import pytest
import pytorch_lightning as pl
import torch

from pregao.datamodule import PricesDataModule
from pregao.evaluation.metrics import point_scores
from pregao.forecaster import Forecaster
from pregao.quantiles import MEDIAN
from pregao.windows import fraction_borders, split_windows
from tests.conftest import random_walk
from tests.test_trained_model import CHOICES


def forecaster(loss="mae", learning_rate=5e-4, **choices):
    return Forecaster(CHOICES | choices, loss=loss, learning_rate=learning_rate, weight_decay=1e-5, seed=1)


def data():
    split = split_windows("VALE3", random_walk(), 20, 10, partial(fraction_borders, train=0.7, validation=0.15))
    return PricesDataModule(split, batch_size=32, seed=1)


def trainer(**choices):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(accelerator="cpu", enable_checkpointing=False, **quiet, **choices)


@pytest.fixture(params=[True, pytest.param(False, marks=pytest.mark.slow)])
def fast_dev_run(request):
    return request.param


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("loss", ["mae", "mse"])
def test_every_choice_trains_validates_and_tests(cell, loss, fast_dev_run):
    module, batches = forecaster(loss=loss, cell=cell), data()
    run = trainer(fast_dev_run=fast_dev_run, max_epochs=2)
    run.fit(module, datamodule=batches)
    [scores] = run.test(module, datamodule=batches, verbose=False)
    assert set(scores) == {"test_rmse", "test_mae", "test_mape"}


def test_it_can_learn_one_batch_by_heart():
    torch.manual_seed(0)
    module = forecaster(learning_rate=1e-2, hidden_size=32, dropout=0.0)
    batch = next(iter(data().train_dataloader()))
    closes, targets = batch[0][:8], batch[1][:8]
    optimizer = module.configure_optimizers()
    losses = []
    for _ in range(400):
        optimizer.zero_grad()
        loss = module.loss(module.network.learned(closes), module.network.goal(closes, targets))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_validation_errors_are_in_price_units():
    module, batches = forecaster(), data()
    run = trainer()
    [scores] = run.validate(module, datamodule=batches, verbose=False)
    part = batches.split.validation
    with torch.no_grad():
        forecast = module(torch.from_numpy(part.inputs.copy()))[..., MEDIAN].numpy()
    expected = point_scores(part.targets, forecast)
    assert scores["val_mape"] == pytest.approx(expected["mape"], rel=1e-5)
    assert scores["val_rmse"] == pytest.approx(expected["rmse"], rel=1e-5)


def test_the_seed_decides_the_initial_weights():
    torch.manual_seed(99)
    one = forecaster().state_dict()
    torch.manual_seed(7)
    two = forecaster().state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
