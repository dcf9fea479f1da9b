import json
import os
import shutil
import subprocess
import sys

import mlflow
import numpy as np
import pytest

from pregao.errors import CorruptModel, NoModel
from pregao.forecasting.compose import forecast_closes, served_model
from pregao.forecasting.historical import rolling_forecasts
from pregao.models.trained import TrainedModel
from pregao.prices import Downloader
from pregao.prices.symbols import Symbol
from pregao.quantiles import at
from pregao.settings import REPOSITORY, settings
from pregao.tracking import registry
from pregao.training.pipeline import Pipeline
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
    assert registry.served_stocks() == ["VALE3"]
    served = registry.champion(vale3)
    assert served.version == 1
    assert registry.champion(vale3).run_id == served.run_id
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
    assert registry.champion(vale3).run_id == result.run_id


def test_another_stock_has_none(shipped):
    with pytest.raises(NoModel, match="there are models for VALE3"):
        registry.champion(Symbol.parse("PETR4"))


def test_a_damaged_one_is_refused(shipped, vale3):
    (shipped / "VALE3/model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CorruptModel):
        registry.champion(vale3)
    assert registry.champions() == {}


@pytest.mark.slow
def test_processes_that_use_it_at_once_register_it_once(shipped, vale3):
    code = (
        "import sys, pregao.settings; from pathlib import Path; pregao.settings.SHIPPED = Path(sys.argv[1])\n"
        "from pregao.tracking import registry; from pregao.prices.symbols import Symbol\n"
        "print(registry.champion(Symbol.parse('VALE3')).version)"
    )
    command = [sys.executable, "-c", code, str(shipped)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0].strip() for process in started] == ["1"] * 4
    client = mlflow.MlflowClient(settings().tracking_uri)
    assert len(client.search_model_versions("name='VALE3'")) == 1


@pytest.mark.parametrize("stock", ["VALE3", "SHARED"])
def test_the_repositorys_own_models_are_whole(stock):
    folder = REPOSITORY / "models" / stock
    model = TrainedModel.load(folder)
    card = model.card
    assert (card.stock, card.lookback, card.horizon) == (stock, 20, 10)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {name: metrics[name] for name in card.metrics} == card.metrics
    assert metrics["final_mape"] > 0
    assert not model.forecast([50.0] * 20).isna().any().any()


@pytest.mark.parametrize("stock", ["VALE3", "SHARED"])
def test_the_repositorys_own_models_say_that_they_saw_nothing_after_validation(stock):
    card = TrainedModel.load(REPOSITORY / "models" / stock).card
    assert "VALE3" in card.stocks
    assert card.train_end < card.validation_start < card.validation_end < card.data_end


def test_what_the_repositorys_vale3_began_at_had_not_seen_what_judges_it():
    vale3, shared = (TrainedModel.load(REPOSITORY / "models" / stock) for stock in ("VALE3", "SHARED"))
    assert shared.card.validation_end < vale3.card.validation_end
    assert vale3.card.typical_volatility == shared.card.typical_volatility


@pytest.mark.slow
@pytest.mark.parametrize("stock", ["VALE3", "PETR4"])
def test_the_repositorys_models_hold_what_they_promise_on_real_prices(real_prices, home, monkeypatch, stock):
    monkeypatch.setattr("pregao.settings.SHIPPED", REPOSITORY / "models")
    served = served_model(Symbol.parse(stock))
    assert served.stock == ("VALE3" if stock == "VALE3" else "SHARED")
    table = Downloader("csv", real_prices).prices(stock, "2015-01-01", "2025-07-28").table
    rolling = rolling_forecasts(served.model, table, served.model.card.validation_start, stock)
    judged = rolling.windows.dates[:, 0] > np.datetime64(served.model.card.validation_end)
    y, q = rolling.windows.targets[judged], rolling.quantiles[judged]
    known = np.isfinite(y)
    inside = (y >= at(q, 0.05)) & (y <= at(q, 0.95))
    assert 0.84 < inside[known].mean() < 0.95


@pytest.mark.slow
def test_poisoned_outcomes_after_validation_leave_the_repositorys_forecasts_until_then(real_prices, tmp_path):
    model = TrainedModel.load(REPOSITORY / "models/SHARED")
    table = Downloader("csv", real_prices).prices("PETR4", "2015-01-01", "2025-07-28").table
    poisoned = table.copy()
    late = table["date"] > model.card.validation_end
    poisoned.loc[late, ["open", "high", "low", "close"]] *= 3
    clean, changed = (rolling_forecasts(model, each, model.card.validation_start) for each in (table, poisoned))
    until = clean.windows.cutoffs <= np.datetime64(model.card.validation_end)
    assert np.array_equal(clean.quantiles[until], changed.quantiles[until])
    assert not np.array_equal(clean.quantiles[~until], changed.quantiles[~until])
