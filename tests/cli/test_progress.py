import pytest
from pytorch_lightning.callbacks import Callback

from pregao.cli.progress import EpochProgress
from tests.training.test_fit import train


def test_the_bar_is_over_when_training_is(tmp_path):
    progress = EpochProgress()
    train(tmp_path, callbacks=[progress], max_epochs=2)
    assert progress.bar.tasks[0].completed == 2
    assert not progress.bar.live.is_started


def test_ctrl_c_gives_the_cursor_back(tmp_path):
    class CtrlC(Callback):
        def on_train_batch_end(self, *_):
            raise KeyboardInterrupt

    progress = EpochProgress()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, callbacks=[progress, CtrlC()])
    assert not progress.bar.live.is_started
