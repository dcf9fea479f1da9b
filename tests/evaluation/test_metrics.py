import numpy as np
import pytest
import torch
from torchmetrics.functional import mean_absolute_error, mean_absolute_percentage_error, mean_squared_error

from pregao.evaluation.metrics import StepErrors, overall, point_scores
from pregao.evaluation.scores import coverage, pinball, skill

Y = np.array([[10.0, 20.0], [10.0, 40.0]])
Y_HAT = np.array([[11.0, 20.0], [10.0, 30.0]])


def test_errors_are_in_price_units_and_percent():
    scores = point_scores(Y, Y_HAT)
    assert scores["rmse"] == pytest.approx(np.sqrt((1 + 100) / 4))
    assert scores["mae"] == pytest.approx(11 / 4)
    assert scores["mape"] == pytest.approx(100 * (0.1 + 0.25) / 4)


def test_every_step_has_its_own_errors():
    scores = point_scores(Y, Y_HAT)
    assert scores["rmse_step_1"] == pytest.approx(np.sqrt(0.5))
    assert scores["mape_step_2"] == pytest.approx(12.5)


def test_errors_are_those_of_torchmetrics():
    forecast, actual = torch.from_numpy(Y_HAT), torch.from_numpy(Y)
    scores = point_scores(Y, Y_HAT)
    assert scores["rmse"] == pytest.approx(mean_squared_error(forecast, actual, squared=False).item())
    assert scores["mae"] == pytest.approx(mean_absolute_error(forecast, actual).item())
    assert scores["mape"] == pytest.approx(100 * mean_absolute_percentage_error(forecast, actual).item())


def test_errors_add_up_over_batches():
    metrics = StepErrors(2)
    for y, y_hat in zip(Y, Y_HAT, strict=True):
        metrics.update(torch.from_numpy(y_hat[None]), torch.from_numpy(y[None]))
    assert overall(metrics.compute()) == pytest.approx({k: point_scores(Y, Y_HAT)[k] for k in ("rmse", "mae", "mape")})


def test_skill_is_the_part_of_the_naive_error_that_is_saved():
    assert skill(1.5, 2.0) == 25
    assert skill(3.0, 2.0) == -50
    assert np.isnan(skill(1.0, 0.0))


def test_coverage_counts_the_borders_in():
    assert coverage(Y, Y, Y + 1) == 100
    assert coverage(Y, Y_HAT, Y_HAT) == 50


def test_pinball_weighs_the_sides_by_the_level():
    last, levels = np.array([10.0]), np.array([0.9])
    low, high = (np.array([[[10 * np.exp(x)]]]) for x in (-0.1, 0.1))
    y = np.array([[10.0]])
    assert pinball(y, low, last, levels) == pytest.approx(1000 * 0.9 * 0.1)
    assert pinball(y, high, last, levels) == pytest.approx(1000 * 0.1 * 0.1)


def test_pinball_does_not_depend_on_the_price():
    levels = np.array([0.25, 0.75])
    quantiles = np.stack([0.9 * Y, 1.1 * Y], axis=-1)
    one = pinball(Y, quantiles, Y[:, 0], levels)
    assert pinball(7 * Y, 7 * quantiles, 7 * Y[:, 0], levels) == pytest.approx(one)
