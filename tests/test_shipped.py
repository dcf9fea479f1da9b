import json
import os
import shutil
import subprocess
import sys

import mlflow
import pytest

from pregao import tracking
from pregao.errors import CorruptModel, NoModel
from pregao.forecasting import forecast_closes
from pregao.pipeline import Pipeline
from pregao.prices.symbols import Symbol
from pregao.settings import REPOSITORY, settings
from pregao.trained_model import TrainedModel
from tests.conftest import random_walk, small_config


@pytest.fixture
def shipped(home, prices, tmp_path, monkeypatch, empty_database):
    """A folder with a trained VALE3, and a home that does not know it."""
    folder = home / "outputs/VALE3/1"
    folder.mkdir(parents=True)
    Pipeline(small_config(prices), folder).run()
    models = tmp_path / "models"
    shutil.copytree(folder / "model", models / "VALE3")
    shutil.copy(folder / "metrics.json", models / "VALE3")
    (models / "no ticker").mkdir()
    (models / "no ticker" / "model.json").write_text("{}")
    shutil.rmtree(home / "mlruns")
    (home / "mlruns").mkdir()
    fresh = tmp_path / "fresh"
    (fresh / "mlruns").mkdir(parents=True)
    shutil.copy(empty_database, fresh / "mlruns/mlflow.db")
    monkeypatch.setenv("PREGAO_HOME", str(fresh))
    monkeypatch.setattr("pregao.settings.SHIPPED", models)
    return models


def test_a_shipped_model_is_registered_at_its_first_use(shipped, vale3):
    assert tracking.served_stocks() == ["VALE3"]
    served = tracking.champion(vale3)
    assert served.version == 1
    assert tracking.champion(vale3).run_id == served.run_id
    run = mlflow.MlflowClient(settings().tracking_uri).get_run(served.run_id)
    metrics = json.loads((shipped / "VALE3/metrics.json").read_text())
    assert run.data.metrics == pytest.approx(metrics)
    assert run.data.tags["shipped"] == "True"
    assert run.info.status == "FINISHED"


def test_it_forecasts_as_the_files_do(shipped):
    closes = random_walk(30)["close"].tolist()
    files = TrainedModel.load(shipped / "VALE3").forecast(closes)
    assert forecast_closes(closes, "VALE3").table["close"].tolist() == files["close"].tolist()


def test_a_stock_that_has_a_champion_keeps_it(shipped, vale3, prices, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    result = Pipeline(small_config(prices, "promote=always"), folder).run()
    assert tracking.champion(vale3).run_id == result.run_id


def test_another_stock_has_none(shipped):
    with pytest.raises(NoModel, match="there are models for VALE3"):
        tracking.champion(Symbol.parse("PETR4"))


def test_a_damaged_one_is_refused(shipped, vale3):
    (shipped / "VALE3/model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CorruptModel):
        tracking.champion(vale3)
    assert tracking.champions() == {}


@pytest.mark.slow
def test_processes_that_use_it_at_once_register_it_once(shipped, vale3):
    code = (
        "import sys, pregao.settings; from pathlib import Path; pregao.settings.SHIPPED = Path(sys.argv[1])\n"
        "from pregao import tracking; from pregao.prices.symbols import Symbol\n"
        "print(tracking.champion(Symbol.parse('VALE3')).version)"
    )
    command = [sys.executable, "-c", code, str(shipped)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0].strip() for process in started] == ["1"] * 4
    client = mlflow.MlflowClient(settings().tracking_uri)
    assert len(client.search_model_versions("name='VALE3'")) == 1


@pytest.mark.skipif(not (REPOSITORY / "models/VALE3").is_dir(), reason="no model is shipped yet")
def test_the_repositorys_own_model_is_whole():
    folder = REPOSITORY / "models/VALE3"
    card = TrainedModel.load(folder).card
    assert (card.stock, card.lookback, card.network["horizon"]) == ("VALE3", 20, 10)
    assert json.loads((folder / "metrics.json").read_text())["final_mape"] > 0
    assert not TrainedModel.load(folder).forecast([50.0] * 20).isna().any().any()
