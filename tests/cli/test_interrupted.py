"""Commands that get SIGINT or SIGTERM: exit code 130 or 143, a KILLED run, and the way to resume."""

import signal
from unittest.mock import DEFAULT, Mock

import pytest

from tests.cli.conftest import champions, folder_of, interrupted, quick, sentence, small, statuses

ENDLESS = ("trainer.max_epochs=1000000", "trainer.patience=null")


def parts(home):
    return {path: path.stat().st_mtime_ns for path in home.glob("outputs/backtest/*/parts/*.parquet")}


@pytest.mark.slow
def test_sigterm_ends_a_training_cleanly(champion, prices):
    def trains():
        return len(list(champion.glob("outputs/PETR4/*/checkpoints/last.ckpt"))) == 2

    served, sent = champions(champion), signal.SIGTERM
    done = interrupted("train.py", *small(prices), *ENDLESS, home=champion, sent=sent, until=trains)
    assert sentence(done, 143) == "Terminated; the served model is unchanged."
    assert statuses(champion) == ["FINISHED", "KILLED"]
    assert champions(champion) == served


@pytest.mark.slow
def test_an_interrupted_backtest_is_resumed_in_its_folder(command, home, prices):
    arguments = quick(prices, "models=[last close,shared]", "model.hidden_size=4", "trainer.max_epochs=20")
    sent = signal.SIGINT
    done = interrupted("backtest.py", *arguments, home=home, sent=sent, until=lambda: len(parts(home)) >= 2)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    [folder] = home.glob("outputs/backtest/*")
    assert f"To resume, repeat the command with hydra.run.dir={folder}" in done.stderr
    kept = parts(home)
    again = command("backtest", *arguments, f"hydra.run.dir={folder}")
    assert again.returncode == 0, again.stderr
    assert folder_of(again) == folder
    assert kept.items() < parts(home).items()
    assert statuses(home) == ["KILLED", "FINISHED"]


def test_ctrl_c_ends_a_sweep_with_the_command_that_resumes_it(command, home, prices, monkeypatch):
    monkeypatch.setattr("pregao.training.pipeline.Pipeline.run", lambda _: signal.raise_signal(signal.SIGINT))
    done = command("train", "-m", *small(prices), "seed=1,2")
    [folder] = home.glob("outputs/multirun/*")
    assert sentence(done, 130).endswith(f"To resume, repeat it with hydra.sweep.dir={folder}")


def test_ctrl_c_ends_a_search_that_keeps_its_trials(command, home, prices, monkeypatch):
    from pregao.tuning import search

    monkeypatch.setattr(search, "fit", Mock(wraps=search.fit, side_effect=[DEFAULT, KeyboardInterrupt]))
    space = "sweep.space={model.hidden_size: 'choice(3, 4)'}"
    done = command("tune", *small(prices), "trials=2", "trainer.max_epochs=1", space)
    assert sentence(done, 130) == "Interrupted; study=PETR4 keeps its 1 trials. To resume it, repeat the command."
