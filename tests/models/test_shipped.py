import json
import shutil

import mlflow
import pytest

from pregao.errors import NoModel
from pregao.forecasting.compose import forecast_closes
from pregao.models.trained import TrainedModel
from pregao.prices.symbols import Symbol
from pregao.settings import REPOSITORY, settings
from pregao.tracking import registry, runs
from tests.conftest import random_walk


@pytest.fixture
def shipped(home, tmp_path, monkeypatch):
    """A folder of shipped models with VALE3 alone, in a home that has not registered it."""
    models = tmp_path / "models"
    shutil.copytree(REPOSITORY / "models/VALE3", models / "VALE3")
    (models / "not a ticker").mkdir()
    (models / "not a ticker/model.json").write_text("{}")
    monkeypatch.setattr("pregao.settings.SHIPPED", models)
    return models


def test_a_shipped_model_is_registered_once_at_its_first_use(shipped, vale3):
    assert registry.served_stocks() == ["VALE3"]
    served = registry.champion(vale3)
    assert (served.version, registry.champion(vale3).run_id) == (1, served.run_id)
    run = mlflow.MlflowClient(settings().tracking_uri).get_run(served.run_id)
    assert run.data.metrics == pytest.approx(json.loads((shipped / "VALE3/metrics.json").read_text()))
    assert (run.data.tags["shipped"], run.info.status) == ("True", "FINISHED")
    assert run.data.tags["mlflow.source.git.commit"] == "unknown"  # not the commit that registers it
    closes = random_walk(30)["close"].tolist()
    files = TrainedModel.load(shipped / "VALE3").forecast(closes)
    assert forecast_closes(closes, "VALE3").table["close"].tolist() == pytest.approx(files["close"].tolist(), rel=1e-6)
    with pytest.raises(NoModel, match="there are models for VALE3"):
        registry.champion(Symbol.parse("PETR4"))


def test_a_shipped_model_does_not_replace_a_champion(shipped, vale3, tmp_path):
    folder = shutil.copytree(shipped / "VALE3", tmp_path / "model")
    with runs.start_run(vale3, "run") as run:
        version = registry.register(run, vale3, folder)
    registry.set_champion(vale3, version)
    assert registry.champion(vale3).run_id == run.run_id


@pytest.mark.parametrize("stock", ["VALE3", "SHARED"])
def test_the_cards_of_the_shipped_models_are_consistent(stock):
    folder = REPOSITORY / "models" / stock
    card = TrainedModel.load(folder).card
    assert (card.stock, card.lookback, card.horizon) == (stock, 20, 10)
    assert "VALE3" in card.stocks
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {name: metrics[name] for name in card.metrics} == card.metrics
    assert card.train_end < card.validation_start < card.validation_end < card.data_end


def test_the_model_that_vale3_starts_from_has_not_seen_its_test_part():
    vale3, shared = (TrainedModel.load(REPOSITORY / "models" / stock).card for stock in ("VALE3", "SHARED"))
    assert shared.validation_end < vale3.validation_end
    assert vale3.typical_volatility == shared.typical_volatility
