"""Damaged files, full and read-only disks, and an MLflow that does not respond: one sentence, and no other damage."""

import shutil

import pytest

from pregao.errors import StorageError, TrackingUnavailable
from tests.cli.conftest import champions, closes, left, moved, quick, sentence, small, statuses
from tests.disks import remount


def on(disk, home, monkeypatch):
    """Copy the home to that disk, and use it."""
    shutil.copytree(home / "mlruns", disk / "mlruns")
    monkeypatch.setenv("PREGAO_HOME", str(disk))
    return moved(home, disk)


@pytest.mark.parametrize("name", ["predict", "train", "backtest"])
def test_a_damaged_database_is_named(command, home, prices, name):
    (home / "mlruns/mlflow.db").write_bytes(b"this was a database once " * 100)
    choices = {"predict": (closes(),), "train": small(prices), "backtest": quick(prices)}
    assert "mlruns/mlflow.db cannot be used (file is not a database)" in sentence(command(name, *choices[name]))
    assert left(home) == {} or name == "backtest"


def test_a_damaged_served_model_is_named(refused, champion):
    [weights] = champion.glob("mlruns/artifacts/PETR4/models/*/artifacts/artifacts/model/model.safetensors")
    [onnx] = champion.glob("mlruns/served/PETR4-*/model.onnx")
    for file in (weights, onnx):
        file.write_bytes(file.read_bytes()[:100])
    assert "cannot be loaded" in refused("predict", "stock=PETR4", closes())


@pytest.mark.parametrize(("name", "uri"), [("train", "http://user:secret@127.0.0.1:9"), ("backtest", "bogus://x")])
def test_an_mlflow_that_does_not_respond_is_named_without_its_password(command, home, prices, monkeypatch, name, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    done = command(name, *(small if name == "train" else quick)(prices))
    assert sentence(done).startswith(f"MLflow at {uri.replace('user:secret', '…')} cannot be used (")
    assert "secret" not in done.stderr
    assert left(home) == {}


@pytest.mark.slow
@pytest.mark.parametrize("free", [24, 60, 180, 400])
def test_a_full_disk_is_refused_and_keeps_the_champion(command, disk, champion, prices, monkeypatch, free):
    home = on(disk, champion, monkeypatch)
    remount(disk, f"size={shutil.disk_usage(disk).used // 1024 + free}k")
    assert "cannot be written" in sentence(command("train", *small(prices)))
    assert not list(home.glob("outputs/*/*"))
    remount(disk, "size=64m")
    assert champions(home) == champions(champion)
    assert "FINISHED" not in statuses(home)[1:]


def test_a_read_only_home_is_refused_for_a_training_and_a_backtest_but_forecasts(
    command, disk, champion, prices, monkeypatch
):
    on(disk, champion, monkeypatch)
    remount(disk, "ro")
    for name, choices in (("train", small(prices)), ("backtest", quick(prices))):
        assert "cannot be written (Read-only file system)" in sentence(command(name, *choices))
    done = command("predict", "stock=PETR4", closes())
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("error", [TrackingUnavailable("http://nowhere", "no answer"), StorageError("x", "full")])
def test_finished_work_is_kept_where_the_same_command_can_resume_it(command, home, prices, monkeypatch, error):
    def fails(*_):
        raise error

    monkeypatch.setattr("pregao.tracking.runs.Run.artifacts", fails)
    for name, choices in (("train", small(prices)), ("backtest", quick(prices))):
        assert str(error) in command(name, *choices).stderr
    away = isinstance(error, TrackingUnavailable)
    assert len(list(home.glob("outputs/PETR4/*/checkpoints/last.ckpt"))) == away
    assert len(list(home.glob("outputs/backtest/*/parts/*.parquet"))) == 6
    assert set(statuses(home)) == {"FAILED"}
