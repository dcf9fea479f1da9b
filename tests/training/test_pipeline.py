import json
from dataclasses import asdict
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest

from pregao.config import parse
from pregao.errors import InvalidChoice
from pregao.evaluation.drift import summary
from pregao.evaluation.report import baseline_forecasts
from pregao.forecasting.compose import forecast_stock, last_window
from pregao.prices import calendar
from pregao.prices.calendar import sessions
from pregao.settings import settings
from pregao.tracking import registry
from pregao.tracking.code import code
from pregao.training.config import TrainConfig
from pregao.training.fit import Fitted
from pregao.training.pipeline import Pipeline
from pregao.training.run_files import run_metrics
from tests import conftest
from tests.conftest import prices_in, random_walk, settle, small_config, with_ranges
from tests.training.conftest import card_of, new, run, same, saved_weights

ABSOLUTE = ("model=absolute", "model.hidden_size=4")


def timeless(metrics):
    return {name: value for name, value in metrics.items() if name not in ("training_time", "total_time")}


def client():
    return mlflow.MlflowClient(settings().tracking_uri)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, empty_database):
    """A training of VALE3 and the folder of its home and prices."""
    base = tmp_path_factory.mktemp("trained")
    folder = prices_in(base / "prices", "VALE3")
    with pytest.MonkeyPatch.context() as patch:
        home = settle(base, empty_database, patch)
        return run(home / "outputs/VALE3/1", folder), base


@pytest.fixture
def result(trained, monkeypatch):
    """That training, in its home; a test of it changes nothing."""
    result, base = trained
    monkeypatch.setenv("PREGAO_HOME", str(base / "home"))
    monkeypatch.setattr("pregao.settings.SHIPPED", base / "no models are shipped")
    return result


@pytest.fixture
def table(trained):
    return pd.read_csv(trained[1] / "prices/VALE3.csv", parse_dates=["date"])


def test_files_metrics_params_and_losses_have_their_promised_names(result):
    names = """train_loss val_loss best_val_loss final_rmse final_mape final_mae training_time total_time
        naive_rmse naive_mape skill_rmse skill_mape coverage_80 coverage_90 pinball n_train n_val n_test"""
    written = json.loads((result.folder / "metrics.json").read_text())
    steps = {f"{error}_step_{h}" for error in ("rmse", "mape") for h in range(1, 11)}
    assert steps | set(names.split()) <= set(written)
    found = client().get_run(result.run_id)
    assert found.info.status == "FINISHED"
    assert {name: found.data.metrics[name] for name in written} == pytest.approx(written)
    wanted = {"sequence_length": "20", "future_steps": "10", "hidden_size": "4", "n_epochs": "2", "seed": "6544"}
    assert wanted.items() <= found.data.params.items()
    assert json.loads((result.folder / "code.json").read_text()) == asdict(code())
    tags = [found.data.tags[name] for name in ("version", "mlflow.source.git.commit", "mlflow.source.git.dirty")]
    assert tags == [str(value) for value in asdict(code()).values()]
    files = {
        "metrics.json",
        "code.json",
        "config.json",
        "forecast.csv",
        "evaluation.csv",
        "scores.csv",
        "report.png",
        "checkpoints",
    }
    assert files <= {item.path for item in client().list_artifacts(result.run_id)}
    for name in ("history_train_loss", "history_val_loss"):
        points = client().get_metric_history(result.run_id, name)
        assert [point.step for point in points] == [0, 1]
    assert min(point.value for point in points) == pytest.approx(result.metrics["best_val_loss"])


def test_the_losses_are_those_of_the_kept_epoch():
    panel = SimpleNamespace(split=SimpleNamespace(train=[], validation=[], test=[]))
    fitted = Fitted([3.0, 2.0, 1.0], [0.9, 0.5, 0.7], chosen=1, seconds=0.0)
    metrics = run_metrics(SimpleNamespace(metrics={}), fitted, panel)
    assert (metrics["train_loss"], metrics["val_loss"], metrics["best_val_loss"]) == (2.0, 0.5, 0.5)


def test_the_forecast_is_of_the_next_sessions_and_not_flat(result, table):
    forecast = pd.read_csv(result.folder / "forecast.csv", parse_dates=["date"])
    assert list(forecast) == ["date", "step", "close", "lower_80", "upper_80", "lower_90", "upper_90"]
    assert list(forecast["date"]) == list(sessions("BVMF", date(2024, 12, 31), date(2025, 3, 1))[:10])
    assert len({*forecast["close"], table["close"].iloc[-1]}) == 11
    assert (forecast["lower_90"] < forecast["close"]).all()


def test_the_card_and_the_baselines_end_before_the_test_part(result, table):
    card, windows = card_of(result), result.evaluation.windows
    days, first = table["date"], pd.Timestamp(windows.dates[0, 0])
    assert card["train_end"] < card["validation_start"] <= card["validation_end"]
    assert pd.Timestamp(card["validation_end"]) == days[days < first].max()
    expected = json.loads(json.dumps(summary(table.loc[days < card["validation_start"], "close"].to_numpy())))
    assert expected is not None
    assert card["returns"]["VALE3"] == expected
    for name, forecasts in baseline_forecasts(windows, {"VALE3": table}, first.to_datetime64()).items():
        assert np.array_equal(result.evaluation.forecasts[name], forecasts), name


def test_the_first_model_is_served_and_forecasts_as_the_run_did(result, vale3, table):
    served = registry.champion(vale3)
    assert (served.version, served.run_id) == (1, result.run_id)
    assert served.model.card.metrics["final_mape"] == result.metrics["final_mape"]
    written = pd.read_csv(result.folder / "forecast.csv")["close"].to_numpy()
    assert served.model.forecast(table["close"].tolist())["close"].to_numpy() == pytest.approx(written, abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning")  # MLflow at its own import
def test_pyfunc_forecasts_in_a_notebook_with_the_quantiles_of_predict(result, trained, table, vale3):
    mlflow.set_tracking_uri(settings().tracking_uri)
    closes, model = table["close"].to_numpy(), mlflow.pyfunc.load_model("models:/VALE3@champion")
    written = pd.read_csv(result.folder / "forecast.csv")
    for given in (closes, closes.tolist(), pd.Series(closes), pd.DataFrame({"close": closes})):
        assert model.predict(given)["close"].to_numpy() == pytest.approx(written["close"].to_numpy(), abs=1e-6)
    served, bare = forecast_stock("VALE3", "csv", trained[1] / "prices").table, model.predict(closes)
    width = last_window(registry.champion(vale3).model, vale3, table).width
    for band in ("lower_80", "upper_80", "lower_90", "upper_90"):
        assert served[band].to_numpy() == pytest.approx(written[band].to_numpy(), abs=1e-6)
        reach = [np.log(found[band] / found["close"]).to_numpy() for found in (served, bare)]
        assert reach[0] == pytest.approx(width * reach[1])


def test_no_file_of_a_run_is_a_pickle(result, trained):
    suffixes = {path.suffix for path in (trained[1] / "home").rglob("*") if path.is_file()}
    assert not suffixes & {".pkl", ".pickle", ".pt", ".pth", ".joblib"}


def test_a_run_is_reproduced_from_its_config_json(home, prices, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(calendar, "last_finished_session", lambda *_: date(2024, 6, 28))
        first = run(home / "outputs/VALE3/1", prices, "end=null")
    logged = mlflow.artifacts.download_artifacts(run_id=first.run_id, artifact_path="config.json")
    config = parse(TrainConfig, json.loads(Path(logged).read_text()))
    assert config.end == "2024-06-28"
    again = Pipeline(config, new(home / "outputs/VALE3/2")).run()
    assert timeless(again.metrics) == timeless(first.metrics)
    assert same(saved_weights(first), saved_weights(again))


def poisoned(prices, tmp_path, after, factor):
    """Copy the prices with all values changed after a day, adj_close by other factors."""
    table = pd.read_csv(prices / "VALE3.csv")
    late = table["date"] > str(after)
    noise = np.random.default_rng(1).uniform(0.5, 2, late.sum())
    factors = {"high": 1.1 * factor * noise, "adj_close": noise[::-1]}
    for name in table.columns.drop("date"):
        table.loc[late, name] = (table.loc[late, name] * factors.get(name, factor * noise)).round(4)
    folder = new(tmp_path / "poisoned")
    table.to_csv(folder / "VALE3.csv", index=False)
    return folder


@pytest.fixture
def everything(prices):
    """Prices with dividends and daily ranges."""
    table = with_ranges(pd.read_csv(prices / "VALE3.csv"))
    table = table.assign(adj_close=(table["close"] * np.linspace(0.4, 0.9, len(table))).round(4))
    table.to_csv(prices / "VALE3.csv", index=False)
    return prices


@pytest.mark.parametrize("kind", ["prices", "everything"])
def test_a_poisoned_future_changes_no_bit_of_the_model(home, request, tmp_path, kind):
    prices = request.getfixturevalue(kind)
    clean = run(home / "outputs/VALE3/1", prices)
    before_test = pd.Timestamp(clean.evaluation.windows.dates[0, 0]) - pd.Timedelta(days=1)
    changed = run(home / "outputs/VALE3/2", poisoned(prices, tmp_path, before_test.date(), 100), "promote=never")
    assert same(saved_weights(clean), saved_weights(changed))
    # The forecast of the last cutoff before the test part, relative to its close: adjusted prices have another anchor.
    relative = [r.evaluation.forecasts["model"][0] / r.evaluation.windows.inputs[0, -1] for r in (clean, changed)]
    assert relative[0] == pytest.approx(relative[1], rel=1e-14)
    assert kind == "everything" or np.array_equal(*relative)
    for name in ("train_loss", "val_loss"):
        assert clean.metrics[name] == changed.metrics[name]
    assert clean.metrics["final_mape"] != changed.metrics["final_mape"], "the poison must reach the test part"


def test_a_stock_with_constant_prices_has_no_skill(home, tmp_path):
    random_walk().assign(close=7.0).to_csv(tmp_path / "VALE3.csv", index=False)
    halted = run(home / "outputs/VALE3/1", tmp_path)
    _, written = (
        json.loads((halted.folder / file).read_text(), parse_constant=pytest.fail)
        for file in ("model/model.json", "metrics.json")
    )
    assert (written["skill_mape"], written["naive_mape"]) == (None, 0)


@pytest.mark.parametrize(
    ("broken", "error", "status"),
    [
        ("pregao.training.run_files.plots.report", RuntimeError, "FAILED"),
        ("pregao.training.run_files.plots.report", KeyboardInterrupt, "KILLED"),
        ("pregao.models.trained.TrainedModel.save", None, "FAILED"),
    ],
)
def test_an_error_ends_the_mlflow_run_and_serves_nothing(home, prices, monkeypatch, broken, error, status):
    def fails(_, folder):
        if error:
            raise error("broken")
        folder.mkdir()  # the model is not written, so that it cannot be loaded

    monkeypatch.setattr(broken, fails)
    with pytest.raises(error or Exception, match="broken" if error else "cannot be loaded"):
        run(home / "outputs/VALE3/1", prices)
    [only] = client().search_runs([client().get_experiment_by_name("VALE3").experiment_id])
    assert only.info.status == status
    assert registry.served_stocks() == []


def test_the_published_recipe_warns_of_its_leak_names_it_in_the_table_and_is_never_served(home, tmp_path, caplog):
    prices = prices_in(tmp_path / "prices", "VALE3")
    leak = ("experiment=published", *ABSOLUTE, "end=2024-12-30", "promote=never")
    done = run(home / "outputs/VALE3/1", prices, *leak, "trainer.max_epochs=2")
    assert "This is a leak" in caplog.text
    assert "This is a leak" in done.evaluation.terminal_table().caption
    assert (done.verdict.promoted, done.metrics["n_val"]) == (False, done.metrics["n_test"])
    with pytest.raises(InvalidChoice, match="choose promote=never"):
        small_config(prices, *leak, "promote=always")


@pytest.mark.slow
def test_the_default_recipe_is_as_good_as_last_close(real_prices, home):
    choices = ("stock=VALE3", "source=csv", f"source.path={real_prices}", "evaluation.split=reference")
    done = conftest.run("train.py", *choices, home=home, timeout=300)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.splitlines()[-1])
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["n_test"] == 407
    assert metrics["naive_mape"] == pytest.approx(2.481, abs=5e-4)
    assert metrics["final_mape"] <= 2.50
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["end"] == "2025-07-25", "the published comparison's last session"
    forecasts = pd.read_csv(folder / "evaluation.csv").pivot(index="cutoff", columns="step", values="y_hat")
    assert (forecasts.nunique(axis=1) == 10).mean() > 0.99, "no flat line, so last close is not repeated"
    assert metrics["final_mape"] != pytest.approx(metrics["naive_mape"], abs=1e-6)
