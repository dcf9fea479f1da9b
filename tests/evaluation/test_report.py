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
from pregao.evaluation.baselines import BASELINES, History
from pregao.evaluation.report import NAIVE, REPORTED, Evaluation, EvaluationTables, baseline_forecasts
from tests.conftest import random_walk, with_ranges


def panel_of(prices, horizon=10):
    return build_panel(prices, 20, horizon, "window", partial(fraction_borders, train=0.7, validation=0.15))


def baselines_of(panel, names=REPORTED):
    return baseline_forecasts(panel.split.test, panel.prices, panel.borders[1], names)


def evaluated(panel, stock, names=REPORTED):
    """The test windows, with a model that forecasts 1 % above the last close."""
    baselines = baselines_of(panel, names)
    return Evaluation(stock, "R$", panel.split.test, {"model": 1.01 * baselines[NAIVE], **baselines})


@pytest.fixture(scope="module")
def one():
    return panel_of({"VALE3": with_ranges(random_walk())})


@pytest.fixture(scope="module")
def many():
    lengths = {"VALE3": 600, "PETR4": 500, "ITUB4": 450}
    return panel_of({stock: random_walk(n, seed=seed) for seed, (stock, n) in enumerate(lengths.items())})


@pytest.fixture(scope="module")
def halted():
    return panel_of({"VALE3": random_walk(), "HALT3": random_walk().assign(close=7.0)})


@pytest.fixture(scope="module")
def evaluation(one):
    return evaluated(one, "VALE3")


@pytest.fixture(scope="module")
def shared(many):
    return evaluated(many, "SHARED", names=(NAIVE, "EWMA"))


def shown(evaluation):
    console = Console(width=80, file=StringIO())
    console.print(evaluation.terminal_table())
    return console.file.getvalue()


def test_the_terminal_table_has_the_scores_of_the_model_and_of_every_baseline(evaluation):
    assert list(evaluation.scores) == ["model", *REPORTED]
    text = shown(evaluation)
    assert "…" not in text
    assert f"{len(evaluation.windows)} test windows" in text
    for scores in evaluation.scores.values():
        assert f"{scores['mape']:.3f}" in text


def test_the_metrics_of_a_run_have_fixed_names(evaluation):
    steps = {f"{error}_step_{h}" for error in ("rmse", "mape") for h in range(1, 11)}
    named = """final_rmse final_mape final_mae naive_rmse naive_mape naive_mae naive_pinball final_rmse_mean_step
        naive_rmse_mean_step skill_rmse skill_mape coverage_80 coverage_90 pinball"""
    metrics = evaluation.metrics
    assert set(metrics) == steps | set(named.split())
    assert metrics["skill_mape"] == pytest.approx(100 * (1 - metrics["final_mape"] / metrics["naive_mape"]))
    assert metrics["naive_mape"] == evaluation.scores[NAIVE]["mape"]
    by_step = np.sqrt(((evaluation.windows.targets - evaluation.windows.inputs[:, -1:]) ** 2).mean(axis=0))
    assert metrics["naive_rmse_mean_step"] == pytest.approx(by_step.mean())
    assert metrics["naive_rmse"] == pytest.approx(np.sqrt((by_step**2).mean()))


def test_the_tables_contain_every_forecast_and_the_scores_of_each_stock(shared, many):
    frame, scores = shared.tables.forecasts, shared.tables.scores.set_index(["stock", "forecaster"])
    assert len(frame) == 10 * len(shared.windows)
    errors = (frame["y"] - frame["y_hat"]).abs() / frame["y"]
    assert 100 * errors.mean() == pytest.approx(shared.metrics["final_mape"])
    assert (frame["cutoff"] < frame["date"]).all()
    assert {*scores.index} == {(stock, name) for stock in many.stocks for name in shared.forecasts}
    for stock, place in shared.windows.by_stock():
        assert (frame["stock"] == stock).sum() == 10 * (place.stop - place.start)
        forecasts = {name: quantiles[place] for name, quantiles in shared.forecasts.items()}
        alone = Evaluation(stock, "R$", shared.windows.where(place), forecasts)
        for name, row in alone.scores.items():
            assert scores.loc[(stock, name)].to_dict() == row


def test_saved_tables_are_read_unchanged_for_each_stock(shared, tmp_path):
    shared.tables.save(tmp_path)
    part, whole = EvaluationTables.read(tmp_path).of_stock("PETR4"), shared.tables.of_stock("PETR4")
    for name in ("forecasts", "scores", "steps"):
        pd.testing.assert_frame_equal(getattr(part, name), getattr(whole, name), atol=1e-5, check_dtype=False)
    rows = part.at_step(3)
    assert (rows["step"] == 3).all()
    assert rows["error"].to_numpy() == pytest.approx(100 * (1 - rows["y_hat"] / rows["y"]).to_numpy())


def test_a_baseline_that_refuses_a_stock_is_left_out_of_that_stock_alone_with_a_warning(halted, caplog):
    names, windows = (NAIVE, "GJR-GARCH", "EWMA"), halted.split.test
    with caplog.at_level(logging.WARNING):
        found = baselines_of(halted, names)
    assert list(found) == list(names)
    assert np.array_equal(np.isnan(found["GJR-GARCH"]).all(axis=(1, 2)), windows.stocks == "HALT3")
    [record] = [r for r in caplog.records if r.name == "pregao.evaluation.report"]
    assert record.getMessage().startswith("HALT3: GJR-GARCH is left out. The baseline 'GJR-GARCH' was given")
    evaluation = Evaluation("SHARED", "R$", windows, {"model": found[NAIVE], **found})
    moving = windows.stocks == "VALE3"
    alone = Evaluation("VALE3", "R$", windows.where(moving), {name: each[moving] for name, each in found.items()})
    assert evaluation.scores["GJR-GARCH"] == alone.scores["GJR-GARCH"]
    scored = set(evaluation.tables.scores.set_index(["stock", "forecaster"]).index)
    assert ("VALE3", "GJR-GARCH") in scored
    assert ("HALT3", "GJR-GARCH") not in scored
    text = shown(evaluation)
    assert "GJR-GARCH †" in text
    assert "† without HALT3" in text


def test_a_baseline_that_no_stock_has_is_left_out():
    halted = panel_of({"HALT3": random_walk().assign(close=7.0)})
    assert list(baselines_of(halted, (NAIVE, "GJR-GARCH"))) == [NAIVE]


def test_baselines_are_fitted_per_stock_on_the_closes_before_the_test_part(many):
    names = (NAIVE, "EWMA", "mean return")
    found = baselines_of(many, names)
    for stock, place in many.split.test.by_stock():
        table = many.prices[stock]
        past, days = table[table["date"] < many.borders[1]], table["date"].to_numpy("datetime64[ns]")
        origins = np.flatnonzero(np.isin(days, many.split.test.cutoffs[place]))
        for name in names:
            fitted = BASELINES[name]().fit(History.of(past, stock))
            assert np.array_equal(found[name][place], fitted.quantiles(History.of(table, stock), origins, 10))


def height_of(report, folder):
    """The height of the figure, which must not be empty."""
    plots.report(report, folder / "report.png")
    figure = imread(folder / "report.png")
    assert 500 < figure.shape[0] < 2500
    assert 800 < figure.shape[1] < 2500
    assert figure.std() > 0.05
    return figure.shape[0]


def test_the_figure_is_drawn_for_one_or_many_stocks_and_a_horizon_of_1(evaluation, shared, tmp_path):
    assert height_of(evaluation, tmp_path) == height_of(shared, tmp_path)
    assert height_of(evaluated(panel_of({"VALE3": random_walk()}, 1), "VALE3", names=(NAIVE,)), tmp_path)
