"""trainer=ddp and trainer=gpu train as one process of the processor does."""

import pytest
import torch

from pregao.training import fit as training
from pregao.training.fit import Training
from pregao.training.module import ForecastModule
from tests.conftest import random_walk
from tests.training.conftest import choices, data, untrained, weights

SESSIONS = 402
"""An even number of training windows: in an odd last batch, two processes count one window twice."""


def train(folder, hidden_size=8, **changed):
    model = untrained(dropout=0.0, hidden_size=hidden_size, num_layers=1)
    module = ForecastModule(model, learning_rate=5e-3, weight_decay=1e-5, schedule="cosine", seed=1)
    chosen = choices(**{"max_epochs": 3, "patience": 2, "gradient_clip_val": 1.0} | changed)
    return Training(module, chosen, folder).fit(data(random_walk(SESSIONS))), weights(module)


def assert_equal(one, other, tolerance):
    (expected, expected_weights), (fitted, found_weights) = one, other
    for name in ("train_loss", "val_loss"):
        assert getattr(fitted, name) == pytest.approx(getattr(expected, name), rel=tolerance)
    assert torch.allclose(found_weights, expected_weights, atol=tolerance)


def test_two_processes_take_the_steps_of_one(tmp_path):
    """Without dropout, only the order of float32 sums differs."""
    together = train(tmp_path / "together", strategy="ddp_fork", devices=2)
    assert_equal(train(tmp_path / "alone"), together, 1e-4)
    assert (tmp_path / "together/checkpoints/best.ckpt").is_file()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_trains_as_the_processor_does(tmp_path):
    processor = train(tmp_path / "cpu")
    gpu = train(tmp_path / "gpu", accelerator="gpu", devices=1)
    assert_equal(processor, gpu, 1e-3)  # sums in another order, over nine steps


@pytest.mark.parametrize(("available", "hidden_size", "threads"), [(8, 4, 1), (8, 400, 2), (1, 400, 1)])
def test_a_large_step_gets_two_threads_and_the_log_says_so_once(
    tmp_path, monkeypatch, caplog, available, hidden_size, threads
):
    chosen = []
    caplog.set_level("INFO", "pregao")
    training._log_once.cache_clear()
    monkeypatch.setattr(training, "AVAILABLE", available)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    for name in ("one", "two"):
        train(tmp_path / name, hidden_size=hidden_size, threads="auto", max_epochs=1)
    assert chosen == [threads, threads]
    assert len([record for record in caplog.records if f"trainer.threads=auto: {threads}" in record.message]) == 1
