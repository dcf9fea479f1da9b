import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import t

from pregao.errors import IncomparableLosses
from pregao.evaluation.significance import diebold_mariano, hac_lag, loss_saved, strongest


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


def panel_losses(dates=200, stocks=5, seed=6):
    """Losses of stocks of different size, and a benchmark that loses 5 % more; NaN where stock 1 has no forecast."""
    rng = np.random.default_rng(seed)
    losses = np.linspace(1, 9, stocks) * rng.gamma(4, size=(dates, stocks))
    losses[3:90, 1] = np.nan
    return losses, losses * (1.05 + 0.2 * rng.normal(size=(dates, 1)))


def test_the_loss_saved_is_the_mean_over_stocks_of_the_ratio_of_means():
    losses, benchmark = panel_losses()
    ratios = np.nanmean(losses, axis=0) / np.nanmean(benchmark, axis=0)
    assert loss_saved(losses, benchmark).estimate == pytest.approx(100 * (1 - ratios.mean()))
    scaled = np.array([1, 1000, 1, 1, 1])
    assert loss_saved(scaled * losses, scaled * benchmark).estimate == pytest.approx(100 * (1 - ratios.mean()))


def test_the_interval_is_that_of_a_circular_block_bootstrap_over_dates():
    losses, benchmark = panel_losses()
    n, block, rng, found = 200, 20, np.random.default_rng(0), []
    for _ in range(4000):
        starts = rng.integers(n, size=n // block)
        dates = ((starts[:, None] + np.arange(block)) % n).ravel()
        found.append(100 * (1 - (np.nansum(losses[dates], axis=0) / np.nansum(benchmark[dates], axis=0)).mean()))
    saved = loss_saved(losses, benchmark, block)
    assert (saved.low, saved.high) == pytest.approx(tuple(np.quantile(found, [0.025, 0.975])), abs=0.25)
    assert saved.low < saved.estimate < saved.high
    assert loss_saved(losses, benchmark, block) == saved


def test_days_that_are_alike_and_stocks_that_move_together_give_wide_intervals():
    rng = np.random.default_rng(1)
    once = 1 + 0.2 * rng.normal(size=(400, 1))
    together, apart = np.repeat(once, 20, axis=1), 1 + 0.2 * rng.normal(size=(400, 20))
    level = np.ones((400, 20))
    alike = np.repeat(together[::10], 10, axis=0)
    found = [loss_saved(losses, level) for losses in (apart, together, alike)]
    narrow, wide, widest = (saved.high - saved.low for saved in found)
    assert wide > 2 * narrow
    assert widest > 2 * wide


def test_too_few_dates_have_no_interval():
    losses, benchmark = panel_losses()
    few, enough = loss_saved(losses[:79], benchmark[:79]), loss_saved(losses[:80], benchmark[:80])
    assert np.isfinite(few.estimate)
    assert np.isnan([few.low, few.high]).all()
    assert np.isfinite([enough.low, enough.high]).all()
    assert str(few) == f"{few.estimate:+.2f} [–, –]"


def test_a_stock_on_which_the_benchmark_lost_nothing_is_left_out():
    losses, benchmark = panel_losses()
    still = np.ones((200, 1))
    more = loss_saved(np.hstack([losses, still]), np.hstack([benchmark, 0 * still]))
    assert more == loss_saved(losses, benchmark)
    assert np.isnan(loss_saved(losses, 0 * losses).estimate)


def test_losses_of_different_stocks_or_dates_are_refused():
    losses, benchmark = panel_losses()
    with pytest.raises(IncomparableLosses, match="same windows"):
        loss_saved(losses, benchmark[:, :1])
    with pytest.raises(IncomparableLosses, match="same windows"):
        loss_saved(losses, np.nan_to_num(benchmark))


def test_the_strongest_has_the_lowest_losses_over_the_stocks_that_all_have():
    losses, benchmark = panel_losses()
    assert strongest({"worse": benchmark, "better": losses}) == "better"
    lacking = benchmark.copy()
    lacking[:, 4] = np.nan  # the stock with the largest losses
    assert strongest({"lacking": lacking, "better": losses}) == "better"
