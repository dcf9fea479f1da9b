import pytest
import torch

from pregao.training.fit import Training
from tests.conftest import random_walk
from tests.training.conftest import choices, data, learner, weights

SESSIONS = 402
"""An even number of training windows: in an odd last batch, two processes count one window twice."""


def train(folder, **changed):
    module = learner(learning_rate=5e-3, schedule="cosine", dropout=0.0, num_layers=1)
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
