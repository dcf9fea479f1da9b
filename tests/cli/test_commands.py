"""The output and the files of commands that succeed."""

import contextlib
import json
import os
import pty
import subprocess
import sys

import pytest

from pregao.cli.progress import training_progress
from pregao.prices.symbols import Symbol
from pregao.settings import REPOSITORY
from pregao.tracking import registry, runs
from tests.cli.conftest import champions, closes, folder_of, query, quick, small, statuses
from tests.conftest import environment, run


def test_the_last_line_of_a_training_is_its_folder_in_a_narrow_terminal(command, home, prices, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    done = command("train", *small(prices))
    [folder] = (home / "outputs/PETR4").iterdir()
    assert folder_of(done) == folder
    files = {"metrics.json", "forecast.csv", "evaluation.csv", "report.png", "train.log", ".hydra", "checkpoints"}
    assert files <= set(os.listdir(folder))
    assert statuses(home) == ["FINISHED"]
    assert champions(home) == [("PETR4", 1)]


def test_a_forecast_as_json_is_all_of_stdout(champion):
    done = run("predict.py", "stock=PETR4", closes(), "format=json", home=champion, COLUMNS="40")
    assert done.returncode == 0, done.stderr
    forecast = json.loads(done.stdout)
    assert forecast["stock"] == "PETR4"
    assert len(forecast["forecast"]) == 10
    assert forecast["prediction"] == forecast["forecast"][0]["close"]


def test_a_forecast_is_a_table_with_a_date_and_two_bands_per_step(command, champion, prices):
    done = command("predict", "stock=PETR4", f"source.path={prices}", "source=csv")
    assert done.returncode == 0, done.stderr
    assert "PETR4: the next 10 closes after 2024-12-30, R$" in done.stdout
    assert "Not recorded" not in done.stdout
    rows = [line.replace("│", " ").split() for line in done.stdout.splitlines()]
    [row] = [row for row in rows if row[:1] == ["10"]]
    lower_80, upper_80, lower_90, upper_90 = (float(row[place]) for place in (3, 5, 6, 8))
    assert lower_90 < lower_80 < float(row[2]) < upper_80 < upper_90


@pytest.fixture
def two_versions(champion):
    """The home with a second version of PETR4, which is served; its files are those of the first."""
    petr4 = Symbol.parse("PETR4")
    first = registry.champion(petr4)
    with runs.start_run(petr4, "second") as run:
        registry.set_champion(petr4, registry.register(run, petr4, first.folder))
    return petr4


def test_versions_are_listed_pinned_and_rolled_back(command, two_versions, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    listed = command("models", "stock=PETR4")
    assert listed.returncode == 0, listed.stderr
    assert "PETR4: 2 versions; PETR4 version 2 answers now" in listed.stdout
    states = [line.split("served")[1].rstrip() for line in listed.stdout.splitlines() if "served" in line]
    assert states == ["", " before, best"]
    for overrides, version in ((), 2), (("version=1",), 1), (("version=2",), 2):
        done = command("predict", "stock=PETR4", closes(), *overrides)
        assert f"model PETR4 version {version}," in done.stdout
    done = command("rollback", "stock=PETR4.SA")
    assert (done.returncode, done.stdout.startswith("PETR4 version 1, trained 20")) == (0, True)
    assert registry.champion(two_versions).version == 1


def test_a_backtest_prints_its_table_and_its_folder(command, home, prices, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = command("backtest", *quick(prices))
    assert done.returncode == 0, done.stderr
    folder = folder_of(done)
    assert folder.parent == home / "outputs/backtest"
    files = {"forecasts.parquet", "scores.csv", "backtest.png", "backtest.json", "backtest.log", ".hydra"}
    assert files <= set(os.listdir(folder))
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 80
    assert "PETR4: " in done.stdout
    assert "EWMA" in done.stdout
    assert query(home, "select name from experiments where name = 'backtest'") == [("backtest",)]


@pytest.mark.slow
def test_a_terminal_shows_lightnings_bar_on_stderr_alone(home, prices):
    assert training_progress() == []  # without a terminal
    command = [sys.executable, str(REPOSITORY / "train.py"), *small(prices)]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, env=environment(home), stdout=subprocess.PIPE, stderr=theirs, text=True) as training:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # at the end, the other side is closed
            while True:
                shown += os.read(ours, 65536)
        stdout = training.stdout.read()
    assert training.returncode == 0
    assert b"train_loss" in shown
    assert "Epoch" not in stdout
    assert stdout.splitlines()[-1].startswith(str(home / "outputs/PETR4"))
