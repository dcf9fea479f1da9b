import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import Callback

from pregao.errors import BadCheckpoint, Diverged, InvalidChoice
from pregao.training.config import TrainerChoices
from pregao.training.fit import Training
from pregao.training.module import ForecastModule
from tests.conftest import random_walk
from tests.training.test_module import data, trainer
from tests.training.test_module import module as learner


def choices(**changed):
    return TrainerChoices(**{"threads": 1, "max_epochs": 4, "patience": None, "accelerator": "cpu"} | changed)


def train(folder, module=None, ckpt_path=None, callbacks=(), **changed):
    module = module or learner()
    training = Training(module, choices(**changed), folder, ckpt_path, callbacks)
    return module, training.fit(data())


def weights(module):
    return torch.cat([p.detach().ravel() for p in module.model.parameters()])


@pytest.mark.parametrize("patience", [None, 10])
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path, patience):
    whole, once = train(tmp_path / "whole", patience=patience)
    train(tmp_path / "first", max_epochs=2, patience=patience)
    resumed, twice = train(tmp_path / "second", ckpt_path=tmp_path / "first/checkpoints/last.ckpt", patience=patience)
    assert torch.equal(weights(whole), weights(resumed))
    assert once.val_loss == twice.val_loss
    assert once.train_loss == twice.train_loss
    assert once.chosen == twice.chosen


def test_the_same_seed_gives_the_same_bits(tmp_path):
    assert torch.equal(weights(train(tmp_path / "a")[0]), weights(train(tmp_path / "b")[0]))


def test_the_best_epoch_on_validation_is_chosen(tmp_path):
    module, fitted = train(tmp_path, patience=10, max_epochs=6)
    assert fitted.chosen == int(np.argmin(fitted.val_loss))
    best = torch.load(tmp_path / "checkpoints/best.ckpt", weights_only=True)
    assert all(torch.equal(best["state_dict"][name], value) for name, value in module.state_dict().items())


def test_without_patience_the_last_weights_are_kept(tmp_path):
    module, fitted = train(tmp_path)
    assert fitted.chosen == 3
    best = torch.load(tmp_path / "checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == 3
    assert all(torch.equal(best["state_dict"][name], value) for name, value in module.state_dict().items())


def turning_prices():
    """What rises while it is learned from, and falls ever after: the untrained network knows best."""
    table = random_walk()
    day = np.arange(len(table))
    table["close"] *= np.exp(0.01 * np.minimum(day, 2 * 280 - day))
    return data(table)


def test_the_untrained_network_is_never_chosen_even_where_it_is_best(tmp_path):
    untrained, module = learner(), learner()
    [before] = trainer().validate(untrained, datamodule=turning_prices(), verbose=False)
    fitted = Training(module, choices(patience=3), tmp_path).fit(turning_prices())
    assert before["val_loss"] < min(fitted.val_loss)
    assert not torch.equal(weights(module), weights(untrained))
    assert module.model.head.weight.abs().max() > 0


def test_training_stops_when_validation_gets_no_better(tmp_path):
    _, fitted = train(tmp_path, learner(learning_rate=0.05), patience=2, max_epochs=50)
    assert len(fitted.val_loss) == fitted.chosen + 1 + 2


def test_an_interruption_is_passed_on(tmp_path):
    class CtrlC(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, callbacks=[CtrlC()])


@pytest.mark.parametrize("damage", ["missing", "folder", "text", "cut", "empty", "no checkpoint"])
def test_a_damaged_checkpoint_is_refused_before_anything_starts(tmp_path, damage):
    train(tmp_path, max_epochs=1)
    path = tmp_path / "checkpoints/last.ckpt"
    match damage:
        case "missing":
            path = tmp_path / "nowhere.ckpt"
        case "folder":
            path = tmp_path
        case "text":
            path.write_text("root:x:0:0:root:/root:/bin/bash\n")
        case "cut":
            path.write_bytes(path.read_bytes()[:1000])
        case "empty":
            path.write_bytes(b"")
        case "no checkpoint":
            torch.save([1, 2], path)
    with pytest.raises(BadCheckpoint, match=r"ckpt_path=.*: .*\. Allowed is a file from the checkpoints"):
        Training(learner(), choices(), tmp_path / "new", path)


def test_a_checkpoint_with_a_pickle_in_it_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    torch.save({"state_dict": Bomb(), "epoch": 0}, tmp_path / "bomb.ckpt")
    with pytest.raises(BadCheckpoint):
        Training(learner(), choices(), tmp_path, tmp_path / "bomb.ckpt")
    assert not (tmp_path / "exploded").exists()


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    train(tmp_path, max_epochs=1)
    with pytest.raises(BadCheckpoint, match="weights are of another network"):
        Training(learner(hidden_size=9), choices(), tmp_path, tmp_path / "checkpoints/last.ckpt")


@pytest.mark.parametrize("change", [{"history": "PETR4"}, {"seed": 2}, {"learning_rate": 0.1}])
def test_a_checkpoint_goes_on_with_what_it_was_begun_with(tmp_path, change):
    train(tmp_path, max_epochs=1)
    hparams = dict(learner().hparams) | change
    other = ForecastModule(learner().model, **hparams)
    with pytest.raises(BadCheckpoint, match=f"begun with other choices .{next(iter(change))} was "):
        Training(other, choices(), tmp_path / "new", tmp_path / "checkpoints/last.ckpt")


def test_a_checkpoint_without_the_best_beside_it_is_refused_where_the_best_is_wanted(tmp_path):
    train(tmp_path, max_epochs=1)
    alone = tmp_path / "alone.ckpt"
    (tmp_path / "checkpoints/last.ckpt").rename(alone)
    with pytest.raises(BadCheckpoint, match=r"there is no file .*best\.ckpt"):
        Training(learner(), choices(patience=3), tmp_path / "new", alone)
    assert Training(learner(), choices(), tmp_path / "new", alone).fit(data()).chosen == 3


def test_a_checkpoint_that_has_all_its_epochs_is_refused(tmp_path):
    train(tmp_path, max_epochs=2)
    with pytest.raises(BadCheckpoint, match=r"already has 2 epochs and trainer\.max_epochs=2"):
        Training(learner(), choices(max_epochs=2), tmp_path, tmp_path / "checkpoints/last.ckpt")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here, so asking for one is no mistake")
def test_a_gpu_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidChoice, match=r"trainer: .*(gpu|GPU|CUDA)"):
        Training(learner(), choices(accelerator="gpu"), tmp_path)


def test_a_resumed_training_remembers_a_best_epoch_from_before_the_interruption(tmp_path):
    choices = {"patience": 10, "max_epochs": 6}
    module = learner(learning_rate=0.05)
    whole, once = train(tmp_path / "whole", module, **choices)
    assert once.chosen < 3, "this learning rate shall be best at its start"
    train(tmp_path / "first", learner(learning_rate=0.05), **choices | {"max_epochs": 4})
    last = tmp_path / "first/checkpoints/last.ckpt"
    resumed, twice = train(tmp_path / "second", learner(learning_rate=0.05), ckpt_path=last, **choices)
    assert once.chosen == twice.chosen
    assert torch.equal(weights(whole), weights(resumed))


@pytest.mark.parametrize("patience", [None, 3])
def test_a_training_that_diverges_says_so(tmp_path, patience):
    with pytest.raises(Diverged, match=r"diverged: in epoch 1 .* optimizer\.learning_rate=1e\+30\. .*smaller"):
        train(tmp_path, learner(learning_rate=1e30), patience=patience, max_epochs=1)
