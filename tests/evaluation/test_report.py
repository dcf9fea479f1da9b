import logging
from functools import partial
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from rich.console import Console

from pregao.data.panel import build_panel
from pregao.data.windows import fraction_borders
from pregao.evaluation import plots
from pregao.evaluation.baselines import BASELINES
from pregao.evaluation.metrics import METRICS
from pregao.evaluation.report import NAIVE, REPORTED, Evaluation, EvaluationTables, baseline_forecasts
from pregao.quantiles import LEVELS
from tests.conftest import random_walk


def panel_of(prices, horizon=10):
    return build_panel(prices, 20, horizon, "window", partial(fraction_borders, train=0.7, validation=0.15))


def beside(panel, names=REPORTED):
    return baseline_forecasts(panel.split.test, panel.prices, panel.borders[1], names)


def evaluated(panel, stock, names=REPORTED):
    """The judged windows, with a model that is last close and a hundredth."""
    baselines = beside(panel, names)
    return Evaluation(stock, "R$", panel.split.test, {"model": 1.01 * baselines[NAIVE], **baselines})


@pytest.fixture(scope="module")
def one():
    return panel_of({"VALE3": random_walk()})


@pytest.fixture(scope="module")
def many():
    prices = {"VALE3": random_walk(600), "PETR4": random_walk(500, seed=1), "ITUB4": random_walk(450, seed=2)}
    return panel_of(prices | {"WEGE3": random_walk(400, seed=3)})


@pytest.fixture(scope="module")
def evaluation(one):
    return evaluated(one, "VALE3")


@pytest.fixture(scope="module")
def shared(many):
    return evaluated(many, "SHARED", names=(NAIVE, "EWMA"))


def test_every_score_stands_beside_the_baselines_on_the_same_windows(evaluation):
    assert list(evaluation.scores) == ["model", *REPORTED]
    console = Console(width=80, file=StringIO())
    console.print(evaluation.terminal_table())
    text = console.file.getvalue()
    assert "…" not in text
    assert f"{len(evaluation.windows)} test windows" in text
    for name in ("model", *REPORTED):
        assert f"{evaluation.scores[name]['mape']:.3f}" in text


def test_metrics_have_the_promised_names(evaluation):
    steps = {f"{error}_step_{h}" for error in ("rmse", "mape") for h in range(1, 11)}
    named = {"final_rmse", "final_mape", "final_mae", "naive_rmse", "naive_mape", "naive_mae", "naive_pinball"}
    named |= {"skill_rmse", "skill_mape", "coverage_80", "coverage_90", "pinball"}
    assert set(evaluation.metrics) == steps | named
    assert all(isinstance(value, float) for value in evaluation.metrics.values())


def test_a_worse_forecast_has_negative_skill(evaluation):
    metrics = evaluation.metrics
    assert metrics["skill_mape"] == pytest.approx(100 * (1 - metrics["final_mape"] / metrics["naive_mape"]))
    assert metrics["skill_mape"] < 0


def test_the_frame_is_tidy_and_gives_the_same_scores(shared, tmp_path):
    shared.tables.save(tmp_path)
    frame = pd.read_csv(tmp_path / "evaluation.csv")
    columns = ["stock", "cutoff", "date", "step", "y", "y_hat", "lower_80", "upper_80", "lower_90", "upper_90"]
    assert sorted(frame) == sorted(columns)
    assert len(frame) == 10 * len(shared.windows)
    mape = 100 * ((frame["y"] - frame["y_hat"]).abs() / frame["y"]).mean()
    assert mape == pytest.approx(shared.metrics["final_mape"], abs=1e-4)
    assert (frame["cutoff"] < frame["date"]).all()
    for stock, place in shared.windows.by_stock():
        assert len(frame[frame["stock"] == stock]) == 10 * (place.stop - place.start)


def test_the_scores_of_each_stock_are_those_of_its_windows_alone(shared, many):
    rows = shared.tables.scores.set_index(["stock", "forecaster"])
    assert {*rows.index} == {(stock, name) for stock in many.stocks for name in shared.forecasts}
    for stock, place in shared.windows.by_stock():
        forecasts = {name: quantiles[place] for name, quantiles in shared.forecasts.items()}
        alone = Evaluation(stock, "R$", shared.windows.where(place), forecasts)
        for name, row in alone.scores.items():
            assert rows.loc[(stock, name)].to_dict() == row


def test_the_scores_are_written_by_stock_and_forecaster(shared, tmp_path):
    shared.tables.save(tmp_path)
    written = pd.read_csv(tmp_path / "scores.csv")
    pd.testing.assert_frame_equal(written, shared.tables.scores, atol=1e-5)
    assert written.loc[written["forecaster"] == NAIVE, "skill_mape"].tolist() == [0.0] * 4


def test_the_tables_are_read_as_they_were_written_a_stock_at_a_time(shared, tmp_path):
    shared.tables.save(tmp_path)
    read = EvaluationTables.read(tmp_path)
    part, whole = read.of_stock("PETR4"), shared.tables.of_stock("PETR4")
    for name in ("forecasts", "scores", "steps"):
        pd.testing.assert_frame_equal(getattr(part, name), getattr(whole, name), atol=1e-5, check_dtype=False)
    rows = part.at_step(3)
    assert (rows["step"] == 3).all()
    assert rows["error"].to_numpy() == pytest.approx(100 * (1 - rows["y_hat"] / rows["y"]).to_numpy())


def test_a_new_metric_is_in_the_files_and_in_the_metrics_of_a_run(one, tmp_path, monkeypatch):
    monkeypatch.setitem(METRICS, "bias", lambda forecasts: float(forecasts.error.mean()))
    report = evaluated(one, "VALE3", names=(NAIVE,))
    report.tables.save(tmp_path)
    assert report.metrics["bias"] > 0
    for name in ("scores.csv", "steps.csv"):
        assert pd.read_csv(tmp_path / name)["bias"].notna().all()


def test_a_stock_that_never_moves_has_no_skill_and_is_written_all_the_same(tmp_path):
    panel = panel_of({"VALE3": random_walk(), "HALT3": random_walk().assign(close=7.0)})
    report = evaluated(panel, "SHARED", names=(NAIVE,))
    report.tables.save(tmp_path)
    plots.report(report, tmp_path / "report.png")
    skills = pd.read_csv(tmp_path / "scores.csv").set_index(["stock", "forecaster"])["skill_mape"]
    assert not np.isfinite(skills["HALT3", "model"])
    assert np.isfinite(skills["VALE3", "model"])


def test_baselines_are_fitted_on_each_stock_alone(many):
    whole = beside(many, (NAIVE, "EWMA"))
    for stock, place in many.split.test.by_stock():
        windows, prices = many.split.test.where(place), {stock: many.prices[stock]}
        alone = baseline_forecasts(windows, prices, many.borders[1], (NAIVE, "EWMA"))
        for name, quantiles in alone.items():
            assert np.array_equal(whole[name][place], quantiles)


def test_baselines_are_the_same_on_any_number_of_cores(many, monkeypatch):
    names = (NAIVE, "EWMA", "GJR-GARCH")
    alone = beside(many, names)
    monkeypatch.setattr("pregao.data.parallel.STOCKS_PER_WORKER", 1)
    monkeypatch.setattr("joblib.effective_n_jobs", lambda jobs: 2)
    for name, quantiles in beside(many, names).items():
        assert np.array_equal(alone[name], quantiles)


def test_a_baselines_forecast_is_that_of_its_class_at_the_windows_cutoffs(one):
    table = one.prices["VALE3"]
    closes, days = table["close"].to_numpy(), table["date"].to_numpy("datetime64[ns]")
    origins = np.flatnonzero(np.isin(days, one.split.test.cutoffs))
    fitted = BASELINES["EWMA"]().fit(closes[days < one.borders[1]])
    assert np.array_equal(beside(one, ("EWMA",))["EWMA"], fitted.quantiles(closes, origins, 10))
    assert np.array_equal(closes[origins], one.split.test.inputs[:, -1])


def test_a_baseline_that_refuses_a_stock_is_left_out_and_the_log_says_why(caplog):
    panel = panel_of({"VALE3": random_walk(), "HALT3": random_walk().assign(close=7.0)})
    with caplog.at_level(logging.WARNING):
        found = beside(panel, (NAIVE, "GJR-GARCH", "EWMA"))
    assert list(found) == [NAIVE, "EWMA"]
    assert len(found["EWMA"]) == len(panel.split.test)
    [record] = [r for r in caplog.records if r.name == "pregao.evaluation.report"]
    assert "GJR-GARCH" in record.getMessage()
    assert "never moves" in record.getMessage()


def test_a_stock_too_young_for_any_baseline_is_not_judged_and_the_others_are():
    panel = panel_of({"VALE3": random_walk(600), "IPOS3": random_walk(60, seed=1)})
    report = evaluated(panel, "SHARED", names=(NAIVE, "drift", "EWMA"))
    assert list(report.scores) == ["model", NAIVE, "drift", "EWMA"]
    assert {*report.tables.scores["stock"]} == {"VALE3"}


def poisoned(table, day):
    """Every price from a day on, times something else."""
    later = table["date"] >= day
    factors = np.random.default_rng(0).uniform(3, 9, len(table))
    return table.assign(close=table["close"].where(~later, table["close"] * factors))


def test_baselines_see_nothing_of_the_judged_closes(one):
    first = one.split.test.where(slice(0, 1))
    changed = {"VALE3": poisoned(one.prices["VALE3"], one.borders[1])}
    before, after = (baseline_forecasts(first, prices, one.borders[1]) for prices in (one.prices, changed))
    assert list(before) == list(REPORTED)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_baseline_bands_never_cross(one):
    for quantiles in beside(one).values():
        assert quantiles.shape == (len(one.split.test), 10, len(LEVELS))
        assert (np.diff(quantiles, axis=-1) > 0).all()


def drawn(path):
    """The picture is a PNG of the size of a report, with something in it."""
    assert path.read_bytes().startswith(b"\x89PNG")
    picture = imread(path)
    assert 500 < picture.shape[0] < 2500
    assert 800 < picture.shape[1] < 2500
    assert picture.std() > 0.05
    assert 20_000 < path.stat().st_size < 2_000_000
    return picture.shape[0]


@pytest.mark.parametrize("horizon", [1, 2, 10])
def test_the_picture_is_drawn_for_every_horizon(tmp_path, horizon):
    panel = panel_of({"VALE3": random_walk()}, horizon)
    plots.report(evaluated(panel, "VALE3", names=(NAIVE,)), tmp_path / "report.png")
    drawn(tmp_path / "report.png")


def test_the_picture_of_many_stocks_is_as_large_as_that_of_one(evaluation, shared, tmp_path):
    for report in (evaluation, shared):
        plots.report(report, tmp_path / f"{report.stock}.png")
    assert drawn(tmp_path / "VALE3.png") == drawn(tmp_path / "SHARED.png")
    assert (tmp_path / "VALE3.png").read_bytes() != (tmp_path / "SHARED.png").read_bytes()
