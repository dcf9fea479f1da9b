"""Trainings that are promoted or not, and the comparison with the served versions."""

import logging

import numpy as np
import pytest

from pregao.data.windows import joined, sliding_windows
from pregao.errors import TrackingUnavailable
from pregao.forecasting.historical import rolling_forecasts
from pregao.models.forecaster import Forecaster
from pregao.prices.symbols import Symbol
from pregao.tracking import registry
from pregao.tracking.client import mlflow_client
from pregao.training import registration
from pregao.training.pipeline import Pipeline
from pregao.training.registration import answering_model, quantiles_at
from tests.conftest import random_walk, settle, small_config, with_ranges
from tests.training.conftest import new, run

RUIN = ("model=absolute", "model.hidden_size=4", "trainer.max_epochs=1", "optimizer.learning_rate=1.0")
QUICK = ("stock=BBAS3", "promote=auto", "evaluation.baselines=[]")
BBAS3, SHARED = Symbol.parse("BBAS3"), Symbol.parse("SHARED")


def tags(result):
    return mlflow_client().get_run(result.run_id).data.tags


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prices")
    for stock in ("BBAS3", "ITUB4"):
        with_ranges(random_walk(1000, seed=1)).to_csv(folder / f"{stock}.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, folder, empty_database):
    """A home without shipped models in which two models of BBAS3 were promoted, and the results."""
    base = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        home = settle(base, empty_database, patch)
        return home, [run(home / f"outputs/BBAS3/{seed}", folder, *QUICK, f"seed={seed}") for seed in (1, 2)]


@pytest.fixture
def champion(trained, monkeypatch):
    """That home; no test of it promotes a model."""
    home, _ = trained
    monkeypatch.setenv("PREGAO_HOME", str(home))
    monkeypatch.setattr("pregao.settings.SHIPPED", home / "no models are shipped")
    yield home
    assert registry.champion(BBAS3).version == 2


def test_models_that_hold_the_floor_and_are_not_worse_are_promoted(champion, trained):
    first, second = trained[1]
    assert first.verdict.promoted
    assert first.verdict.reason.startswith("above the floor (skill ")
    assert "against last close" in first.verdict.reason
    assert "against EWMA" in first.verdict.reason, "also where the evaluation is without it"
    assert second.verdict.promoted
    assert "pinball against version 1 (served now" in second.verdict.reason
    assert registry.best(BBAS3) == (2 if second.verdict.best else 1)
    assert registry.previous(BBAS3) == 1


@pytest.mark.parametrize(
    ("overrides", "end", "reason"),
    [
        (RUIN, "2024-12-30", "significantly worse than version 2 (served now"),
        ((), "2024-06-28", "its closes end on 2024-06-28, and those of version 2 (served now) on 2024-12-30"),
        (("evaluation.split=reference",), "2024-12-30", "with evaluation.split=reference it is fitted on closes"),
        (("promote=never",), "2024-12-30", "promote=never"),
    ],
)
def test_a_worse_or_older_model_never_replaces_the_champion(champion, folder, tmp_path, overrides, end, reason):
    done = run(tmp_path / "run", folder, *QUICK, *overrides, end=end)
    assert not done.verdict.promoted
    assert reason in done.verdict.reason


@pytest.mark.parametrize(
    ("best", "expected"),
    [
        (2, [("version 2 (served now)", True)]),
        (1, [("version 2 (served now)", False), ("version 1 (the best so far)", True)]),
        (None, [("version 2 (served now)", True)]),  # a home of an earlier version
    ],
)
def test_a_model_is_compared_with_the_served_and_the_best_version(champion, monkeypatch, best, expected):
    monkeypatch.setattr(registry, "best", lambda _: best)
    monkeypatch.setattr(registration, "_rival", lambda served, name, is_best, *_: (name, is_best))
    assert [*registration._versions(BBAS3, answering_model(BBAS3), None, None)] == expected


def test_a_tracker_that_fails_never_promotes(champion, folder, tmp_path, monkeypatch):
    def away(*_):
        raise TrackingUnavailable("sqlite", "gone")

    monkeypatch.setattr("pregao.training.registration.served_model", away)
    with pytest.raises(TrackingUnavailable):
        run(tmp_path / "run", folder, *QUICK)


@pytest.mark.parametrize(
    "overrides",
    [
        RUIN,
        ("model.hidden_size=1", "model.start=volatility", "model.loss=pinball", "optimizer.learning_rate=1.0"),
    ],
)
def test_a_first_model_that_would_ruin_the_stock_is_refused_with_its_figures(home, folder, caplog, overrides):
    with caplog.at_level(logging.INFO):
        done = run(home / "outputs/BBAS3/1", folder, *QUICK, *overrides)
    assert (done.verdict.promoted, registry.champions()) == (False, {})
    assert done.verdict.reason.startswith("below the floor: ")
    assert (tags(done)["promoted"], tags(done)["promotion"]) == ("False", done.verdict.reason)
    assert f"BBAS3 version 1 is not promoted: {done.verdict.reason}." in caplog.text
    assert "BBAS3, improvement on EWMA: MAPE" in caplog.text


def test_a_shipped_model_does_not_block_older_closes_and_a_trained_one_does(shared, home, folder):
    older = (*QUICK, "train.init=none")
    first = run(home / "outputs/BBAS3/1", folder, *older, end="2024-05-30")
    assert "SHARED version 1 (served now" in first.verdict.reason
    assert "outdated" not in first.verdict.reason
    mlflow_client().delete_tag(registry.champion(SHARED).run_id, "shipped")
    second = run(home / "outputs/BBAS3/2", folder, *older, "stock=ITUB4", end="2024-05-30")
    assert "outdated: its closes end on 2024-05-29, and those of SHARED" in second.verdict.reason


def test_over_http_only_models_that_predict_can_use_are_promoted(home, folder):
    config = small_config(folder, *QUICK, "promote=always", "data.lookback=30")
    for number, for_predict in enumerate((True, False)):
        made = Pipeline(config.model_copy(update={"for_predict": for_predict}), new(home / f"outputs/BBAS3/{number}"))
        verdict = made.run().verdict
        assert verdict.promoted is not for_predict
        assert verdict.reason.startswith("/predict answers with 10 prices" if for_predict else "promote=always")


def test_a_forecast_that_is_not_finite_is_never_served(home, folder, monkeypatch):
    rows = Forecaster.rows
    monkeypatch.setattr(Forecaster, "rows", lambda *one: [row | {"close": np.inf} for row in rows(*one)])
    done = run(home / "outputs/BBAS3/1", folder, *QUICK, "promote=always")
    assert (done.verdict.promoted, done.verdict.reason) == (False, "its forecast is not finite")


@pytest.fixture
def panel():
    """Prices of two stocks, one with a short history, and the windows of their last days."""
    prices = {"PETR4": random_walk(200, seed=1), "ITUB4": random_walk(60, seed=2)}
    return prices, last_windows(prices, 20, 10)


def last_windows(prices, lookback, horizon):
    windows = joined([sliding_windows(table, lookback, horizon, stock=stock) for stock, table in prices.items()])
    return windows.where(windows.dates[:, 0] >= np.datetime64("2024-10-01"))


def test_a_served_version_is_evaluated_as_it_is_served_on_every_stock_of_a_panel(shared, panel):
    prices, windows = panel
    model = registry.champion(SHARED).model
    found = quantiles_at(model, prices, windows)
    for stock, place in windows.by_stock():
        rolling = rolling_forecasts(model, prices[stock], model.card.validation_start, stock)
        assert np.array_equal(found[place], rolling.at(windows.cutoffs[place]).quantiles)


def test_a_version_of_another_horizon_or_with_too_short_a_history_is_not_compared(shared, panel):
    prices, windows = panel
    model = registry.champion(SHARED).model
    short = {stock: table.tail(19) if stock == "ITUB4" else table for stock, table in prices.items()}
    assert quantiles_at(model, short, windows) is None
    assert quantiles_at(model, prices, last_windows(prices, 20, 5)) is None
    assert quantiles_at(model, prices, last_windows(prices, 30, 10)) is not None


def test_a_damaged_version_is_not_compared(shared, home, caplog):
    assert answering_model(BBAS3).stock == "SHARED"
    for file in (*home.rglob("*.safetensors"), *home.rglob("*.onnx")):
        file.write_bytes(b"damaged")
    assert answering_model(BBAS3) is None
    assert "The served model is not compared" in caplog.text


def test_without_a_model_nothing_is_compared(home):
    assert answering_model(BBAS3) is None
