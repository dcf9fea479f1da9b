import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional import mean_absolute_error, mean_absolute_percentage_error, mean_squared_error

from pregao.evaluation.metrics import METRICS, Forecasts, coverage, pinball, score_table, skill
from pregao.quantiles import LEVELS

Y = np.array([[10.0, 20.0], [10.0, 40.0]])
Y_HAT = np.array([[11.0, 20.0], [10.0, 30.0]])
LAST = np.array([12.0, 20.0])


def scores(y, y_hat, last=LAST, levels=(0.5,)):
    quantiles = y_hat[..., None] if y_hat.ndim == 2 else y_hat
    return score_table(y, {"model": quantiles}, last, levels)["model"]


def test_errors_are_in_price_units_and_percent():
    found = scores(Y, Y_HAT)
    assert found["rmse"] == pytest.approx(np.sqrt((1 + 100) / 4))
    assert found["mae"] == pytest.approx(11 / 4)
    assert found["mape"] == pytest.approx(100 * (0.1 + 0.25) / 4)


def test_errors_are_those_of_torchmetrics():
    forecast, actual = torch.from_numpy(Y_HAT), torch.from_numpy(Y)
    found = scores(Y, Y_HAT)
    assert found["rmse"] == pytest.approx(mean_squared_error(forecast, actual, squared=False).item())
    assert found["mae"] == pytest.approx(mean_absolute_error(forecast, actual).item())
    assert found["mape"] == pytest.approx(100 * mean_absolute_percentage_error(forecast, actual).item())


def test_skill_is_the_part_of_the_naive_error_that_is_saved():
    assert skill(1.5, 2.0) == 25
    assert skill(3.0, 2.0) == -50
    assert np.isnan(skill(1.0, 0.0))


def test_skill_compares_with_the_last_close_at_every_step():
    found, naive = scores(Y, Y_HAT), scores(Y, np.repeat(LAST[:, None], 2, axis=1))
    for name in ("rmse", "mape"):
        assert found[f"skill_{name}"] == skill(found[name], naive[name])
        assert naive[f"skill_{name}"] == 0


def test_without_a_last_close_there_is_no_skill_but_every_other_score():
    found = scores(Y, Y_HAT, last=None)
    assert {name for name, value in found.items() if np.isnan(value)} == {"skill_rmse", "skill_mape"}


def test_coverage_counts_the_borders_in():
    assert coverage(Y, Y, Y + 1) == 100
    assert coverage(Y, Y_HAT, Y_HAT) == 50


@pytest.mark.parametrize(
    ("levels", "named"),
    [
        (LEVELS, ["coverage_80", "coverage_90"]),
        ((0.1, 0.5, 0.9), ["coverage_80"]),
        ((0.025, 0.25, 0.5, 0.75, 0.975), ["coverage_50", "coverage_95"]),
        ((0.005, 0.995), ["coverage_99"]),
        ((0.5,), []),
    ],
)
def test_coverage_is_that_of_the_outer_pairs_of_the_levels(levels, named):
    y = np.random.default_rng(0).uniform(1, 2, (4000, 2))
    uniform = np.broadcast_to(1 + np.array(levels), (*y.shape, len(levels)))
    found = scores(y, uniform, last=None, levels=levels)
    assert [name for name in found if name.startswith("coverage")] == named
    for name in named:
        assert found[name] == pytest.approx(float(name.removeprefix("coverage_")), abs=1.5)


def test_the_point_forecast_of_other_levels_is_the_middle_of_the_two_around_the_median():
    low, high = Y_HAT - 1, Y_HAT + 1
    found = scores(Y, np.stack([low, high], axis=-1), levels=(0.4, 0.6))
    assert found["mape"] == pytest.approx(scores(Y, Y_HAT)["mape"])


def test_levels_on_one_side_of_the_median_have_pinball_and_no_error():
    found = scores(Y, np.stack([0.8 * Y, 0.9 * Y], axis=-1), levels=(0.01, 0.05))
    assert found["pinball"] > 0
    assert np.isnan([found[name] for name in ("rmse", "mae", "mape", "skill_mape")]).all()


def test_pinball_weighs_the_sides_by_the_level():
    y, levels = np.array([[10.0]]), (0.9,)
    low, high = (np.array([[[10 * np.exp(x)]]]) for x in (-0.1, 0.1))
    assert pinball(Forecasts(y, low, levels=levels)) == pytest.approx(1000 * 0.9 * 0.1)
    assert pinball(Forecasts(y, high, levels=levels)) == pytest.approx(1000 * 0.1 * 0.1)


@given(st.floats(0.01, 1000))
def test_pinball_does_not_depend_on_the_price(factor):
    quantiles = np.stack([0.9 * Y, 1.1 * Y], axis=-1)
    one, other = (pinball(Forecasts(k * Y, k * quantiles, levels=(0.25, 0.75))) for k in (1, factor))
    assert other == pytest.approx(one)


def test_every_forecaster_has_the_same_columns_on_the_same_windows():
    table = score_table(Y, {"model": Y_HAT[..., None], "last close": Y[..., None]}, LAST, (0.5,))
    assert list(table) == ["model", "last close"]
    assert list(table["model"]) == list(table["last close"])
    assert table["last close"]["rmse"] == 0
    assert table["model"] == scores(Y, Y_HAT)


def test_a_new_metric_is_one_function_and_its_name(monkeypatch):
    def bias(forecasts):
        return float(forecasts.error.mean())

    monkeypatch.setitem(METRICS, "bias", bias)
    assert scores(Y, Y_HAT)["bias"] == (1 - 10) / 4


def test_evaluation_needs_neither_torch_nor_a_model():
    script = (
        "import sys, pregao.evaluation.report, pregao.evaluation.drift, pregao.evaluation.significance\n"
        "print({'torch', 'mlflow', 'scipy', 'matplotlib', 'arch', 'pregao.models'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
