import json
from datetime import date
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
from safetensors.torch import load_file

from pregao.config import parse
from pregao.errors import TooFewSessions, TrackingUnavailable
from pregao.forecasting.compose import forecast_stock, last_window
from pregao.forecasting.historical import rolling_forecasts
from pregao.models.trained import TrainedModel
from pregao.prices import calendar
from pregao.prices.calendar import sessions
from pregao.settings import settings
from pregao.tracking import registry
from pregao.training.config import TrainConfig
from pregao.training.module import ForecastModule
from pregao.training.pipeline import Pipeline
from tests.conftest import random_walk, small_config, windows_of, with_ranges

TIMES = {"training_time", "total_time"}


def run(folder, prices, *overrides, **choices):
    folder.mkdir(parents=True)
    return Pipeline(small_config(prices, *overrides, **choices), folder).run()


def result_config(result):
    return parse(TrainConfig, json.loads((result.folder / "config.json").read_text()))


def timeless(metrics):
    return {name: value for name, value in metrics.items() if name not in TIMES}


@pytest.fixture
def result(home, prices):
    return run(home / "outputs/VALE3/1", prices)


def mlflow_run(result):
    return mlflow.MlflowClient(settings().tracking_uri).get_run(result.run_id)


def test_a_run_leaves_every_promised_file(result):
    names = {"metrics.json", "forecast.csv", "evaluation.csv", "scores.csv", "report.png", "checkpoints/best.ckpt"}
    left = {str(path.relative_to(result.folder)) for path in result.folder.rglob("*") if path.is_file()}
    assert names <= left
    client = mlflow.MlflowClient(settings().tracking_uri)
    kept = {item.path for item in client.list_artifacts(result.run_id)}
    assert {"metrics.json", "forecast.csv", "evaluation.csv", "report.png", "checkpoints"} <= kept


def test_lightnings_own_test_reproduces_the_errors_of_the_run(result, prices):
    model = TrainedModel.load(result.folder / "model")
    data = windows_of(lambda: {"VALE3": pd.read_csv(prices / "VALE3.csv", parse_dates=["date"])}, inputs="ohlc")
    module = ForecastModule(model.network, learning_rate=1e-3, weight_decay=0.0, schedule="constant", seed=0)
    [scores] = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False).test(
        module, data, verbose=False
    )
    assert scores["test_rmse"] == pytest.approx(result.metrics["final_rmse"], rel=1e-6)
    assert 100 * scores["test_mape"] == pytest.approx(result.metrics["final_mape"], rel=1e-6)


def test_the_losses_are_in_mlflow_by_epoch(result):
    client = mlflow.MlflowClient(settings().tracking_uri)
    for name in ("history_train_loss", "history_val_loss"):
        points = client.get_metric_history(result.run_id, name)
        assert [point.step for point in points] == list(range(int(result.metrics["epochs"])))
    assert min(point.value for point in points) == pytest.approx(result.metrics["best_val_loss"])


def test_metrics_have_every_promised_name_in_the_file_and_in_mlflow(result):
    steps = {f"{error}_step_{h}" for error in ("rmse", "mape") for h in range(1, 11)}
    names = steps | {
        "train_loss",
        "val_loss",
        "best_val_loss",
        "final_rmse",
        "final_mape",
        "final_mae",
        "training_time",
    }
    names |= {"naive_rmse", "naive_mape", "skill_rmse", "skill_mape", "coverage_80", "coverage_90", "pinball"}
    names |= {"n_train", "n_val", "n_test", "total_time"}
    written = json.loads((result.folder / "metrics.json").read_text())
    assert names <= set(written)
    logged = mlflow_run(result).data.metrics
    assert {name: logged[name] for name in written} == pytest.approx(written)


def test_mlflow_has_the_params_and_the_losses_of_each_epoch(result):
    params = mlflow_run(result).data.params
    wanted = {"sequence_length": "20", "future_steps": "10", "hidden_size": "4", "n_epochs": "2", "seed": "6544"}
    assert wanted.items() <= params.items()
    assert {"dropout", "learning_rate", "weight_decay", "batch_size", "train_size", "device"} <= set(params)
    history = mlflow.MlflowClient(settings().tracking_uri).get_metric_history(result.run_id, "history_val_loss")
    assert [point.step for point in history] == [0, 1]


def test_the_forecast_is_of_the_next_sessions_and_not_flat(result, prices):
    forecast = pd.read_csv(result.folder / "forecast.csv", parse_dates=["date"])
    assert list(forecast) == ["date", "step", "close", "lower_80", "upper_80", "lower_90", "upper_90"]
    after = sessions("BVMF", pd.Timestamp("2024-12-31").date(), pd.Timestamp("2025-03-01").date())[:10]
    assert list(forecast["date"]) == list(after)
    last = pd.read_csv(prices / "VALE3.csv")["close"].iloc[-1]
    assert forecast["close"].nunique() == 10
    assert (forecast["close"] != last).all()
    assert (forecast["lower_90"] < forecast["close"]).all()


def test_the_first_model_is_served_under_the_stocks_name(result, vale3):
    served = registry.champion(vale3)
    assert (served.version, served.run_id) == (1, result.run_id)
    assert served.model.card.metrics["final_mape"] == result.metrics["final_mape"]
    assert mlflow_run(result).info.status == "FINISHED"


def test_the_served_model_forecasts_what_the_run_forecast(result, vale3, prices):
    closes = pd.read_csv(prices / "VALE3.csv")["close"].tolist()
    written = pd.read_csv(result.folder / "forecast.csv")
    served = registry.champion(vale3).model.forecast(closes)
    assert served["close"].to_numpy() == pytest.approx(written["close"].to_numpy(), abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning")  # MLflow at its own import
def test_pyfunc_forecasts_from_a_notebook(result, prices):
    mlflow.set_tracking_uri(settings().tracking_uri)
    closes = pd.read_csv(prices / "VALE3.csv")["close"].to_numpy()
    model = mlflow.pyfunc.load_model("models:/VALE3@champion")
    written = pd.read_csv(result.folder / "forecast.csv")["close"].to_numpy()
    for given in (closes, closes.tolist(), pd.Series(closes), pd.DataFrame({"close": closes})):
        assert model.predict(given)["close"].to_numpy() == pytest.approx(written, abs=1e-6)
    assert model.predict(closes[-20:])["close"].to_numpy() == pytest.approx(written, rel=0.01)


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning")
def test_bands_everywhere_are_the_same_quantiles(result, prices, vale3):
    """Bare closes tell nothing of past forecasts: there the online width is 1."""
    mlflow.set_tracking_uri(settings().tracking_uri)
    table = pd.read_csv(prices / "VALE3.csv", parse_dates=["date"])
    bare = mlflow.pyfunc.load_model("models:/VALE3@champion").predict(table["close"].to_numpy())
    written = pd.read_csv(result.folder / "forecast.csv")
    served = forecast_stock("VALE3", "csv", prices).table
    width = last_window(registry.champion(vale3).model, vale3, table).width
    assert width != 1
    for band in ("lower_80", "upper_80", "lower_90", "upper_90"):
        assert served[band].to_numpy() == pytest.approx(written[band].to_numpy(), abs=1e-6)
        reach = [np.log(found[band] / found["close"]).to_numpy() for found in (served, bare)]
        assert reach[0] == pytest.approx(width * reach[1])


def test_nothing_that_a_run_leaves_is_a_pickle(result, home):
    suffixes = {path.suffix for path in (home / "mlruns").rglob("*") if path.is_file()}
    assert not suffixes & {".pkl", ".pickle", ".pt", ".pth", ".joblib"}
    weights = load_file(result.folder / "model/model.safetensors")
    assert weights["gaps"].shape == (10, 6)


def test_the_same_seed_gives_the_same_metrics_and_weights(result, prices, home):
    again = run(home / "outputs/VALE3/2", prices)
    assert timeless(again.metrics) == timeless(result.metrics)
    one, two = (load_file(r.folder / "model/model.safetensors") for r in (result, again))
    assert all((one[name] == two[name]).all() for name in one)


def test_another_seed_gives_other_weights(result, prices, home):
    again = run(home / "outputs/VALE3/2", prices, "seed=1")
    assert again.metrics["final_mape"] != result.metrics["final_mape"]


def test_a_run_is_reproduced_from_the_configuration_that_it_left(home, prices, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(calendar, "last_finished_session", lambda *_: date(2024, 6, 28))
        first = run(home / "outputs/VALE3/1", prices, "end=null")
    logged = mlflow.artifacts.download_artifacts(run_id=first.run_id, artifact_path="config.json")
    config = parse(TrainConfig, json.loads(Path(logged).read_text()))
    assert config.end == "2024-06-28"
    folder = home / "outputs/VALE3/2"
    folder.mkdir(parents=True)
    again = Pipeline(config, folder).run()
    assert timeless(again.metrics) == timeless(first.metrics)


def poisoned(prices, tmp_path, after, factor):
    """The same prices, with every one after a day changed, adj_close in its own way: the anchor moves too."""
    table = pd.read_csv(prices / "VALE3.csv")
    late = table["date"] > str(after)
    noise = np.random.default_rng(1).uniform(0.5, 2, late.sum())
    for name in table.columns.intersection(["open", "high", "low", "close"]):
        table.loc[late, name] = (table.loc[late, name] * factor * noise).round(4)
    if "high" in table:  # wider days too
        table.loc[late, "high"] = (table.loc[late, "high"] * 1.1).round(4)
    if "adj_close" in table:
        table.loc[late, "adj_close"] = (table.loc[late, "adj_close"] * noise[::-1]).round(4)
    folder = tmp_path / "poisoned"
    folder.mkdir()
    table.to_csv(folder / "VALE3.csv", index=False)
    return folder


def with_everything(folder):
    """The prices of that folder with dividends and daily ranges."""
    table = with_ranges(pd.read_csv(folder / "VALE3.csv"))
    table["adj_close"] = (table["close"] * np.linspace(0.4, 0.9, len(table))).round(4)
    table.to_csv(folder / "VALE3.csv", index=False)


@pytest.mark.parametrize("everything", [False, True], ids=["closes", "dividends and ranges"])
@pytest.mark.parametrize("factor", [0.01, 100])
def test_a_poisoned_future_changes_no_bit_of_the_model(home, prices, tmp_path, factor, everything):
    if everything:
        with_everything(prices)
    clean = run(home / "outputs/VALE3/1", prices)
    before_test = pd.Timestamp(clean.evaluation.windows.dates[0, 0]) - pd.Timedelta(days=1)
    changed = run(home / "outputs/VALE3/2", poisoned(prices, tmp_path, before_test.date(), factor), "promote=never")
    one, two = (load_file(r.folder / "model/model.safetensors") for r in (clean, changed))
    assert all((one[name] == two[name]).all() for name in one)
    # The forecast made at the cut-off, relative to the close that it was made at: the anchor is the asked range's end.
    relative = [r.evaluation.forecasts["model"][0] / r.evaluation.windows.inputs[0, -1] for r in (clean, changed)]
    assert relative[0] == pytest.approx(relative[1], rel=1e-14)
    if not everything:
        assert np.array_equal(*relative)
    for name in ("train_loss", "val_loss"):
        assert clean.metrics[name] == changed.metrics[name]
    assert clean.metrics["final_mape"] != changed.metrics["final_mape"], "the poison must reach the judged closes"


def test_a_history_that_ends_earlier_gives_the_same_model_bit_by_bit(home, prices):
    """Adjusted prices are anchored at the asked range's end: every close of the one is a multiple of the other's."""
    with_everything(prices)
    whole = run(home / "outputs/VALE3/1", prices)
    card = json.loads((whole.folder / "model/model.json").read_text())
    # The borders are fractions of the windows, so that they stay where they are only if the fractions follow.
    windows = sum(whole.metrics[part] for part in ("n_train", "n_val", "n_test")) + 18
    less = windows - 20
    fractions = [f"evaluation.train={0.7 * windows / less}", f"evaluation.validation={0.15 * windows / less}"]
    end = pd.read_csv(prices / "VALE3.csv")["date"].iloc[-21]
    earlier = run(home / "outputs/VALE3/2", prices, *fractions, "promote=never", end=end)
    assert json.loads((earlier.folder / "model/model.json").read_text())["validation_end"] == card["validation_end"]
    one, two = (load_file(r.folder / "model/model.safetensors") for r in (whole, earlier))
    assert all((one[name] == two[name]).all() for name in one)
    n = len(earlier.evaluation.windows)
    close = [r.evaluation.windows.inputs[:n, -1:, None] for r in (whole, earlier)]
    assert close[0][0, 0, 0] != close[1][0, 0, 0], "the anchors differ"
    relative = [r.evaluation.forecasts["model"][:n] / c for r, c in zip((whole, earlier), close, strict=True)]
    assert relative[0] == pytest.approx(relative[1], rel=1e-12)


def test_a_poisoned_validation_changes_the_bands_but_never_the_training(home, prices, tmp_path):
    with_everything(prices)
    clean = run(home / "outputs/VALE3/1", prices, "trainer.max_epochs=1")
    card = json.loads((clean.folder / "model/model.json").read_text())
    changed = run(home / "outputs/VALE3/2", poisoned(prices, tmp_path, card["train_end"], 3), "trainer.max_epochs=1")
    one, two = (load_file(r.folder / "model/model.safetensors") for r in (clean, changed))
    assert all((one[name] == two[name]).all() for name in one)
    widths = []
    for result in (clean, changed):
        table = Pipeline(result_config(result), home).download()["VALE3"]
        model = TrainedModel.load(result.folder / "model")
        at = table[table["date"] <= card["validation_end"]]
        widths.append(rolling_forecasts(model, at, card["validation_start"]).last.width)
    assert widths[1] > widths[0], "wilder outcomes than were foreseen widen the bands"


def test_a_forecast_continues_the_last_close_of_the_exchange(home, tmp_path, prices):
    table = pd.read_csv(prices / "VALE3.csv")
    table["adj_close"] = table["close"] * np.linspace(0.3, 0.8, len(table))
    adjusted = tmp_path / "adjusted"
    adjusted.mkdir()
    table.to_csv(adjusted / "VALE3.csv", index=False)
    forecast = pd.read_csv(run(home / "outputs/VALE3/1", adjusted).folder / "forecast.csv")
    assert forecast["close"].iloc[0] == pytest.approx(table["close"].iloc[-1], rel=0.01)


def test_a_second_model_is_compared_with_the_champion_on_the_same_windows(result, prices, home, vale3):
    again = run(home / "outputs/VALE3/2", prices, "seed=1")
    assert f"the former champion's {result.metrics['final_mape']:.3f} %" in again.verdict.reason
    assert again.verdict.promoted
    assert registry.champion(vale3).version == 2


def test_a_clearly_worse_model_is_registered_but_not_served(result, prices, home, vale3):
    worse = run(home / "outputs/VALE3/2", prices, "model=absolute", "model.hidden_size=4")
    assert not worse.verdict.promoted
    assert "clearly worse" in worse.verdict.reason
    assert worse.version == 2
    assert registry.champion(vale3).version == 1


def test_promote_never_leaves_the_champion_and_always_replaces_it(result, prices, home, vale3):
    run(home / "outputs/VALE3/2", prices, "promote=never")
    assert registry.champion(vale3).version == 1
    run(home / "outputs/VALE3/3", prices, "promote=always", "model=absolute", "model.hidden_size=4")
    assert registry.champion(vale3).version == 3


def test_a_champion_of_another_lookback_is_compared_on_the_same_targets(result, prices, home):
    verdict = run(home / "outputs/VALE3/2", prices, "data.lookback=30").verdict
    assert verdict.promoted
    assert "against the former champion's" in verdict.reason


def test_a_champion_that_needs_a_longer_history_is_not_compared_with(home, prices, caplog):
    run(home / "outputs/VALE3/1", prices, "data.lookback=200")
    verdict = run(home / "outputs/VALE3/2", prices, "start=2024-08-01").verdict
    assert "the former champion cannot be compared" in verdict.reason
    assert "needs a longer history" in caplog.text


def test_beside_a_champion_of_another_horizon_last_close_decides(result, prices, home):
    verdict = run(home / "outputs/VALE3/2", prices, "data.horizon=5").verdict
    assert verdict.promoted
    assert "the former champion cannot be compared" in verdict.reason


def test_a_damaged_champion_does_not_stop_a_training(result, prices, home, caplog):
    for weights in (home / "mlruns").rglob("*.safetensors"):
        weights.write_bytes(b"damaged")
    verdict = run(home / "outputs/VALE3/2", prices).verdict
    assert verdict.promoted
    assert "the former champion cannot be compared" in verdict.reason
    assert "not compared with" in caplog.text


def test_a_tracker_that_fails_never_promotes(result, prices, home, monkeypatch):
    def away(*_):
        raise TrackingUnavailable("sqlite", "gone")

    with monkeypatch.context() as patch:
        patch.setattr("pregao.training.promotion.registry.champion", away)
        with pytest.raises(TrackingUnavailable):
            run(home / "outputs/VALE3/2", prices)
    assert registry.champions()["VALE3"][0] == 1


def test_a_range_that_is_too_short_is_refused_before_anything_is_tracked(home, prices):
    with pytest.raises(TooFewSessions, match="at least 95 are needed"):
        run(home / "outputs/VALE3/1", prices, end="2023-09-01")
    assert mlflow.MlflowClient(settings().tracking_uri).get_experiment_by_name("VALE3") is None


def test_a_stock_that_never_moved_is_judged_without_a_skill(home, tmp_path):
    folder = tmp_path / "halted"
    folder.mkdir()
    random_walk().assign(close=7.0).to_csv(folder / "VALE3.csv", index=False)
    halted = run(home / "outputs/VALE3/1", folder)
    for file in ("metrics.json", "model/model.json"):
        written = json.loads((halted.folder / file).read_text(), parse_constant=pytest.fail)
    written = json.loads((halted.folder / "metrics.json").read_text())
    assert written["skill_mape"] is None
    assert written["naive_mape"] == 0


def test_an_error_marks_the_run_as_failed_and_serves_nothing(home, prices, monkeypatch, vale3):
    def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr("pregao.training.run_files.plots.report", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        run(home / "outputs/VALE3/1", prices)
    client = mlflow.MlflowClient(settings().tracking_uri)
    [only] = client.search_runs([client.get_experiment_by_name("VALE3").experiment_id])
    assert only.info.status == "FAILED"
    assert registry.served_stocks() == []


def test_a_model_that_does_not_load_back_is_not_served(home, prices, monkeypatch):
    monkeypatch.setattr("pregao.models.trained.TrainedModel.save", lambda _, folder: Path(folder).mkdir())
    with pytest.raises(Exception, match="cannot be loaded"):
        run(home / "outputs/VALE3/1", prices)
    assert registry.served_stocks() == []
