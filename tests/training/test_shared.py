import json
import re
import shutil

import mlflow
import numpy as np
import pandas as pd
import pytest
from pytorch_lightning.callbacks import Callback
from safetensors.torch import load_file

from pregao.config import parse
from pregao.errors import BadCheckpoint, InvalidChoice
from pregao.prices.calendar import sessions
from pregao.prices.symbols import SHARED, Symbol
from pregao.tracking import registry
from pregao.training.config import TrainConfig
from pregao.training.pipeline import Pipeline
from pregao.training.steps import _history, prepare
from tests.conftest import random_walk, settle, small_config, with_ranges
from tests.training.conftest import card_of, composed, config_of, new, run, same, saved_weights

KEPT = ["PETR4", "ITUB4", "WEGE3", "ABEV3", "CSNA3", "SP500"]
TOGETHER = ("stock=SHARED", "promote=always", f"stocks=[{','.join([*KEPT, 'SHRT3', 'XPTO3'])}]")


def params(result):
    home = result.folder.parents[2]
    return mlflow.MlflowClient(f"sqlite:///{home}/mlruns/mlflow.db").get_run(result.run_id).data.params


@pytest.fixture(scope="module")
def folder_of_many(tmp_path_factory):
    """Stocks of different calendars and lengths: a jump, a halt, gaps, one short and one far too short history."""
    folder = tmp_path_factory.mktemp("many")
    jump = random_walk(300, seed=2)
    jump.loc[150:, "close"] = (jump.loc[150:, "close"] * 1.3).round(4)
    new_york = sessions("XNYS", pd.Timestamp("2023-06-01").date(), pd.Timestamp("2024-12-30").date())
    tables = {
        "PETR4": with_ranges(random_walk(seed=1)),
        "ITUB4": jump,
        "WEGE3": random_walk(seed=3).assign(close=7.0),
        "ABEV3": random_walk(seed=4).drop(index=range(5, 400, 7)),
        "CSNA3": random_walk(60, seed=5, last="2024-03-28"),
        "SP500": random_walk(len(new_york), seed=6).assign(date=new_york),
        "SHRT3": random_walk(25, seed=7),
    }
    for stock, table in tables.items():
        table.to_csv(folder / f"{stock}.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory, empty_database, folder_of_many):
    """A training of all of them, in a separate home."""
    with pytest.MonkeyPatch.context() as patch:
        home = settle(tmp_path_factory.mktemp("many"), empty_database, patch)
        return run(home / "outputs/SHARED/1", folder_of_many, *TOGETHER)


def test_a_panel_is_served_as_shared_and_names_the_stocks_that_it_leaves_out(many, monkeypatch):
    monkeypatch.setenv("PREGAO_HOME", str(many.folder.parents[2]))
    assert many.left_out["SHRT3"] == "25 sessions; one window needs 30"
    assert "knows no such stock" in many.left_out["XPTO3"]
    assert (params(many)["stocks"], params(many)["left_out"]) == (" ".join(KEPT), "SHRT3 XPTO3")
    served = registry.champion(Symbol.parse(SHARED))
    assert many.verdict.promoted, many.verdict
    assert (many.stock, served.version, served.run_id) == (SHARED, 1, many.run_id)
    assert (served.model.card.stock, served.model.card.stocks) == (SHARED, KEPT)
    assert (served.model.card.panel, served.model.market) == ([], None), "only PETR4 has ranges"


def test_a_panels_forecast_has_each_stock_with_the_sessions_of_its_market(many, folder_of_many):
    forecast = pd.read_csv(many.folder / "forecast.csv")
    assert list(forecast) == ["stock", "date", "step", "close", "lower_80", "upper_80", "lower_90", "upper_90"]
    assert forecast.groupby("stock", sort=False).size().to_dict() == dict.fromkeys(KEPT, 10)
    first = forecast[forecast["step"] == 1].set_index("stock")
    assert first.loc[["SP500", "PETR4", "CSNA3"], "date"].tolist() == ["2024-12-31", "2025-01-02", "2024-04-01"]
    for stock in KEPT:
        last = pd.read_csv(folder_of_many / f"{stock}.csv")["close"].iloc[-1]
        assert first.at[stock, "close"] == pytest.approx(last, rel=0.01)


def test_each_evaluated_stock_of_a_panel_is_compared_with_last_close(many):
    scores = pd.read_csv(many.folder / "scores.csv")
    evaluated = set(pd.read_csv(many.folder / "evaluation.csv")["stock"])
    assert many.evaluation.currency == "R$ and US$"
    assert evaluated == set(scores["stock"]) == set(KEPT) - {"CSNA3"}, "its 60 sessions end before the test part"
    for stock, rows in scores.groupby("stock"):
        assert {"model", "last close"} <= set(rows["forecaster"]), stock


def test_a_poisoned_future_changes_no_bit_of_the_shared_model(home, many, folder_of_many, tmp_path, caplog):
    before = pd.Timestamp(many.evaluation.windows.dates.min())
    for file in folder_of_many.glob("*.csv"):
        table = pd.read_csv(file)
        late = pd.to_datetime(table["date"]) >= before
        prices = table.columns.difference(["date"])
        table.loc[late, prices] = (table.loc[late, prices] * 100).round(4)
        table.to_csv(tmp_path / file.name, index=False)
    changed = run(home / "outputs/SHARED/1", tmp_path, *TOGETHER)
    assert same(saved_weights(many), saved_weights(changed))
    assert changed.metrics["final_rmse"] > 10 * many.metrics["final_rmse"], "the poison must reach the test part"
    for reason in ("SHRT3 is left out: 25 sessions", "XPTO3 is left out: XPTO3: csv knows", "CSNA3 is not evaluated"):
        assert reason in caplog.text


def test_a_panel_of_short_histories_is_refused(home, folder_of_many):
    random_walk(25, seed=8).to_csv(folder_of_many / "SHRT4.csv", index=False)
    with pytest.raises(InvalidChoice, match="no stock has the 30 sessions"):
        run(home / "2", folder_of_many, "stock=SHARED", "stocks=[SHRT3,SHRT4]")


@pytest.fixture(scope="module")
def vale3_prices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prices")
    with_ranges(random_walk()).to_csv(folder / "VALE3.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def warm(tmp_path_factory, empty_database, shared_model, vale3_prices):
    """A training with a warm start, in a separate home."""
    with pytest.MonkeyPatch.context() as patch:
        home = settle(tmp_path_factory.mktemp("warm"), empty_database, patch)
        patch.setattr("pregao.settings.SHIPPED", shared_model)
        return run(home / "outputs/VALE3/1", vale3_prices)


def test_a_training_starts_from_the_shared_model(warm, monkeypatch):
    monkeypatch.setenv("PREGAO_HOME", str(warm.folder.parents[2]))
    served = registry.champion(Symbol.parse(SHARED))
    assert params(warm)["init"] == f"SHARED version 1 run {served.run_id}"
    assert card_of(warm)["typical_volatility"] == served.model.card.typical_volatility
    assert card_of(warm)["panel"] == served.model.card.panel == ["PETR4", "ITUB4"]


def test_init_none_ignores_the_shared_model(warm, shared, home, vale3_prices):
    cold = run(home / "outputs/VALE3/1", vale3_prices, "train.init=none")
    assert not same(saved_weights(warm), saved_weights(cold))
    assert (params(cold)["init"], list(registry.champions())) == ("none", ["VALE3"])
    assert card_of(cold)["panel"] == []


def test_a_warm_start_has_the_shared_weights_and_a_smaller_learning_rate(shared, home, vale3_prices):
    pipeline, data, start = composed(home, vale3_prices, "train.learning_rate_factor=0.1")
    module = prepare(pipeline.config, data.panel, home, start).module
    saved = load_file(shared / "model.safetensors")
    ours = {name: value for name, value in module.model.state_dict().items() if value.shape == saved[name].shape}
    assert same(ours, {name: saved[name] for name in ours})
    assert {name.rpartition(".")[2] for name in saved.keys() - ours.keys()} == {"intercepts", "log_scales"}
    assert module.hparams["learning_rate"] == pytest.approx(0.1 * pipeline.config.optimizer.learning_rate)


def write_card(shared, **changed):
    card = json.loads((shared / "model.json").read_text())
    (shared / "model.json").write_text(json.dumps(card | changed))


@pytest.mark.parametrize(
    ("override", "damage", "level", "reason"),
    [
        ("model.hidden_size=5", None, "WARNING", "its network has other choices: hidden_size is 4, not 5"),
        ("model.dropout=0.3", None, "WARNING", "its network has other choices: dropout is 0.1, not 0.3"),
        ("data.lookback=21", None, "WARNING", "its data.lookback is 20, not 21"),
        ("seed=1", {"validation_end": "2024-10-15"}, "INFO", "its validation part has closes up to 2024-10-15"),
        ("seed=1", {"train_end": "2024-08-30"}, "INFO", "it was trained on closes up to 2024-08-30, but"),
        ("seed=1", "unreadable", "INFO", "The model in .* cannot be loaded"),
        ("seed=1", "missing", "INFO", "it does not exist; python train.py experiment=ibovespa trains it"),
    ],
)
def test_a_shared_model_that_does_not_fit_is_not_used_and_the_log_says_why(
    shared, home, prices, caplog, override, damage, level, reason
):
    caplog.set_level("INFO")
    match damage:
        case dict():
            write_card(shared, **damage)
        case "unreadable":
            (shared / "model.safetensors").write_bytes(b"damaged")
        case "missing":
            shutil.rmtree(shared)
    assert composed(home, prices, override)[2] is None
    [record] = [record for record in caplog.records if "Not started" in record.message]
    assert re.search(f"Not started from the shared model: {reason}", record.message)
    assert record.levelname == level
    with pytest.raises(InvalidChoice, match=rf"train\.init=shared: cannot start from the .* \({reason}"):
        composed(home, prices, "train.init=shared", override)


@pytest.mark.parametrize(("days_before", "fits"), [(0, False), (1, True)])
def test_the_shared_model_must_not_be_trained_on_the_first_day_of_the_test_part(
    shared, home, prices, days_before, fits
):
    border = pd.Timestamp(composed(home, prices, "train.init=none")[1].panel.borders[1])
    write_card(shared, validation_end=str((border - pd.Timedelta(days=days_before)).date()))
    assert (composed(home, prices)[2] is not None) is fits


def test_the_shared_model_itself_has_no_warm_start(prices):
    chosen = small_config(prices, "stock=SHARED", "stocks=[VALE3]").model_dump()
    with pytest.raises(InvalidChoice, match=r"train\.init=shared is for one stock"):
        parse(TrainConfig, chosen | {"train": {"init": "shared", "learning_rate_factor": 0.2}})


def test_a_warm_start_is_reproduced_from_config_json(warm, shared, home):
    config = config_of(warm)
    assert config.train.init == "shared"
    again = Pipeline(config, new(home / "outputs/VALE3/1")).run()
    assert same(saved_weights(warm), saved_weights(again))
    assert np.array_equal(warm.evaluation.forecasts["model"], again.evaluation.forecasts["model"])


class Interrupt(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt


def test_an_interrupted_warm_start_resumes_to_the_same_weights(warm, shared, home, vale3_prices):
    folder = new(home / "outputs/VALE3/interrupted")
    with pytest.raises(KeyboardInterrupt):
        Pipeline(small_config(vale3_prices), folder, [Interrupt()]).run()
    checkpoint = f"ckpt_path={folder}/checkpoints/last.ckpt"
    resumed = run(home / "outputs/VALE3/resumed", vale3_prices, checkpoint)
    assert same(saved_weights(warm), saved_weights(resumed))
    with pytest.raises(BadCheckpoint, match=r"initialised from SHARED of run \w+; .*, is now"):
        run(home / "outputs/VALE3/other", vale3_prices, checkpoint, "train.init=none")


def test_a_run_with_other_borders_has_another_history(home, prices):
    def history(*overrides):
        pipeline, data, start = composed(home, prices, *overrides)
        return _history(pipeline.config, data.panel, start)

    assert history() == history() != history("evaluation.validation=0.10")
