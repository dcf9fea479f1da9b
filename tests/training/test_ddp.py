"""trainer=ddp and trainer=gpu train as one process of the processor does."""

import pytest
import torch
from torch.utils.data import DistributedSampler

from pregao.data.datamodule import EpochBatches
from pregao.errors import InvalidChoice
from pregao.training import fit as training
from pregao.training.config import TrainerChoices
from pregao.training.fit import Training
from pregao.training.module import ForecastModule
from tests.conftest import random_walk, small_config, windows_of
from tests.training.test_module import untrained

EVEN, ODD = 402, 400
"""Sessions that make an even and an odd number of training windows; an odd last batch counts one window twice."""

TOLERANCE = {EVEN: 1e-4, ODD: 1e-2}
"""Relative, on losses, without dropout; for an even number, sums in another order, in float32, are all that differs."""


def data_of(sessions):
    module = windows_of(lambda: {"VALE3": random_walk(sessions)})
    module.setup()
    return module


@pytest.fixture
def data():
    return data_of(EVEN)


def train(folder, data, dropout=0.0, hidden_size=8, **trainer):
    choices = {"threads": 1, "max_epochs": 3, "patience": 2, "accelerator": "cpu", "gradient_clip_val": 1.0} | trainer
    model = untrained(dropout=dropout, hidden_size=hidden_size, num_layers=1)
    module = ForecastModule(model, learning_rate=5e-3, weight_decay=1e-5, schedule="cosine", seed=1)
    fitted = Training(module, TrainerChoices(**choices), folder).fit(data)
    return fitted, torch.cat([p.detach().cpu().ravel() for p in model.parameters()])


def assert_equal(one, other, tolerance):
    (expected, expected_weights), (fitted, weights) = one, other
    assert fitted.train_loss == pytest.approx(expected.train_loss, rel=tolerance)
    assert fitted.val_loss == pytest.approx(expected.val_loss, rel=tolerance)
    assert torch.allclose(weights, expected_weights, atol=tolerance)


@pytest.mark.parametrize("sessions", [EVEN, pytest.param(ODD, marks=pytest.mark.slow)])
def test_two_processes_take_the_steps_of_one(tmp_path, sessions):
    assert len(data_of(sessions).panel.split.train) % 2 == (sessions == ODD)
    alone = train(tmp_path / "alone", data_of(sessions))
    together = train(tmp_path / "together", data_of(sessions), strategy="ddp_fork", devices=2)
    assert_equal(alone, together, TOLERANCE[sessions])
    assert (tmp_path / "together/checkpoints/best.ckpt").is_file()


@pytest.mark.slow
def test_with_dropout_two_processes_differ_by_its_draws_alone(tmp_path, data):
    alone, _ = train(tmp_path / "alone", data, dropout=0.1)
    together, _ = train(tmp_path / "together", data, dropout=0.1, strategy="ddp_fork", devices=2)
    assert together.val_loss == pytest.approx(alone.val_loss, rel=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_trains_as_the_processor_does(tmp_path, data):
    processor = train(tmp_path / "cpu", data)
    gpu = train(tmp_path / "gpu", data, accelerator="gpu", devices=1)
    assert_equal(processor, gpu, 1e-3)  # its kernels sum in other orders; nine steps carry that on


def test_processes_divide_each_batch_and_miss_no_window():
    def order(rank, processes):
        sampler = DistributedSampler(range(11), processes, rank, seed=7)
        batches = EpochBatches(sampler, 1)
        batches.set_epoch(3)
        return [window for [window] in batches]

    whole = order(0, 1)
    first, second = order(0, 2), order(1, 2)
    assert [window for pair in zip(first, second, strict=True) for window in pair] == [*whole, whole[0]]


def test_a_batch_that_the_processes_cannot_share_is_refused(tmp_path):
    with pytest.raises(InvalidChoice, match=r"data\.batch_size=33 cannot be shared by trainer\.devices=2"):
        small_config(tmp_path, "trainer=ddp", "data.batch_size=33")


def test_the_number_of_threads_is_said_once(tmp_path, data, caplog):
    caplog.set_level("INFO", "pregao")
    training._log_once.cache_clear()
    for name in ("one", "two"):
        train(tmp_path / name, data, threads="auto", max_epochs=1)
    assert torch.get_num_threads() == 1
    assert len([record for record in caplog.records if "trainer.threads=auto: 1" in record.message]) == 1


@pytest.mark.parametrize(("available", "hidden_size", "threads"), [(8, 4, 1), (8, 400, 2), (1, 400, 1)])
def test_a_large_step_has_two_threads_where_there_are_two(tmp_path, data, monkeypatch, available, hidden_size, threads):
    chosen = []
    monkeypatch.setattr(training, "AVAILABLE", available)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    train(tmp_path, data, hidden_size=hidden_size, threads="auto", max_epochs=1)
    assert chosen == [threads]
