from functools import partial
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from rich.console import Console

from pregao.evaluation import plots
from pregao.evaluation.report import NAIVE, Evaluation, baseline_forecasts
from pregao.quantiles import LEVELS
from pregao.windows import fraction_borders, split_windows
from tests.conftest import random_walk


@pytest.fixture(scope="module")
def split():
    return split_windows("VALE3", random_walk(), 20, 10, partial(fraction_borders, train=0.7, validation=0.15))


@pytest.fixture(scope="module")
def evaluation(split):
    baselines = baseline_forecasts(split)
    return Evaluation("VALE3", "R$", split.test, {"model": 1.01 * baselines[NAIVE], **baselines})


def test_every_score_stands_beside_the_baselines_on_the_same_windows(evaluation):
    assert list(evaluation.scores) == ["model", "last close", "drift", "mean return"]
    console = Console(width=80, file=StringIO())
    console.print(evaluation.terminal_table())
    text = console.file.getvalue()
    assert "…" not in text
    assert f"{len(evaluation.windows)} judged windows" in text
    for name in ("model", "last close", "drift", "mean return"):
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


def test_the_frame_is_tidy_and_gives_the_same_scores(evaluation, tmp_path):
    evaluation.save(tmp_path)
    frame = pd.read_csv(tmp_path / "evaluation.csv")
    columns = ["stock", "cutoff", "date", "step", "y", "y_hat", "lower_80", "upper_80", "lower_90", "upper_90"]
    assert sorted(frame) == sorted(columns)
    assert len(frame) == 10 * len(evaluation.windows)
    mape = 100 * ((frame["y"] - frame["y_hat"]).abs() / frame["y"]).mean()
    assert mape == pytest.approx(evaluation.metrics["final_mape"], abs=1e-4)
    assert (frame["cutoff"] < frame["date"]).all()


def test_baselines_see_nothing_of_the_judged_closes(split):
    poisoned = split.test.__class__(split.test.inputs, 99 * split.test.targets, split.test.cutoffs, split.test.dates)
    before, after = (
        baseline_forecasts(split),
        baseline_forecasts(split.__class__(split.train, split.validation, poisoned)),
    )
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_baseline_bands_never_cross(split):
    for quantiles in baseline_forecasts(split).values():
        assert quantiles.shape == (len(split.test), 10, len(LEVELS))
        assert (np.diff(quantiles, axis=-1) > 0).all()


@pytest.mark.parametrize("horizon", [1, 2, 10])
def test_the_picture_is_drawn_for_every_horizon(tmp_path, horizon):
    split = split_windows("VALE3", random_walk(), 20, horizon, partial(fraction_borders, train=0.7, validation=0.15))
    baselines = baseline_forecasts(split)
    plots.report(
        Evaluation("VALE3", "R$", split.test, {"model": baselines["drift"], **baselines}), tmp_path / "report.png"
    )
    picture = imread(tmp_path / "report.png")
    assert picture.shape[0] > 500
    assert picture.std() > 0.05
