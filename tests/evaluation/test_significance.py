import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import t

from pregao.errors import IncomparableLosses
from pregao.evaluation.significance import (
    diebold_mariano,
    hac_lag,
    panel_diebold_mariano,
)


def overlapping(n, seed):
    """Sums of 10 draws, each of which shares 9 with its neighbour."""
    return np.convolve(np.random.default_rng(seed).normal(size=n + 9), np.ones(10), "valid")


def test_the_statistic_is_that_of_a_hac_regression_on_a_constant_times_the_small_sample_factor():
    n, horizon = 407, 10
    losses, benchmark = overlapping(n, 1) + 0.5, overlapping(n, 2)
    test = diebold_mariano(losses, benchmark, horizon)
    kwds = {"maxlags": test.lag, "use_correction": False}
    regression = sm.OLS(losses - benchmark, np.ones(n)).fit(cov_type="HAC", cov_kwds=kwds)
    factor = np.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    assert test.difference == pytest.approx(regression.params[0], rel=1e-12)
    assert test.statistic == pytest.approx(factor * regression.tvalues[0], rel=1e-8)
    assert test.p_value == pytest.approx(2 * t.sf(abs(test.statistic), 1.5 * n / test.lag), rel=1e-12)


def test_one_step_forecasts_of_independent_losses_are_a_t_test_nearly():
    losses, benchmark = np.random.default_rng(0).normal([[0.1], [0]], size=(2, 5000))
    test = diebold_mariano(losses, benchmark, horizon=1)
    difference = losses - benchmark
    assert test.statistic == pytest.approx(difference.mean() / difference.std() * np.sqrt(5000), rel=0.15)


def test_the_lag_covers_the_overlap_and_grows_with_the_sample():
    assert hac_lag(40, 10) == 9
    assert hac_lag(407, 10) == 27


def test_a_worse_forecast_has_a_positive_difference_and_the_sides_are_symmetric():
    losses, benchmark = overlapping(400, 3) + 5, overlapping(400, 4)
    worse, better = diebold_mariano(losses, benchmark), diebold_mariano(benchmark, losses)
    assert worse.difference > 0
    assert worse.p_value < 0.01
    assert better.statistic == pytest.approx(-worse.statistic)
    assert better.p_value == pytest.approx(worse.p_value)


def test_a_true_null_is_rejected_about_as_often_as_promised_where_errors_overlap():
    n = 407
    p_values = [diebold_mariano(overlapping(n, seed), np.zeros(n)).p_value for seed in range(1000)]
    assert 0.04 < np.mean(np.array(p_values) < 0.05) < 0.09
    assert 0.07 < np.mean(np.array(p_values) < 0.10) < 0.15


def test_forecasts_that_lose_the_same_do_not_differ():
    losses = overlapping(100, 5)
    test = diebold_mariano(losses, losses.copy())
    assert (test.difference, test.statistic, test.p_value) == (0, 0, 1)


@pytest.mark.parametrize(
    ("losses", "benchmark", "said"),
    [
        (np.ones(50), np.zeros(49), "same windows"),
        (np.ones(39), np.zeros(39), "at least 40 origins"),
        (np.where(np.arange(50) == 7, np.nan, 1.0), np.zeros(50), "first at origin 7"),
        (np.where(np.arange(50) == 7, np.inf, 1.0), np.zeros(50), "first at origin 7"),
        (np.full(50, 0.3), np.full(50, 0.1), "nothing to test"),
    ],
)
def test_what_cannot_be_tested_is_refused_with_a_sentence(losses, benchmark, said):
    with pytest.raises(IncomparableLosses, match=said):
        diebold_mariano(losses, benchmark)


def test_a_panel_is_tested_on_the_mean_of_each_date():
    losses, benchmark = np.random.default_rng(6).normal(size=(2, 200, 5))
    alone = diebold_mariano(losses.mean(axis=1), benchmark.mean(axis=1))
    panel = panel_diebold_mariano(losses, benchmark)
    assert panel.statistic == pytest.approx(alone.statistic)
    assert panel.origins == 200


def test_stocks_that_move_as_one_count_once():
    one, other = overlapping(300, 7) + 1, overlapping(300, 8)
    panel = panel_diebold_mariano(np.tile(one[:, None], 23), np.tile(other[:, None], 23))
    assert panel.p_value == pytest.approx(diebold_mariano(one, other).p_value)


def test_a_stock_that_is_missing_on_a_date_leaves_the_others():
    losses, benchmark = np.random.default_rng(9).normal(size=(2, 100, 2))
    losses[3, 1] = benchmark[3, 1] = np.nan
    difference = losses - benchmark
    means = np.append(difference[:3].mean(axis=1), [difference[3, 0], *difference[4:].mean(axis=1)])
    expected = diebold_mariano(means, np.zeros(100))
    assert panel_diebold_mariano(losses, benchmark).statistic == pytest.approx(expected.statistic)


def test_a_panel_is_refused_where_the_two_do_not_judge_the_same():
    losses, benchmark = np.random.default_rng(9).normal(size=(2, 100, 2))
    with pytest.raises(IncomparableLosses, match="same windows"):
        panel_diebold_mariano(losses, benchmark[:, :1])
    losses[3, 1] = np.nan
    with pytest.raises(IncomparableLosses, match="same windows"):
        panel_diebold_mariano(losses, benchmark)
    losses[3] = benchmark[3] = np.nan
    with pytest.raises(IncomparableLosses, match="no stock"):
        panel_diebold_mariano(losses, benchmark)
