"""The model that many stocks share: how it is trained, and how a stock's own training begins at it."""

import json

import mlflow
import numpy as np
import pandas as pd
import pytest
from pytorch_lightning.callbacks import Callback
from safetensors.torch import load_file

from pregao.config import parse
from pregao.errors import BadCheckpoint, InvalidChoice, UnknownStock
from pregao.models.trained import TrainedModel
from pregao.prices.calendar import sessions
from pregao.prices.symbols import SHARED, Symbol
from pregao.settings import settings
from pregao.tracking import registry
from pregao.training.config import TrainConfig
from pregao.training.pipeline import Pipeline
from pregao.training.steps import prepare
from tests.conftest import random_walk, settle, small_config, with_ranges

KEPT = ["PETR4", "ITUB4", "WEGE3", "ABEV3", "CSNA3", "SP500"]
TOGETHER = ("stock=SHARED", f"stocks=[{','.join([*KEPT, 'SHRT3', 'XPTO3'])}]")


def run(folder, prices, *overrides, **choices):
    folder.mkdir(parents=True)
    return Pipeline(small_config(prices, *overrides, **choices), folder).run()


def weights(result):
    return load_file(result.folder / "model/model.safetensors")


def same(one, two):
    return all((one[name] == two[name]).all() for name in one)


def params(result):
    home = result.folder.parents[2]
    return mlflow.MlflowClient(f"sqlite:///{home}/mlruns/mlflow.db").get_run(result.run_id).data.params


def start_of(home, prices, *overrides):
    """The shared model that such a training starts from, or None."""
    pipeline = Pipeline(small_config(prices, *overrides), home)
    return pipeline.data(pipeline.download())[1]


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
    """A training of all of them, in a home of its own."""
    with pytest.MonkeyPatch.context() as patch:
        home = settle(tmp_path_factory.mktemp("many"), empty_database, patch)
        return run(home / "outputs/SHARED/1", folder_of_many, *TOGETHER)


def test_a_panel_names_the_stocks_that_it_leaves_out(many):
    assert list(many.left_out) == ["SHRT3", "XPTO3"]
    assert many.left_out["SHRT3"] == "25 sessions, and 30 make one window"
    assert "knows no such stock" in many.left_out["XPTO3"]
    assert (params(many)["stocks"], params(many)["left_out"]) == (" ".join(KEPT), "SHRT3 XPTO3")


def test_the_log_says_why_a_stock_is_left_out(home, folder_of_many, caplog):
    Pipeline(small_config(folder_of_many, *TOGETHER), home).download()
    assert "SHRT3 is left out: 25 sessions, and 30 make one window" in caplog.text
    assert "XPTO3 is left out: XPTO3: csv knows no such stock" in caplog.text


def test_a_panel_is_served_under_the_name_shared(many, monkeypatch):
    monkeypatch.setenv("PREGAO_HOME", str(many.folder.parents[2]))
    served = registry.champion(Symbol.parse(SHARED))
    assert (many.stock, served.version, served.run_id) == (SHARED, 1, many.run_id)
    card = served.model.card
    assert (card.stock, card.stocks) == (SHARED, KEPT)
    judged = str(many.evaluation.windows.dates.min())[:10]
    assert card.train_end < card.validation_start <= card.validation_end < judged


def test_a_panels_forecast_has_each_stock_with_the_sessions_of_its_market(many, folder_of_many):
    forecast = pd.read_csv(many.folder / "forecast.csv")
    assert list(forecast) == ["stock", "date", "step", "close", "lower_80", "upper_80", "lower_90", "upper_90"]
    assert forecast.groupby("stock", sort=False).size().to_dict() == dict.fromkeys(KEPT, 10)
    first = forecast[forecast["step"] == 1].set_index("stock")
    assert (first.at["SP500", "date"], first.at["PETR4", "date"]) == ("2024-12-31", "2025-01-02")
    assert first.at["CSNA3", "date"] == "2024-04-01"
    for stock in KEPT:
        last = pd.read_csv(folder_of_many / f"{stock}.csv")["close"].iloc[-1]
        assert first.at[stock, "close"] == pytest.approx(last, rel=0.01)
    assert (forecast["lower_90"] < forecast["close"]).all()
    assert (forecast["close"] < forecast["upper_90"]).all()


def test_every_judged_stock_of_a_panel_has_last_close_beside_it(many):
    scores = pd.read_csv(many.folder / "scores.csv")
    judged = set(pd.read_csv(many.folder / "evaluation.csv")["stock"])
    assert judged == set(KEPT) - {"CSNA3"}, "its 60 sessions ended before what judges"
    for stock, rows in scores.groupby("stock"):
        assert {"model", "last close"} <= set(rows["forecaster"]), stock
    assert set(scores["stock"]) == judged


def test_a_poisoned_future_changes_no_bit_of_the_shared_model(home, many, folder_of_many, tmp_path):
    before = pd.Timestamp(many.evaluation.windows.dates.min())
    for file in folder_of_many.glob("*.csv"):
        table = pd.read_csv(file)
        late = pd.to_datetime(table["date"]) >= before
        prices = table.columns.difference(["date"])
        table.loc[late, prices] = (table.loc[late, prices] * 100).round(4)
        table.to_csv(tmp_path / file.name, index=False)
    changed = run(home / "outputs/SHARED/1", tmp_path, *TOGETHER)
    assert same(weights(many), weights(changed))
    assert changed.metrics["final_rmse"] > 10 * many.metrics["final_rmse"], "the poison must reach the judged closes"


def test_a_stock_that_is_listed_after_the_judged_border_does_not_stop_the_others(home, tmp_path, caplog):
    with_ranges(random_walk(seed=1)).to_csv(tmp_path / "PETR4.csv", index=False)
    random_walk(60, seed=2).to_csv(tmp_path / "ITUB4.csv", index=False)
    found = run(home / "outputs/SHARED/1", tmp_path, "stock=SHARED", "stocks=[PETR4,ITUB4]", "evaluation.train=0.6")
    assert set(found.evaluation.tables.scores["stock"]) == {"PETR4"}
    assert "ITUB4 is not judged" in caplog.text


def test_where_every_stock_is_refused_the_training_is(home, folder_of_many):
    with pytest.raises(UnknownStock, match="XPTO4: csv knows no such stock"):
        run(home / "1", folder_of_many, "stock=SHARED", "stocks=[XPTO3,XPTO4]")
    random_walk(25, seed=8).to_csv(folder_of_many / "SHRT4.csv", index=False)
    with pytest.raises(InvalidChoice, match="none of them has the 30 sessions of one window"):
        run(home / "2", folder_of_many, "stock=SHARED", "stocks=[SHRT3,SHRT4]")
    assert mlflow.MlflowClient(settings().tracking_uri).get_experiment_by_name(SHARED) is None


# a stock's training that begins at the shared model


@pytest.fixture(scope="module")
def vale3_prices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prices")
    with_ranges(random_walk()).to_csv(folder / "VALE3.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def begun(tmp_path_factory, empty_database, shared_model, vale3_prices):
    """A training that began at the shared model, in a home of its own."""
    with pytest.MonkeyPatch.context() as patch:
        home = settle(tmp_path_factory.mktemp("begun"), empty_database, patch)
        patch.setattr("pregao.settings.SHIPPED", shared_model)
        return run(home / "outputs/VALE3/1", vale3_prices)


@pytest.fixture(scope="module")
def afresh(tmp_path_factory, empty_database, vale3_prices):
    """The same training where there is no shared model."""
    with pytest.MonkeyPatch.context() as patch:
        home = settle(tmp_path_factory.mktemp("afresh"), empty_database, patch)
        return run(home / "outputs/VALE3/1", vale3_prices)


def seen_until(shared, day):
    card = json.loads((shared / "model.json").read_text())
    (shared / "model.json").write_text(json.dumps(card | {"validation_end": str(day)}))


def test_a_training_begins_at_a_shared_model_that_has_seen_no_judged_day(begun, afresh, monkeypatch):
    monkeypatch.setenv("PREGAO_HOME", str(begun.folder.parents[2]))
    served = registry.champion(Symbol.parse(SHARED))
    assert params(begun)["init"] == f"SHARED version 1 run {served.run_id}"
    card = TrainedModel.load(begun.folder / "model").card
    assert card.typical_volatility == served.model.card.typical_volatility
    assert not same(weights(begun), weights(afresh))


def test_it_begins_with_the_shared_weights_at_a_part_of_the_learning_rate(shared, home, vale3_prices):
    pipeline = Pipeline(small_config(vale3_prices, "train.learning_rate_factor=0.1"), home)
    data, start = pipeline.data(pipeline.download())
    module = prepare(pipeline.config, data.panel, home, start).module
    assert same(module.model.state_dict(), load_file(shared / "model.safetensors"))
    assert module.hparams["learning_rate"] == pytest.approx(0.1 * pipeline.config.optimizer.learning_rate)


@pytest.mark.parametrize(
    ("day", "overrides", "reason"),
    [
        ("2024-10-15", [], "it was trained on closes up to 2024-10-15, but the test set starts on 2024-09-"),
        ("2024-06-28", ["model.hidden_size=5"], "it is another network"),
        ("2024-06-28", ["data.lookback=21"], "it is another network"),
        ("2024-06-28", ["data.inputs=history"], "it is another network"),
    ],
)
def test_beside_a_shared_model_that_does_not_fit_it_begins_afresh_and_says_so(
    shared, home, prices, caplog, day, overrides, reason
):
    caplog.set_level("INFO")
    seen_until(shared, day)
    assert start_of(home, prices, *overrides) is None
    assert f"Not started from the shared model: {reason}" in caplog.text
    with pytest.raises(InvalidChoice, match=rf"train\.init=shared: cannot start from the shared model \({reason}"):
        start_of(home, prices, "train.init=shared", *overrides)


@pytest.mark.parametrize(("days_before", "fits"), [(0, False), (1, True)])
def test_the_first_judged_day_is_one_that_it_must_not_have_seen(shared, home, prices, days_before, fits):
    pipeline = Pipeline(small_config(prices, "train.init=none"), home)
    border = pd.Timestamp(pipeline.data(pipeline.download())[0].panel.borders[1])
    seen_until(shared, (border - pd.Timedelta(days=days_before)).date())
    assert (start_of(home, prices) is not None) is fits


def test_without_a_shared_model_a_training_begins_afresh_unless_it_must_not(afresh, home, prices):
    assert params(afresh)["init"] == "none"
    with pytest.raises(InvalidChoice, match=r"there is none; python train\.py experiment=ibovespa makes one"):
        start_of(home, prices, "train.init=shared")


def test_a_damaged_shared_model_stops_no_training_but_one_that_must_begin_there(shared, home, prices):
    (shared / "model.safetensors").write_bytes(b"damaged")
    assert start_of(home, prices) is None
    with pytest.raises(InvalidChoice, match="cannot be loaded"):
        start_of(home, prices, "train.init=shared")


def test_init_none_does_not_look_at_the_shared_model(afresh, shared, home, vale3_prices):
    beside = run(home / "outputs/VALE3/1", vale3_prices, "train.init=none")
    assert same(weights(afresh), weights(beside))
    assert (params(beside)["init"], list(registry.champions())) == ("none", ["VALE3"])


def test_a_fine_tuned_run_is_reproduced_from_the_configuration_that_it_left(begun, shared, home):
    config = parse(TrainConfig, json.loads((begun.folder / "config.json").read_text()))
    assert config.train.init == "shared"
    folder = home / "outputs/VALE3/1"
    folder.mkdir(parents=True)
    again = Pipeline(config, folder).run()
    assert same(weights(begun), weights(again))
    assert np.array_equal(begun.evaluation.forecasts["model"], again.evaluation.forecasts["model"])


class Interrupt(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt


def test_a_fine_tuning_that_was_interrupted_goes_on_to_the_same_weights(begun, shared, home, vale3_prices):
    folder = home / "outputs/VALE3/interrupted"
    folder.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt):
        Pipeline(small_config(vale3_prices), folder, [Interrupt()]).run()
    checkpoint = f"ckpt_path={folder}/checkpoints/last.ckpt"
    resumed = run(home / "outputs/VALE3/resumed", vale3_prices, checkpoint)
    assert same(weights(begun), weights(resumed))
    with pytest.raises(BadCheckpoint, match=r"initialised from SHARED of run \w+; .*, now it is"):
        run(home / "outputs/VALE3/other", vale3_prices, checkpoint, "train.init=none")


@pytest.mark.slow
def test_a_network_of_points_that_begins_at_another_has_a_width_of_its_own(home, prices, tmp_path):
    others = tmp_path / "others"
    others.mkdir()
    random_walk(seed=1).to_csv(others / "PETR4.csv", index=False)
    points = ("model=absolute", "model.hidden_size=4", "promote=always")
    run(home / "1", others, "stock=SHARED", "stocks=[PETR4]", *points, end="2024-06-28")
    tuned = run(home / "2", prices, "train.init=shared", *points)
    alone = run(home / "3", prices, "train.init=none", *points)
    assert float(weights(tuned)["width"]) == pytest.approx(float(weights(alone)["width"]), rel=0.2)
