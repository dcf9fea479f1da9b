import shutil
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import Callback

from pregao.data import batch
from pregao.data.batch import as_batch
from pregao.errors import BadCheckpoint, Diverged, InvalidChoice
from pregao.training.fit import Training, mean_loss
from tests.training.conftest import choices, data, learner, train, weights


def test_gradient_clipping_limits_the_steps(tmp_path):
    """Clipped far below Adam's epsilon of 1e-8, a gradient moves no weight."""
    start = weights(learner())
    free, clipped = (
        train(tmp_path / str(limit), learner(weight_decay=0.0), max_epochs=1, gradient_clip_val=limit)[0]
        for limit in (None, 1e-14)
    )
    assert (weights(free) - start).abs().max() > 1e-3
    assert (weights(clipped) - start).abs().max() < 1e-5


def test_the_mean_loss_does_not_depend_on_the_size_of_the_batches(monkeypatch):
    model, part = learner().model.eval(), data()
    part.setup()
    windows = as_batch(part.panel.split.train)
    whole = mean_loss(model.loss, windows)
    monkeypatch.setattr(batch, "LARGEST_BATCH", 100)
    assert [len(each.targets) for each in windows.parts()][:2] == [100, 100]
    assert mean_loss(model.loss, windows) == pytest.approx(whole, rel=1e-5)


def test_weight_decay_makes_weights_smaller(tmp_path):
    free, decayed = (
        train(tmp_path / str(decay), learner(weight_decay=decay), max_epochs=2)[0] for decay in (0.0, 10.0)
    )
    assert weights(decayed).norm() < 0.99 * weights(free).norm()


def test_dropout_differs_between_epochs_and_is_the_same_again(tmp_path):
    class Draws(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 0:
                with torch.random.fork_rng():
                    drawn.append(torch.rand(1).item())

    drawn = []
    for name in ("one", "two"):
        train(tmp_path / name, callbacks=[Draws()])
    assert len(set(drawn[:4])) == 4
    assert drawn[:4] == drawn[4:]


@pytest.mark.parametrize(("patience", "learning_rate"), [(None, 5e-4), (10, 0.05)])
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path, patience, learning_rate):
    alone, first, second = (learner(learning_rate=learning_rate) for _ in range(3))
    _, whole = train(tmp_path / "whole", alone, patience=patience, max_epochs=6)
    train(tmp_path / "first", first, patience=patience, max_epochs=4)
    last = tmp_path / "first/checkpoints/last.ckpt"
    _, resumed = train(tmp_path / "second", second, ckpt_path=last, patience=patience, max_epochs=6)
    assert torch.equal(weights(alone), weights(second))
    assert replace(whole, seconds=0) == replace(resumed, seconds=0)
    assert patience is None or whole.chosen < 4, "the best epoch is before the interruption"


@pytest.mark.parametrize("patience", [None, 10])
def test_the_last_weights_are_kept_or_with_patience_the_best_on_validation(tmp_path, patience):
    module, fitted = train(tmp_path, learner(learning_rate=0.02), patience=patience)
    assert fitted.chosen == (3 if patience is None else int(np.argmin(fitted.val_loss)))
    best = torch.load(tmp_path / "checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == fitted.chosen
    assert all(torch.equal(best["state_dict"][name], value) for name, value in module.state_dict().items())


def test_losses_are_reported_once_per_epoch_in_order(tmp_path):
    reported = {}

    def report(values, first):
        for name, losses in values.items():
            assert reported.setdefault(name, []) == reported[name][:first]
            reported[name] += losses

    _, fitted = train(tmp_path, report=report)
    assert reported == {"history_train_loss": fitted.train_loss, "history_val_loss": fitted.val_loss}


def test_training_stops_after_patience_epochs_without_improvement(tmp_path):
    _, fitted = train(tmp_path, learner(learning_rate=0.05), patience=2, max_epochs=50)
    assert len(fitted.val_loss) == fitted.chosen + 1 + 2


@pytest.mark.parametrize("patience", [None, 3])
def test_a_training_that_diverges_is_refused_in_whichever_epoch(tmp_path, patience):
    class Break(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                pl_module.model.head.weight.data.fill_(float("nan"))

    with pytest.raises(Diverged, match=r"epoch 2 .* optimizer\.learning_rate=0\.0005\."):
        train(tmp_path, callbacks=[Break()], patience=patience, max_epochs=2)


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one epoch")
    train(folder, max_epochs=1)
    return folder / "checkpoints"


@pytest.fixture
def last(one_epoch, tmp_path):
    """The last checkpoint of a training of one epoch."""
    return shutil.copytree(one_epoch, tmp_path / "old") / "last.ckpt"


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("code in the checkpoint was executed",)


@pytest.mark.parametrize(
    "content",
    [b"", b"root:x:0:0:root:/root:/bin/bash", "cut", "missing", "folder", [1, 2], {"state_dict": Bomb(), "epoch": 0}],
    ids=["empty", "text", "cut", "missing", "folder", "list", "code"],
)
def test_a_damaged_checkpoint_is_refused_before_anything_starts(tmp_path, last, content):
    match content:
        case bytes():
            last.write_bytes(content)
        case "cut":
            last.write_bytes(last.read_bytes()[:1000])
        case str():
            last = tmp_path / content.replace("folder", "")
        case _:
            torch.save(content, last)
    with pytest.raises(BadCheckpoint, match=r"^ckpt_path=.*: "):
        Training(learner(), choices(), tmp_path / "new", last)


@pytest.mark.parametrize(
    ("changed", "epochs", "reason"),
    [
        ({"history": "PETR4"}, 4, "other settings .history was "),
        ({"seed": 2}, 4, "other settings .seed was "),
        ({"learning_rate": 0.1}, 4, "other settings .learning_rate was "),
        ({"hidden_size": 9}, 4, "another network"),
        ({}, 1, r"already has 1 epochs and trainer\.max_epochs=1"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, last, changed, epochs, reason):
    with pytest.raises(BadCheckpoint, match=reason):
        Training(learner(**changed), choices(max_epochs=epochs), tmp_path / "new", last)


def test_a_checkpoint_without_best_ckpt_is_refused_only_where_the_best_is_kept(tmp_path, last):
    last.with_name("best.ckpt").unlink()
    with pytest.raises(BadCheckpoint, match=r"best\.ckpt does not exist"):
        Training(learner(), choices(patience=3), tmp_path / "new", last)
    assert Training(learner(), choices(), tmp_path / "new", last).fit(data()).chosen == 3


def test_a_cosine_schedule_is_resumed_with_its_number_of_epochs_only(tmp_path):
    train(tmp_path, learner(schedule="cosine"), max_epochs=2)
    last = tmp_path / "checkpoints/last.ckpt"
    with pytest.raises(BadCheckpoint, match=r"cosine schedule ends at trainer\.max_epochs=2, not 4"):
        Training(learner(schedule="cosine"), choices(max_epochs=4), tmp_path / "new", last)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_refused(tmp_path):
    with pytest.raises(InvalidChoice, match=r"trainer: .*(gpu|GPU|CUDA)"):
        Training(learner(), choices(accelerator="gpu"), tmp_path)


def test_a_fit_leaves_no_copy_of_the_windows_in_its_loaders(tmp_path):
    module, prices, seen = learner(), data(), []

    class Watch(Callback):
        def on_train_start(self, trainer, module):
            loaders = (trainer.train_dataloader, trainer.val_dataloaders)
            seen.extend(weakref.ref(loader.dataset.batch.targets) for loader in loaders)

    Training(module, choices(), tmp_path, callbacks=[Watch()]).fit(prices)
    assert len(seen) == 2
    assert [reference() for reference in seen] == [None, None]
