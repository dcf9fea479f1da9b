import sys
from dataclasses import replace

import numpy as np
import pytest
from arch import arch_model
from scipy.stats import ks_2samp, t
from statsmodels.tsa.statespace.api import SARIMAX, ExponentialSmoothing

from pregao.errors import InvalidChoice, InvalidCloses
from pregao.evaluation.baselines import (
    Arima,
    Drift,
    Ets,
    Ewma,
    FittedBaseline,
    GasT,
    GjrGarch,
    GjrGarchRefitted,
    History,
    LastClose,
    LogHar,
    MeanReturn,
    QuantileRegression,
    RollingVolatility,
)
from pregao.evaluation.baselines.empirical import LEAST_SCALE
from pregao.evaluation.baselines.garch import GjrParameters
from pregao.evaluation.baselines.gas import GasParameters
from pregao.evaluation.baselines.simulated import PATHS, simulate
from pregao.forecasting.widths import BASELINES
from pregao.quantiles import LEVELS, MEDIAN, at

SIMPLE = [LastClose, Drift, MeanReturn, RollingVolatility, Ewma]
ESTIMATED = [GjrGarch, GjrGarchRefitted, GasT, Ets, Arima]
REGRESSED = [LogHar, QuantileRegression]
EVERY = pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)


def walk(n=300, seed=0):
    return 50 * np.exp(0.02 * np.random.default_rng(seed).standard_t(5, n).cumsum())


def least_closes(baseline):
    """Of a fit part, for 10 steps; a baseline with the online width needs those of the one it widens."""
    inner = getattr(baseline, "of", baseline)
    return 150 if inner in REGRESSED else 60 if inner in ESTIMATED else 11


def of(closes, stock="VALE3"):
    """A history of these closes, with an open, a high and a low that depend on a session's own closes."""
    noise = np.abs(np.random.default_rng(1).normal(0, 0.01, (2, 1000)))[:, : len(closes)]
    before = np.concatenate([closes[:1], closes[:-1]])
    high, low = np.maximum(before, closes) * (1 + noise[0]), np.minimum(before, closes) / (1 + noise[1])
    return History({"open": before, "high": high, "low": low, "close": closes}, stock)


def arch_garch(returns=None):
    return arch_model(returns, mean="Zero", vol="GARCH", p=1, o=1, q=1, dist="t", rescale=False)


def garch_walk(n, seed=0):
    """Closes of a known GJR-GARCH."""
    model = arch_garch()
    model.distribution._generator = np.random.default_rng(seed)
    return 50 * np.exp(model.simulate([0.1, 0.03, 0.1, 0.88, 6.0], n)["data"].to_numpy().cumsum() / 100)


@pytest.fixture(scope="module")
def fitted():
    """Every baseline on the first 200 closes of `walk()`."""
    return {baseline: baseline().fit(of(walk()[:200])) for baseline in BASELINES.values()}


@EVERY
def test_a_forecast_depends_only_on_the_closes_up_to_its_origin(baseline, fitted):
    closes, origins = walk(), np.array([0, 1, 25, 199, 250])
    asked = fitted[baseline].quantiles(of(closes), origins, 10)
    for row, origin in zip(asked, origins, strict=True):
        poisoned = np.concatenate([closes[: origin + 1], 7 * walk(len(closes) - origin - 1, seed=9)])
        [again] = fitted[baseline].quantiles(of(poisoned), np.array([origin]), 10)
        [with_a_later_origin, _] = fitted[baseline].quantiles(of(poisoned), np.array([origin, 280]), 10)
        [cut] = fitted[baseline].quantiles(of(closes[: origin + 1]), np.array([origin]), 10)
        for other in (again, with_a_later_origin, cut):
            assert np.array_equal(row, other)


@EVERY
def test_quantiles_are_ordered_reproducible_and_scale_with_the_price(baseline, fitted):
    closes, origins = walk(), np.arange(200, 290)
    quantiles = fitted[baseline].quantiles(of(closes), origins, 10)
    assert quantiles.shape == (90, 10, len(LEVELS))
    assert (np.diff(quantiles, axis=-1) > 0).all()
    assert np.array_equal(closes, walk())
    assert np.array_equal(quantiles, baseline().fit(of(closes[:200])).quantiles(of(closes), origins, 10))
    # Powers of two scale floats exactly, but not their logarithms, which changes the optimiser's path.
    scaled = baseline().fit(of(8 * closes[:200])).quantiles(of(8 * closes), origins, 10)
    assert scaled == pytest.approx(8 * quantiles, rel=1e-2)
    width = np.ptp(np.log(quantiles), axis=-1).mean(axis=0)
    assert width[9] > 2 * width[0]


@EVERY
def test_other_levels_and_other_histories_can_be_forecast(baseline, fitted):
    closes, origins, few = walk(), np.array([200, 250]), (0.1, 0.5, 0.9)
    quantiles = fitted[baseline].quantiles
    chosen = quantiles(of(closes), origins, 10)[..., [LEVELS.index(level) for level in few]]
    assert np.array_equal(quantiles(of(closes), origins, 10, few), chosen)
    assert (np.diff(quantiles(of(closes), origins, 10, (0.01, 0.05)), axis=-1) > 0).all()
    assert quantiles(of(closes), np.array([], dtype=int), 3).shape == (0, 3, len(LEVELS))
    assert (quantiles(of(100 * walk(30, seed=4)), np.arange(30), 10) > 0).all()


@EVERY
def test_a_price_that_never_moves_has_no_bands_or_no_variance_to_estimate(baseline):
    still = np.full(160, 50.0)
    if least_closes(baseline) > 11:
        with pytest.raises(InvalidCloses, match="never moves has no variance"):
            baseline().fit(of(still))
    else:
        assert (baseline().fit(of(still)).quantiles(of(still), np.arange(99), 10) == 50).all()


@EVERY
@pytest.mark.parametrize("seed", [2, 20])  # arch's optimiser violates alpha + gamma ≥ 0
def test_a_stock_that_hardly_ever_moves_has_finite_ordered_bands(baseline, seed):
    rng = np.random.default_rng(seed)
    returns = (rng.random(363) < 0.03) * rng.normal(scale=0.02, size=363)
    closes = 50 * np.exp(returns.cumsum())
    quantiles = baseline().fit(of(closes)).quantiles(of(closes), np.arange(0, 363, 3), 10)
    assert np.isfinite(quantiles).all()
    assert (np.diff(quantiles, axis=-1) >= 0).all()


@EVERY
def test_a_short_fit_part_is_refused(baseline):
    closes, least = walk(), least_closes(baseline)
    assert np.isfinite(baseline().fit(of(closes[:least])).quantiles(of(closes), np.array([250]), 10)).all()
    with pytest.raises(InvalidCloses, match=f"at least {least}"):
        baseline().fit(of(closes[: least - 1])).quantiles(of(closes), np.array([250]), 10)


@EVERY
@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan, np.inf])
def test_a_close_that_is_not_a_price_is_refused_up_to_the_last_origin(baseline, wrong, fitted):
    closes = walk()
    closes[100] = wrong
    with pytest.raises(InvalidCloses, match="close 100 of 300"):
        baseline().fit(of(closes))
    with pytest.raises(InvalidCloses, match="close 100"):
        fitted[baseline].quantiles(of(closes), np.array([150]), 10)
    assert np.isfinite(fitted[baseline].quantiles(of(closes), np.array([99]), 10)).all()


def test_origins_outside_the_history_and_a_horizon_of_0_are_refused(fitted):
    for origin in (-1, 300):
        with pytest.raises(InvalidCloses, match="allowed are 0 to 299"):
            fitted[LastClose].quantiles(of(walk()), np.array([origin]), 10)
    with pytest.raises(InvalidCloses, match="0 sessions ahead"):
        fitted[LastClose].quantiles(of(walk()), np.array([5]), 0)


@pytest.mark.parametrize("baseline", SIMPLE)
def test_the_spread_is_the_quantile_of_the_standardised_errors_of_the_fit_part(baseline):
    logs = np.log(walk())
    returns = np.diff(logs)
    drift, scale = baseline().drift(logs, returns), baseline().scale(logs, returns)
    origins = np.arange(299 - 3)
    errors = np.abs(logs[origins + 4] - logs[origins] - 4 * drift[origins]) / scale[origins]
    moves = np.log(baseline().fit(of(walk())).quantiles(of(walk()), np.array([299]), 4)[0, 3] / walk()[299])
    upper = 4 * drift[299] + scale[299] * np.quantile(errors, [0.5, 0.8, 0.9])
    assert moves[MEDIAN + 1 :] == pytest.approx(upper, rel=1e-9)
    assert moves + moves[::-1] == pytest.approx(8 * drift[299], abs=1e-12)


def test_drift_is_the_mean_return_over_the_last_20_closes():
    logs = np.log(walk())
    daily = Drift().drift(logs, np.diff(logs))
    expected = [(logs[at] - logs[start]) / (at - start) for start, at in ((0, 2), (0, 19), (1, 20), (231, 250))]
    assert daily[[2, 19, 20, 250]] == pytest.approx(expected)
    assert daily[0] == 0


def test_the_mean_return_is_that_of_the_fit_part(fitted):
    daily = np.log(walk()[199] / walk()[0]) / 199
    point = fitted[MeanReturn].quantiles(of(walk()), np.array([250]), 5)[0, :, MEDIAN]
    assert point == pytest.approx(walk()[250] * np.exp(daily * np.arange(1, 6)))


def test_rolling_volatility_is_the_root_mean_square_of_20_returns():
    logs = np.log(walk())
    returns = np.diff(logs)
    scale = RollingVolatility().scale(logs, returns[:200])
    assert scale[250] == pytest.approx(np.sqrt(np.mean(returns[230:250] ** 2)))
    assert scale[0] == pytest.approx(np.sqrt(np.mean(returns[:200] ** 2)))
    assert RollingVolatility().scale(np.zeros(30), returns)[29] == LEAST_SCALE


def test_ewma_is_the_riskmetrics_recursion():
    logs = np.log(walk())
    variance = [np.mean(np.diff(logs)[:200] ** 2)]
    for value in np.diff(logs):
        variance.append(0.94 * variance[-1] + 0.06 * value**2)
    assert Ewma().scale(logs, np.diff(logs)[:200]) == pytest.approx(np.sqrt(variance))


def test_gjr_garch_has_the_variance_and_the_distribution_of_arch():
    closes = garch_walk(900)
    returns = 100 * np.diff(np.log(closes))
    found = GjrGarch().fit(of(closes)).parameters
    variance, result = found.variance(returns), arch_garch(returns).fit(disp="off")
    assert variance[:-1] == pytest.approx(result.conditional_volatility**2, rel=1e-9)
    assert variance[-1] == pytest.approx(result.forecast(horizon=1).variance.iloc[-1, 0], rel=1e-9)
    model = arch_garch(returns)
    model.distribution._generator = np.random.default_rng(3)
    theirs = model.fix(result.params).forecast(horizon=10, method="simulation", simulations=20_000)
    theirs = theirs.simulations.values[-1].cumsum(axis=1) / 100
    ours = np.concatenate([simulate(found, variance[-1], 10, np.random.default_rng(seed)) for seed in range(5)], axis=1)
    for step in (0, 4, 9):
        assert ks_2samp(ours[step], theirs[:, step]).pvalue > 0.01


CONSTANT = FittedBaseline(GjrGarch(), GjrParameters(1.0, 0.0, 0.0, 0.0, 5.0, 1.0))
"""A variance of 1 %² a day at any origin."""


def test_simulated_paths_differ_between_origins_and_between_stocks():
    closes, origins = np.full(30, 50.0), np.array([8, 9])
    one, other = CONSTANT.quantiles(of(closes), origins, 10)
    third, _ = CONSTANT.quantiles(of(closes, "PETR4"), origins, 10)
    for unequal in (other, third):
        assert not np.isclose(np.delete(one, MEDIAN, axis=1), np.delete(unequal, MEDIAN, axis=1), rtol=1e-9).any()
        assert one == pytest.approx(unequal, rel=0.01)


def test_half_of_the_simulated_paths_have_the_negative_shocks_of_the_other_half():
    paths = simulate(CONSTANT.parameters, 1.0, 10, np.random.default_rng(0))
    assert paths.shape == (10, PATHS)
    assert PATHS >= 4000
    assert np.array_equal(paths[:, : PATHS // 2], -paths[:, PATHS // 2 :])
    assert np.var(np.diff(paths, axis=0)) == pytest.approx(1e-4, rel=0.05)


def test_gjr_garch_is_refitted_every_half_year_on_the_closes_until_then():
    closes = garch_walk(700)
    refitted = GjrGarchRefitted().fit(of(closes[:300]))
    origins = np.array([100, 299 + 125, 299 + 126, 299 + 252])
    found = refitted.quantiles(of(closes), origins, 10)
    for row, origin, sessions in zip(found, origins, [300, 300, 426, 552], strict=True):
        once = GjrGarch().fit(of(closes[:sessions])).quantiles(of(closes), np.array([origin]), 10)
        assert np.array_equal(row, once[0])


def test_gas_t_follows_its_recursion_and_its_likelihood_is_that_of_student_t():
    returns = 100 * np.diff(np.log(garch_walk(400)))
    model = GasParameters(omega=0.05, alpha=0.08, beta=0.97, degrees=6.0, past=2.0)
    variance = [2.0]
    for value in returns:  # Creal, Koopman & Lucas (2013), with A1 = alpha / (1 + 3 / ν)
        a1, f, nu = 0.08 / (1 + 3 / 6), variance[-1], 6.0
        weighted = (1 + 1 / nu) / ((1 - 2 / nu) * (1 + value**2 / (nu * (1 - 2 / nu) * f))) * value**2
        variance.append(0.05 + a1 * (1 + 3 / nu) * (weighted - f) + 0.97 * f)
    assert model.variance(returns) == pytest.approx(np.array(variance), rel=1e-12)
    assert model.next(np.array(variance[:-1]), returns) == pytest.approx(np.array(variance[1:]), rel=1e-12)
    scale = np.sqrt(np.array(variance[:-1]) * (6 - 2) / 6)
    assert model.log_likelihood(returns) == pytest.approx(t.logpdf(returns, 6, scale=scale).sum(), rel=1e-12)


def test_gas_t_has_the_largest_likelihood_near_its_parameters():
    closes = garch_walk(900)
    returns = 100 * np.diff(np.log(closes))
    found = GasT().fit(of(closes)).parameters
    best = found.log_likelihood(returns)
    assert 0 < found.alpha < found.beta < 1
    for name in ("omega", "alpha", "beta", "degrees"):
        for factor in (0.97, 1.03):
            other = replace(found, **{name: min(factor * getattr(found, name), 0.9999 if name == "beta" else 99)})
            assert other.log_likelihood(returns) < best + 1e-3
    assert best > arch_garch(returns).fit(disp="off").loglikelihood - 15  # of the model that made these returns


def by_hand(history, fit, origin, step):
    """Log-HAR's standardised errors of the fit part, and its volatility at an origin, with plain loops."""
    open_, high, low, close = (np.log(history.prices[name]) for name in ("open", "high", "low", "close"))
    v = np.full(len(close), np.nan)
    for day in range(1, len(close)):
        ranged = 0.5 * (high[day] - low[day]) ** 2 - (2 * np.log(2) - 1) * (close[day] - open_[day]) ** 2
        v[day] = max((open_[day] - close[day - 1]) ** 2 + ranged, 1e-7)

    def past(day):
        return [1, *(np.log(np.nanmean(v[max(0, day - span + 1) : day + 1])) for span in (1, 5, 22, 120))]

    rows, targets, moves = [], [], []
    for day in range(30, fit - step):
        caps = [4 * np.nanmean(v[max(0, ahead - 119) : ahead + 1]) for ahead in range(day + 1, day + step + 1)]
        rows.append(past(day))
        targets.append(np.log(np.mean(np.minimum(v[day + 1 : day + step + 1], caps))))
        moves.append(close[day + step] - close[day])
    slopes = np.linalg.lstsq(np.array(rows), np.array(targets))[0]
    errors = np.array(moves) / np.exp(np.array(rows) @ slopes / 2)
    return errors, np.exp(np.array(past(origin)) @ slopes / 2)


@pytest.mark.parametrize("step", [1, 4, 10])
def test_log_har_is_the_regression_of_the_log_variance_with_the_quantiles_of_its_errors(step):
    history = of(garch_walk(400))
    errors, volatility = by_hand(history, 300, 350, step)
    found = LogHar().fit(history.until(300)).quantiles(history, np.array([350]), 10)[0, step - 1]
    moves = np.log(found / history.closes[350])
    assert moves[MEDIAN + 1 :] == pytest.approx(volatility * np.quantile(np.abs(errors), [0.5, 0.8, 0.9]), rel=1e-4)
    assert moves == pytest.approx(-moves[::-1], abs=1e-12)


def test_quantile_regression_has_its_share_of_the_fit_part_inside_each_band():
    history, origins = of(garch_walk(900)), np.arange(200, 890)
    quantiles = QuantileRegression().fit(history).quantiles(history, origins, 10)
    for step in (1, 10):
        y = history.closes[origins + step]
        for low, high in ((0.05, 0.95), (0.25, 0.75)):
            inside = (at(quantiles, low)[:, step - 1] < y) & (y < at(quantiles, high)[:, step - 1])
            assert inside.mean() == pytest.approx(high - low, abs=0.03)


@pytest.mark.parametrize("baseline", REGRESSED)
def test_a_regression_refuses_a_stock_without_ranges_and_bridges_a_day_without_them(baseline):
    closes = walk()
    with pytest.raises(InvalidCloses, match="300 sessions to fit, 0 of them with open, high and low"):
        baseline().fit(History({"close": closes}))
    history = of(closes)
    for name in ("open", "high", "low"):
        history.prices[name][[100, 250]] = np.nan
    found = baseline().fit(history.until(200)).quantiles(history, np.array([249, 250, 251]), 10)
    assert np.isfinite(found).all()
    assert np.log(found[1] / closes[250]) == pytest.approx(np.log(found[0] / closes[249]), rel=0.3)


START = {"initialization_method": "known", "initial_level": np.log(walk()[0]), "initial_trend": 0.0}


@pytest.mark.parametrize(
    ("baseline", "model", "arguments"),
    [
        (Arima, SARIMAX, {"order": (1, 1, 1)}),
        (Ets, ExponentialSmoothing, {"trend": True, "damped_trend": True, "concentrate_scale": False, **START}),
    ],
)
def test_state_space_baselines_have_the_forecasts_of_statsmodels(baseline, model, arguments, fitted):
    ours = fitted[baseline].quantiles(of(walk()), np.array([250]), 10)[0]
    applied = model(np.log(walk()[:251]), **arguments).filter(fitted[baseline].parameters).get_forecast(10)
    assert np.log(ours[:, MEDIAN]) == pytest.approx(applied.predicted_mean, rel=1e-9)
    assert np.log(at(ours, 0.95)) == pytest.approx(applied.conf_int(alpha=0.1)[:, 1], rel=1e-9)


@pytest.mark.parametrize("baseline", [Ets, Arima])
def test_a_missing_package_is_named_with_its_extra(baseline, monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] == "statsmodels"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    with pytest.raises(InvalidChoice, match=r"statsmodels.*pip install -e '\.\[classical\]'"):
        baseline().fit(of(walk()))
