"""The progress bar of a training: on a terminal only, and on stderr only."""

import os
import pty
import subprocess
import sys

import pytest
from pytorch_lightning.callbacks import Callback

from pregao.cli.progress import training_progress
from pregao.settings import REPOSITORY
from tests.cli.conftest import small
from tests.conftest import environment
from tests.training.conftest import train


def test_without_a_terminal_there_is_no_bar():
    assert training_progress() == []


def test_ctrl_c_shows_the_cursor_again(tmp_path, monkeypatch, capsys):
    class CtrlC(Callback):
        def on_train_batch_end(self, *_):
            raise KeyboardInterrupt

    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stderr for a terminal
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, callbacks=[*training_progress(), CtrlC()])
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    assert capsys.readouterr().err.rpartition(hidden)[2].count(shown) == 1


@pytest.mark.slow
def test_a_terminal_shows_lightnings_bar_on_stderr_alone(home, prices):
    command = [sys.executable, str(REPOSITORY / "train.py"), *small(prices)]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, env=environment(home), stdout=subprocess.PIPE, stderr=theirs) as training:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
        stdout = training.stdout.read().decode()
    assert training.returncode == 0
    assert "Epoch 1" in shown.decode()
    assert "train_loss" in shown.decode()
    assert "Epoch" not in stdout
    assert stdout.splitlines()[-1].startswith(str(home / "outputs/PETR4"))
