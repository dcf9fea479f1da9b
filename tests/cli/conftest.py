"""The commands in this process, a home with a served model of PETR4, and small disks."""

import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from pregao.settings import REPOSITORY
from tests.conftest import SMALL, environment, prices_in, trained
from tests.disks import disk  # noqa: F401 - a fixture

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def command(monkeypatch, capsys):
    """Run a command in this process: `command("train", "seed=-1")` returns what `subprocess.run` would."""

    def run(name, *arguments):
        root, handlers = logging.getLogger(), {number: signal.getsignal(number) for number in SIGNALS}
        before = root.handlers[:], root.level
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", [f"{name}.py", *arguments])
            patch.setattr(logging, "raiseExceptions", True)
            patch.setenv("HYDRA_FULL_ERROR", "0")  # a user's shell may have set it
            try:
                import_module(f"pregao.cli.{name}").main()
            except SystemExit as stop:
                code = stop.code or 0
            finally:
                for handler in set(root.handlers) - set(before[0]):
                    handler.close()
                root.handlers[:], root.level = before
                for number, handler in handlers.items():
                    signal.signal(number, handler)
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return run


@pytest.fixture
def refused(command, champion):
    """Run a command that must leave prices, run folders and MLflow unchanged; returns its sentence."""

    def run(name, *arguments):
        before = left(champion), statuses(champion), champions(champion)
        said = sentence(command(name, *arguments))
        assert (left(champion), statuses(champion), champions(champion)) == before
        return said

    return run


def sentence(done, code=2):
    """The refusal on stderr, after the lines of the log."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert 'File "' not in done.stderr
    [said] = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith(("INFO ", "WARNING "))]
    return said


def query(home, sql):
    with closing(sqlite3.connect(home / "mlruns/mlflow.db")) as database:
        return database.execute(sql).fetchall()


def statuses(home):
    return [status for (status,) in query(home, "select status from runs order by start_time")]


def champions(home):
    return query(home, "select name, version from registered_model_aliases where alias = 'champion'")


def left(home):
    """Every file and folder of runs and prices, without yfinance's cookies."""
    found = [path for folder in ("outputs", "data") for path in (home / folder).rglob("*")]
    return {path: path.is_file() and path.read_bytes() for path in found if ".yfinance" not in path.parts}


def folder_of(done):
    """The last line of stdout."""
    return Path(done.stdout.splitlines()[-1])


def closes(*last):
    """20 closes for predict.py, ending with `last`."""
    return f"closes=[{','.join(map(str, [*np.arange(40.5, 60.5 - len(last)), *last]))}]"


def small(prices):
    """A training of PETR4 without a warm start: the repository's SHARED is not looked at."""
    source = ("source=csv", f"source.path={prices}")
    return (*SMALL, "stock=PETR4", *source, "end=2024-12-30", "train.init=none", "promote=always")


def quick(prices, *overrides):
    """A backtest of PETR4 with three refits."""
    choices = ("stock=PETR4", "start=2015-01-01", "first_cutoff=2024-07-01", "end=2024-12-30", "refit_every=2")
    return (*choices, "source=csv", f"source.path={prices}", "models=[last close,EWMA]", *overrides)


@pytest.fixture
def prices(tmp_path):
    """A folder with PETR4.csv, since the repository has a model of VALE3."""
    return prices_in(tmp_path / "prices", "PETR4")


@pytest.fixture(scope="package")
def trained_home(tmp_path_factory, empty_database):
    """A home with a served model of PETR4."""
    with pytest.MonkeyPatch.context() as patch:
        return trained(tmp_path_factory.mktemp("trained"), empty_database, patch, "PETR4")


@pytest.fixture
def champion(trained_home, home):
    """This test's home with the model of the trained one."""
    shutil.rmtree(home)
    shutil.copytree(trained_home, home)
    return moved(trained_home, home)


def moved(home, to):
    """Replace the old home in the paths of a copied database."""
    columns = {"experiments": "artifact_location", "runs": "artifact_uri", "logged_models": "artifact_location"}
    with closing(sqlite3.connect(to / "mlruns/mlflow.db")) as database:
        for table, column in (columns | {"model_versions": "storage_location"}).items():
            database.execute(f"update {table} set {column} = replace({column}, ?, ?)", (str(home), str(to)))
        database.commit()
    return to


def interrupted(program, *arguments, home, sent, until):
    """A command whose process group got a signal once `until()` was true; nothing of the group is left."""
    command = [sys.executable, str(REPOSITORY / program), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=environment(home), start_new_session=True, **pipes)
    try:
        end = time.monotonic() + 60
        while not until():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        os.killpg(process.pid, sent)
        stdout, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)
