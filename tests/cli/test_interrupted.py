"""Commands that get SIGINT or SIGTERM: exit code 130 or 143, a KILLED run, and the way to resume."""

import signal

import pytest

from tests.cli.conftest import champions, folder_of, interrupted, quick, sentence, small, statuses

ENDLESS = ("trainer.max_epochs=1000000", "trainer.patience=null")


def parts(home):
    return {path: path.stat().st_mtime_ns for path in home.glob("outputs/backtest/*/parts/*.parquet")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [
        (signal.SIGINT, 130, "Interrupted; the served model is unchanged."),
        (signal.SIGTERM, 143, "Terminated; the served model is unchanged."),
    ],
)
def test_a_signal_ends_a_training_cleanly(champion, prices, sent, code, said):
    def trains():
        return len(list(champion.glob("outputs/PETR4/*/checkpoints/last.ckpt"))) == 2

    served = champions(champion)
    done = interrupted("train.py", *small(prices), *ENDLESS, home=champion, sent=sent, until=trains)
    assert sentence(done, code) == said
    assert statuses(champion) == ["FINISHED", "KILLED"]
    assert champions(champion) == served


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_backtest_is_resumed_in_its_folder(command, home, prices, sent, code):
    network = ("models=[last close,shared]", "model.hidden_size=4", "trainer.max_epochs=40", "refit_every=1")
    arguments = quick(prices, *network)
    done = interrupted("backtest.py", *arguments, home=home, sent=sent, until=lambda: len(parts(home)) >= 2)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    [folder] = home.glob("outputs/backtest/*")
    assert f"To resume, repeat the command with hydra.run.dir={folder}" in done.stderr
    kept = parts(home)
    assert 2 <= len(kept) < 12
    again = command("backtest", *arguments, f"hydra.run.dir={folder}")
    assert again.returncode == 0, again.stderr
    assert folder_of(again) == folder
    assert kept.items() < parts(home).items()
    assert statuses(home) == ["KILLED", "FINISHED"]


@pytest.mark.slow
def test_ctrl_c_ends_a_sweep_with_the_command_that_resumes_it(home, prices):
    def trains():
        return any(home.glob("outputs/multirun/*/0/checkpoints/last.ckpt"))

    sweep = ("-m", *small(prices), *ENDLESS, "seed=1,2")
    done = interrupted("train.py", *sweep, home=home, sent=signal.SIGINT, until=trains)
    [folder] = home.glob("outputs/multirun/*")
    assert sentence(done, 130).endswith(f"To resume, repeat it with hydra.sweep.dir={folder}")


def test_ctrl_c_ends_a_search_that_keeps_its_trials(command, home, prices, monkeypatch):
    from pregao.tuning import search

    made = []

    def fit(*given):
        made.append(1)
        if len(made) == 2:
            raise KeyboardInterrupt
        return original(*given)

    original = search.fit
    monkeypatch.setattr(search, "fit", fit)
    space = "sweep.space={model.hidden_size: 'choice(3, 4)'}"
    done = command("tune", *small(prices), "trials=2", "trainer.max_epochs=1", space)
    assert sentence(done, 130) == "Interrupted; study=PETR4 keeps its 1 trials. To resume it, repeat the command."
