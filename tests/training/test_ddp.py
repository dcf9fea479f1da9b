"""trainer=ddp and trainer=gpu train as one process of the processor does."""

from functools import partial

import pytest
import torch

from pregao.data.datamodule import EpochShuffle, PricesDataModule, tensors
from pregao.data.panel import build_panel
from pregao.data.windows import fraction_borders
from pregao.errors import InvalidChoice
from pregao.training import fit as training
from pregao.training.config import TrainerChoices
from pregao.training.fit import Training
from pregao.training.module import Forecaster
from tests.conftest import random_walk, small_config

EVEN, ODD = 402, 400
"""Sessions that make an even and an odd number of training windows; an odd last batch counts one window twice."""

TOLERANCE = {EVEN: 1e-4, ODD: 1e-2}
"""Relative, on losses, without dropout; for an even number, sums in another order, in float32, are all that differs."""

NETWORK = {
    "scaling": "window",
    "horizon": 10,
    "cell": "lstm",
    "hidden_size": 8,
    "num_layers": 1,
    "shrinkage": 0.25,
    "inputs": "window",
}


def panel_of(sessions):
    rule = partial(fraction_borders, train=0.7, validation=0.15)
    return build_panel({"VALE3": random_walk(sessions)}, 20, 10, "window", rule)


@pytest.fixture(scope="module")
def panel():
    return panel_of(EVEN)


def train(folder, panel, dropout=0.0, hidden_size=8, **trainer):
    choices = {"threads": 1, "max_epochs": 3, "patience": 2, "accelerator": "cpu", "gradient_clip_val": 1.0} | trainer
    network = NETWORK | {"dropout": dropout, "hidden_size": hidden_size}
    module = Forecaster(
        network, loss="pinball", learning_rate=5e-3, weight_decay=1e-5, seed=1, schedule="cosine", clip=1.0
    )
    module.network.begin_at(*tensors(panel.split.train))
    fitted = Training(module, TrainerChoices(**choices), folder).fit(PricesDataModule(panel.split, 32, seed=1))
    return fitted, torch.cat([p.detach().cpu().ravel() for p in module.network.parameters()])


def assert_equal(one, other, tolerance):
    (expected, expected_weights), (fitted, weights) = one, other
    assert fitted.train_loss == pytest.approx(expected.train_loss, rel=tolerance)
    assert fitted.val_loss == pytest.approx(expected.val_loss, rel=tolerance)
    assert torch.allclose(weights, expected_weights, atol=tolerance)


@pytest.mark.parametrize("sessions", [EVEN, pytest.param(ODD, marks=pytest.mark.slow)])
def test_two_processes_take_the_steps_of_one(tmp_path, sessions):
    panel = panel_of(sessions)
    assert len(panel.split.train) % 2 == (sessions == ODD)
    alone = train(tmp_path / "alone", panel)
    together = train(tmp_path / "together", panel, strategy="ddp_fork", devices=2)
    assert_equal(alone, together, TOLERANCE[sessions])
    assert (tmp_path / "together/checkpoints/best.ckpt").is_file()


@pytest.mark.slow
def test_with_dropout_two_processes_differ_by_its_draws_alone(tmp_path, panel):
    alone, _ = train(tmp_path / "alone", panel, dropout=0.1)
    together, _ = train(tmp_path / "together", panel, dropout=0.1, strategy="ddp_fork", devices=2)
    assert together.val_loss == pytest.approx(alone.val_loss, rel=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_trains_as_the_processor_does(tmp_path, panel):
    processor = train(tmp_path / "cpu", panel)
    gpu = train(tmp_path / "gpu", panel, accelerator="gpu", devices=1)
    assert_equal(processor, gpu, 1e-3)  # its kernels sum in other orders; nine steps carry that on


def test_processes_divide_each_batch_and_miss_no_window():
    def order(*processes):
        shuffle = EpochShuffle(11, 7, *processes)
        shuffle.set_epoch(3)
        return list(shuffle)

    whole = order()
    first, second = order(0, 2), order(1, 2)
    assert [window for pair in zip(first, second, strict=True) for window in pair] == [*whole, whole[0]]


def test_a_batch_that_the_processes_cannot_share_is_refused(tmp_path):
    with pytest.raises(InvalidChoice, match=r"data\.batch_size=33 cannot be shared by trainer\.devices=2"):
        small_config(tmp_path, "trainer=ddp", "data.batch_size=33")


def test_the_number_of_threads_is_said_once(tmp_path, panel, caplog):
    caplog.set_level("INFO", "pregao")
    training._say.cache_clear()
    for name in ("one", "two"):
        train(tmp_path / name, panel, threads="auto", max_epochs=1)
    assert torch.get_num_threads() == 1
    assert len([record for record in caplog.records if "trainer.threads=auto: 1" in record.message]) == 1


@pytest.mark.parametrize(("available", "hidden_size", "threads"), [(8, 4, 1), (8, 400, 2), (1, 400, 1)])
def test_a_large_step_has_two_threads_where_there_are_two(
    tmp_path, panel, monkeypatch, available, hidden_size, threads
):
    chosen = []
    monkeypatch.setattr(training, "AVAILABLE", available)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    train(tmp_path, panel, hidden_size=hidden_size, threads="auto", max_epochs=1)
    assert chosen == [threads]
