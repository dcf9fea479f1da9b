import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import t

from pregao.errors import IncomparableLosses
from pregao.evaluation.significance import diebold_mariano, hac_lag, panel_diebold_mariano


def overlapping(n, seed):
    """Sums of 10 draws; neighbours have 9 draws in common."""
    return np.convolve(np.random.default_rng(seed).normal(size=n + 9), np.ones(10), "valid")


def test_the_statistic_is_that_of_a_hac_regression_times_the_small_sample_factor():
    n, horizon = 407, 10
    losses, benchmark = overlapping(n, 1) + 0.5, overlapping(n, 2)
    test = diebold_mariano(losses, benchmark, horizon)
    regression = sm.OLS(losses - benchmark, np.ones(n)).fit(
        cov_type="HAC", cov_kwds={"maxlags": test.lag, "use_correction": False}
    )
    factor = np.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    assert test.difference == pytest.approx(regression.params[0], rel=1e-12)
    assert test.statistic == pytest.approx(factor * regression.tvalues[0], rel=1e-8)
    assert test.p_value == pytest.approx(2 * t.sf(abs(test.statistic), 1.5 * n / test.lag), rel=1e-12)


def test_the_lag_covers_the_overlap_and_grows_with_the_sample():
    assert (hac_lag(40, 10), hac_lag(407, 10)) == (9, 27)


def test_equal_losses_do_not_differ():
    losses = overlapping(100, 5)
    test = diebold_mariano(losses, losses.copy())
    assert (test.difference, test.statistic, test.p_value) == (0, 0, 1)


@pytest.mark.parametrize(
    ("losses", "benchmark", "message"),
    [
        (np.ones(50), np.zeros(49), "same windows"),
        (np.ones(39), np.zeros(39), "at least 40 origins"),
        (np.where(np.arange(50) == 7, np.nan, 1.0), np.zeros(50), "first at origin 7"),
        (np.where(np.arange(50) == 7, np.inf, 1.0), np.zeros(50), "first at origin 7"),
        (np.full(50, 0.3), np.full(50, 0.1), "nothing to test"),
    ],
)
def test_losses_that_cannot_be_compared_are_refused(losses, benchmark, message):
    with pytest.raises(IncomparableLosses, match=message):
        diebold_mariano(losses, benchmark)


def test_a_panel_is_tested_on_the_mean_over_the_known_stocks_of_each_date():
    losses, benchmark = np.random.default_rng(6).normal(size=(2, 200, 5))
    losses[3:9, 1] = benchmark[3:9, 1] = np.nan
    expected = diebold_mariano(np.nanmean(losses - benchmark, axis=1), np.zeros(200))
    panel = panel_diebold_mariano(losses, benchmark)
    assert panel.statistic == pytest.approx(expected.statistic)
    assert panel.origins == 200


def test_panels_of_different_windows_are_refused():
    losses, benchmark = np.random.default_rng(9).normal(size=(2, 100, 2))
    with pytest.raises(IncomparableLosses, match="same windows"):
        panel_diebold_mariano(losses, benchmark[:, :1])
    losses[3, 1] = np.nan
    with pytest.raises(IncomparableLosses, match="same windows"):
        panel_diebold_mariano(losses, benchmark)
    losses[3] = benchmark[3] = np.nan
    with pytest.raises(IncomparableLosses, match="no stock"):
        panel_diebold_mariano(losses, benchmark)
