import subprocess
import sys

import numpy as np
import pytest

from pregao.evaluation.metrics import Forecasts, coverage, pinball, score_table, skill
from pregao.quantiles import LEVELS

Y = np.array([[10.0, 20.0], [10.0, 40.0]])
Y_HAT = np.array([[11.0, 20.0], [10.0, 30.0]])
LAST = np.array([12.0, 20.0])


def scores(y, y_hat, last=LAST, levels=(0.5,)):
    quantiles = y_hat[..., None] if y_hat.ndim == 2 else y_hat
    return score_table(y, {"model": quantiles}, last, levels)["model"]


def test_errors_are_in_the_currency_and_in_percent_of_the_actual_close():
    found = scores(Y, Y_HAT)
    assert found["rmse"] == pytest.approx(np.sqrt((1 + 100) / 4))
    assert found["mae"] == pytest.approx(11 / 4)
    assert found["mape"] == pytest.approx(100 * (1 / 10 + 10 / 40) / 4)


def test_skill_is_the_reduction_of_the_error_of_last_close_at_every_step():
    assert (skill(1.5, 2.0), skill(3.0, 2.0)) == (25, -50)
    assert np.isnan(skill(1.0, 0.0))
    found, naive = scores(Y, Y_HAT), scores(Y, np.repeat(LAST[:, None], 2, axis=1))
    for name in ("rmse", "mape"):
        assert found[f"skill_{name}"] == skill(found[name], naive[name])
        assert naive[f"skill_{name}"] == 0


def test_without_a_last_close_only_skill_is_unknown():
    found = scores(Y, Y_HAT, last=None)
    assert {name for name, value in found.items() if np.isnan(value)} == {"skill_rmse", "skill_mape"}


def test_coverage_includes_the_borders():
    assert coverage(Y, Y, Y + 1) == coverage(Y, Y - 1, Y) == 100
    assert coverage(Y, Y_HAT, Y_HAT) == 50


@pytest.mark.parametrize(
    ("levels", "names"),
    [
        (LEVELS, ["coverage_80", "coverage_90"]),
        ((0.025, 0.25, 0.5, 0.75, 0.975), ["coverage_50", "coverage_95"]),
        ((0.005, 0.995), ["coverage_99"]),
        ((0.5,), []),
    ],
)
def test_coverage_is_computed_for_the_outer_pairs_of_levels(levels, names):
    y = np.random.default_rng(0).uniform(1, 2, (4000, 2))
    uniform = np.broadcast_to(1 + np.array(levels), (*y.shape, len(levels)))
    found = scores(y, uniform, last=None, levels=levels)
    assert [name for name in found if name.startswith("coverage")] == names
    for name in names:
        assert found[name] == pytest.approx(float(name.removeprefix("coverage_")), abs=1.5)


def test_without_a_median_the_point_forecast_is_the_mean_of_the_levels_around_it():
    found = scores(Y, np.stack([Y_HAT - 1, Y_HAT + 1], axis=-1), levels=(0.4, 0.6))
    assert found["mape"] == pytest.approx(scores(Y, Y_HAT)["mape"])
    one_sided = scores(Y, np.stack([0.8 * Y, 0.9 * Y], axis=-1), levels=(0.01, 0.05))
    assert one_sided["pinball"] > 0
    assert np.isnan([one_sided[name] for name in ("rmse", "mae", "mape", "skill_mape")]).all()


@pytest.mark.parametrize("price", [0.01, 50.0, 1000.0])
def test_pinball_weights_the_sides_by_the_level_for_any_price(price):
    y, levels = np.array([[price]]), (0.9,)
    low, high = (np.array([[[price * np.exp(x)]]]) for x in (-0.1, 0.1))
    assert pinball(Forecasts(y, low, levels=levels)) == pytest.approx(1000 * 0.9 * 0.1)
    assert pinball(Forecasts(y, high, levels=levels)) == pytest.approx(1000 * 0.1 * 0.1)


def test_evaluation_imports_neither_torch_nor_a_model():
    script = (
        "import sys, pregao.evaluation.report, pregao.evaluation.drift, pregao.evaluation.significance\n"
        "print({'torch', 'mlflow', 'scipy', 'matplotlib', 'arch', 'pregao.models'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
