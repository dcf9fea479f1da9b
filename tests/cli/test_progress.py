import os
import pty
import subprocess
import sys

from pregao.cli.progress import training_progress
from pregao.settings import REPOSITORY
from tests.conftest import SMALL, environment


def test_there_is_no_bar_where_no_terminal_is():
    assert training_progress() == []


def test_a_terminal_shows_lightnings_bar_on_stderr_alone(home, prices):
    command = [sys.executable, str(REPOSITORY / "train.py"), *SMALL, "source=csv", f"source.path={prices}"]
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
    assert stdout.splitlines()[-1].startswith(str(home / "outputs/VALE3"))
