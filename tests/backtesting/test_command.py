"""backtest.py as a person runs it: refused, interrupted, gone on with, on a disk that is full or read-only."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from pregao.settings import REPOSITORY
from tests.cli.test_commands import disk, left, limited, query, refused, remount, sentence, statuses
from tests.conftest import environment, random_walk, run

__all__ = ["disk"]  # a fixture


@pytest.fixture
def prices(tmp_path):
    folder = tmp_path / "prices"
    folder.mkdir()
    random_walk().to_csv(folder / "PETR4.csv", index=False)
    return folder


def quick(prices, *overrides):
    choices = ("stock=PETR4", "start=2015-01-01", "first_cutoff=2024-07-01", "end=2024-12-30", "refit_every=2")
    return (*choices, "source=csv", f"source.path={prices}", "models=[last close,EWMA]", *overrides)


NETWORK = ("models=[last close,shared]", "model.hidden_size=4", "trainer.max_epochs=40")
ENDLESS = (*NETWORK, "trainer.max_epochs=1000000", "trainer.patience=null")


def interrupted(home, arguments, sent, until):
    """Exit code and stderr of a backtest that got a signal when `until`, given its folder, was true."""
    command = [sys.executable, str(REPOSITORY / "backtest.py"), *arguments]
    process = subprocess.Popen(
        command, env=environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        patience = time.monotonic() + 60
        while not any(until(folder) for folder in home.glob("outputs/backtest/*")):
            assert process.poll() is None
            assert time.monotonic() < patience
            time.sleep(0.01)
        os.killpg(process.pid, sent)
        _, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    return process.returncode, stderr


def parts(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("parts/*.parquet")}


def test_ctrl_c_keeps_the_folder_and_tells_how_to_go_on(home, prices):
    returned, stderr = interrupted(home, quick(prices, *ENDLESS), signal.SIGINT, lambda folder: len(parts(folder)) == 1)
    assert returned == 130
    assert "Traceback" not in stderr
    [folder] = home.glob("outputs/backtest/*")
    assert f"to go on, give the same command hydra.run.dir={folder}" in stderr
    assert len(parts(folder)) == 1
    assert statuses(home) == ["KILLED"]


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_backtest_goes_on_to_the_same_bits(home, prices, tmp_path, sent, code):
    arguments = quick(prices, *NETWORK, "refit_every=1")
    returned, _ = interrupted(home, arguments, sent, lambda folder: len(parts(folder)) >= 2)
    assert returned == code
    [folder] = home.glob("outputs/backtest/*")
    kept = parts(folder)
    assert 2 <= len(kept) < 12
    told = sentence(run("backtest.py", *arguments, "seed=1", f"hydra.run.dir={folder}", home=home))
    assert told.startswith(f"{folder} holds a backtest with other choices (seed).")
    again = run("backtest.py", *arguments, f"hydra.run.dir={folder}", home=home)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == str(folder)
    assert kept.items() <= parts(folder).items()
    whole = run("backtest.py", *arguments, f"hydra.run.dir={tmp_path / 'whole'}", home=home)
    assert whole.returncode == 0, whole.stderr
    for name in ("forecasts.parquet", "scores.csv"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert statuses(home) == ["KILLED", "FINISHED", "FINISHED"]


def test_a_backtest_shows_its_table_and_its_folder(home, prices):
    arguments = quick(prices)
    done = run("backtest.py", *arguments, home=home, COLUMNS="80")
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.splitlines()[-1])
    assert folder.parent == home / "outputs/backtest"
    files = {"forecasts.parquet", "scores.csv", "backtest.png", "backtest.json", "backtest.log", ".hydra"}
    assert files <= {path.name for path in folder.iterdir()}
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 80
    assert "PETR4: " in done.stdout
    assert "EWMA" in done.stdout
    assert query(home, "select name from experiments where name = 'backtest'") == [("backtest",)]


@pytest.mark.slow
def test_what_failed_is_said_on_the_terminal_and_in_the_log(home, prices):
    random_walk().assign(close=20.0).to_csv(prices / "VALE3.csv", index=False)
    arguments = quick(prices, "stocks=[PETR4,VALE3,ITUB4]", "models=[last close,GJR-GARCH]")
    done = run("backtest.py", *arguments, home=home, COLUMNS="400")
    assert done.returncode == 0, done.stderr
    log = (Path(done.stdout.splitlines()[-1]) / "backtest.log").read_text(encoding="utf-8")
    for text in (done.stdout, done.stderr, log):
        assert "GJR-GARCH, VALE3, refit 2024-07-01: The baseline 'GJR-GARCH' was given" in text
        assert "ITUB4 is left out: ITUB4: csv knows no such stock" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("models=[]", "models=[]: "),
        pytest.param("models=[EWMA,garch]", "models: garch: there is no such model. Allowed: ", marks=pytest.mark.slow),
        pytest.param("first_cutoff=2024-12-20", "first_cutoff=2024-12-20: the prices end", marks=pytest.mark.slow),
        pytest.param("first_cutoff=2015-01-05", "first_cutoff=2015-01-05: the prices begin", marks=pytest.mark.slow),
        pytest.param("first_cutoff=2025-02-01", "first_cutoff=2025-02-01 is after end", marks=pytest.mark.slow),
        pytest.param("stock=PETR9", "PETR9: csv knows no such stock", marks=pytest.mark.slow),
        pytest.param("stock=../../x", "stock='../../x' is not a ticker", marks=pytest.mark.slow),
        pytest.param("refit_evry=3", "refit_evry: there is no such setting. Did you mean", marks=pytest.mark.slow),
    ],
)
def test_a_refused_backtest_leaves_nothing_behind(home, prices, given, said):
    assert refused("backtest.py", *quick(prices), given, home=home).startswith(said)


def test_help_tells_how_to_go_on(home):
    done = run("backtest.py", "--help", home=home)
    assert done.returncode == 0
    for word in ("hydra.run.dir=FOLDER", "refit_every: 6", "panel: ibovespa", "Exit codes:"):
        assert word in done.stdout
    assert not (home / "outputs").exists()


def test_a_read_only_home_is_refused(disk, home, prices):
    shutil.copytree(home / "mlruns", disk / "mlruns")
    remount(disk, "ro")
    assert "cannot be written (Read-only file system)" in refused("backtest.py", *quick(prices), home=disk)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [20_000, 150_000])
def test_a_file_that_cannot_grow_is_a_sentence(home, prices, limit):
    told = sentence(limited("backtest.py", *quick(prices), home=home, limit=limit))
    assert "cannot be written" in told


@pytest.mark.slow
def test_a_disk_that_becomes_full_keeps_the_parts_and_goes_on_when_there_is_room(disk, home, prices):
    shutil.copytree(home / "mlruns", disk / "mlruns")
    used = shutil.disk_usage(disk).used // 1024
    remount(disk, f"size={used + 150}k")
    done = run("backtest.py", *quick(prices), home=disk)
    assert "cannot be written" in sentence(done)
    [folder] = disk.glob("outputs/backtest/*")
    assert f"hydra.run.dir={folder}" in done.stderr
    kept = parts(folder)
    assert kept
    remount(disk, "size=64m")
    again = run("backtest.py", *quick(prices), f"hydra.run.dir={folder}", home=disk)
    assert again.returncode == 0, again.stderr
    assert kept.items() <= parts(folder).items()
    assert len(pd.read_parquet(folder / "forecasts.parquet")) > 0


@pytest.mark.slow
def test_an_mlflow_that_does_not_answer_is_said_before_anything_is_forecast(home, prices):
    env = environment(home) | {"MLFLOW_TRACKING_URI": "http://user:secret@127.0.0.1:9"}
    command = [sys.executable, str(REPOSITORY / "backtest.py"), *quick(prices)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert sentence(done).startswith("MLflow at http://…@127.0.0.1:9 cannot be used (")
    assert "secret" not in done.stderr
    assert left(home) == {}
