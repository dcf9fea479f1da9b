import sys
import time

import numpy as np
import pandas as pd
import pytest
from arch import arch_model
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from statsmodels.tsa.statespace.api import SARIMAX

from pregao.data.windows import REFERENCE_BORDER, REFERENCE_END
from pregao.errors import InvalidChoice, InvalidCloses
from pregao.evaluation.baselines import (
    BASELINES,
    LEAST_SCALE,
    Arima,
    Drift,
    Ets,
    Ewma,
    FittedBaseline,
    GjrGarch,
    GjrParameters,
    LastClose,
    MeanReturn,
    RollingVolatility,
)
from pregao.evaluation.metrics import Forecasts, coverage, pinball
from pregao.quantiles import LEVELS, MEDIAN, at

SIMPLE = [LastClose, Drift, MeanReturn, RollingVolatility, Ewma]
ESTIMATED = [GjrGarch, Ets, Arima]
EVERY = pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)


def walk(n=300, seed=0, size=0.02):
    return 50 * np.exp(size * np.random.default_rng(seed).standard_t(5, n).cumsum())


def gjr(n, seed=0, fitted=GjrParameters(0.1, 0.03, 0.1, 0.88, 6.0, 4.0)):  # noqa: B008 - frozen
    """Closes of a known GJR-GARCH."""
    parameters = [fitted.omega, fitted.alpha, fitted.gamma, fitted.beta, fitted.degrees]
    model = arch_model(None, mean="Zero", vol="GARCH", p=1, o=1, q=1, dist="t", rescale=False)
    model.distribution._generator = np.random.default_rng(seed)
    return 50 * np.exp(model.simulate(parameters, n)["data"].to_numpy().cumsum() / 100)


def ahead(closes, origins, horizon=10):
    return closes[origins[:, None] + np.arange(1, horizon + 1)]


@pytest.fixture
def reference(real_prices):
    """By stock: adjusted closes, how many of them come before the border, the origins of the judged windows."""

    def read(stock):
        table = pd.read_csv(real_prices / f"{stock}.csv", parse_dates=["date"])
        table = table[table["date"].between("2020-01-01", REFERENCE_END)]
        known = int((table["date"] < REFERENCE_BORDER).sum())
        return table["adj_close"].to_numpy(), known, np.arange(known - 1, len(table) - 10)

    return read


# --- every baseline ---


@EVERY
def test_a_forecast_knows_nothing_of_what_comes_after_its_origin(baseline):
    closes, origins = walk(), np.array([0, 1, 25, 199, 250])
    fitted = baseline().fit(closes[:200])
    asked = fitted.quantiles(closes, origins, 10)
    for row, origin in zip(asked, origins, strict=True):
        poisoned = np.concatenate([closes[: origin + 1], 7 * walk(len(closes) - origin - 1, seed=9)])
        [again] = fitted.quantiles(poisoned, np.array([origin]), 10)
        [with_later_ones_asked, *_] = fitted.quantiles(poisoned, np.array([origin, 280]), 10)
        [cut] = fitted.quantiles(closes[: origin + 1], np.array([origin]), 10)
        assert np.array_equal(row, again)
        assert np.array_equal(row, with_later_ones_asked)
        assert np.array_equal(row, cut)


@EVERY
def test_a_forecast_does_not_change_what_was_fitted_nor_the_closes(baseline):
    closes, origins = walk(), np.arange(200, 290)
    before = closes.copy()
    fitted = baseline().fit(closes[:200])
    first = fitted.quantiles(closes, origins, 10)
    assert np.array_equal(first, fitted.quantiles(closes, origins, 10))
    assert np.array_equal(first, baseline().fit(closes[:200]).quantiles(closes, origins, 10))
    assert np.array_equal(closes, before)


@EVERY
def test_quantiles_never_cross_and_scale_with_the_price(baseline):
    closes, origins = walk(), np.arange(200, 290)
    quantiles = baseline().fit(closes[:200]).quantiles(closes, origins, 10)
    assert quantiles.shape == (90, 10, len(LEVELS))
    assert (np.diff(quantiles, axis=-1) > 0).all()
    # Powers of two scale floats exactly, but not their logarithms, and an optimiser notices.
    scaled = baseline().fit(8 * closes[:200]).quantiles(8 * closes, origins, 10)
    assert scaled == pytest.approx(8 * quantiles, rel=1e-2)


@EVERY
def test_bands_widen_with_the_steps(baseline):
    closes = walk()
    width = np.ptp(np.log(baseline().fit(closes).quantiles(closes, np.array([299]), 10)[0]), axis=-1)
    assert width[9] > 2 * width[0]


@EVERY
def test_no_origins_are_no_forecasts(baseline):
    closes = walk()
    assert baseline().fit(closes).quantiles(closes, np.array([], dtype=int), 3).shape == (0, 3, len(LEVELS))


@EVERY
def test_a_history_of_its_own_beginning_can_be_asked_from_its_first_close(baseline):
    fitted = baseline().fit(walk())
    quantiles = fitted.quantiles(100 * walk(30, seed=4), np.arange(30), 10)
    assert np.isfinite(quantiles).all()
    assert (quantiles > 0).all()


@EVERY
def test_a_stock_that_stands_still_after_the_fit_has_finite_bands(baseline):
    closes = np.concatenate([walk(), np.full(100, 50.0)])
    quantiles = baseline().fit(closes[:300]).quantiles(closes, np.array([399]), 10)
    assert np.isfinite(quantiles).all()
    assert (np.diff(quantiles, axis=-1) > 0).all()


@pytest.mark.parametrize("baseline", SIMPLE)
def test_a_stock_that_never_moved_is_forecast_to_stay(baseline):
    still = np.full(100, 50.0)
    assert (baseline().fit(still).quantiles(still, np.arange(99), 10) == 50).all()


@pytest.mark.parametrize("baseline", ESTIMATED)
def test_a_stock_that_never_moved_has_no_variance_to_estimate(baseline):
    with pytest.raises(InvalidCloses, match="never moves has no variance"):
        baseline().fit(np.full(100, 50.0))


@EVERY
@pytest.mark.parametrize("seed", [2, 18, 20])  # where the optimiser of GJR-GARCH leaves its constraints
def test_a_stock_that_hardly_ever_moves_has_finite_bands_in_order(baseline, seed):
    rng = np.random.default_rng(seed)
    returns = (rng.random(363) < 0.03) * rng.normal(scale=0.02, size=363)
    closes = 50 * np.exp(returns.cumsum())
    quantiles = baseline().fit(closes).quantiles(closes, np.arange(363), 10)
    assert np.isfinite(quantiles).all()
    assert (np.diff(quantiles, axis=-1) >= 0).all()


@EVERY
def test_a_history_too_short_to_fit_is_refused_with_a_sentence(baseline):
    with pytest.raises(InvalidCloses, match="needs at least"):
        baseline().fit(walk(59 if baseline in ESTIMATED else 1))


@pytest.mark.parametrize("baseline", SIMPLE)
def test_a_fit_part_shorter_than_the_horizon_is_refused_with_a_sentence(baseline):
    closes = walk()
    assert np.isfinite(baseline().fit(closes[:11]).quantiles(closes, np.array([299]), 10)).all()
    with pytest.raises(InvalidCloses, match="at least 11"):
        baseline().fit(closes[:10]).quantiles(closes, np.array([299]), 10)


@EVERY
@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan, np.inf])
def test_closes_that_are_no_prices_are_refused_with_a_sentence(baseline, wrong):
    closes = walk()
    fitted = baseline().fit(closes)
    closes[100] = wrong
    with pytest.raises(InvalidCloses, match="close 100 of 300"):
        baseline().fit(closes)
    with pytest.raises(InvalidCloses, match="close 100"):
        fitted.quantiles(closes, np.array([150]), 10)
    assert np.isfinite(fitted.quantiles(closes, np.array([99]), 10)).all(), "what comes later is not looked at"


@EVERY
def test_origins_outside_the_history_and_no_steps_are_refused_with_a_sentence(baseline):
    closes = walk()
    fitted = baseline().fit(closes)
    for origin in (-1, 300):
        with pytest.raises(InvalidCloses, match="allowed are 0 to 299"):
            fitted.quantiles(closes, np.array([origin]), 10)
    with pytest.raises(InvalidCloses, match="0 sessions ahead"):
        fitted.quantiles(closes, np.array([5]), 0)


def test_the_registry_knows_every_baseline_by_the_name_that_tables_show():
    assert {name: make().name for name, make in BASELINES.items()} == {name: name for name in BASELINES}
    assert {"last close", "EWMA", "GJR-GARCH"} <= set(BASELINES)


@EVERY
def test_other_levels_are_forecast_as_they_are_among_the_seven(baseline):
    closes, origins = walk(), np.array([200, 250])
    fitted = baseline().fit(closes[:200])
    few, all_seven = (fitted.quantiles(closes, origins, 10, levels) for levels in ((0.1, 0.5, 0.9), LEVELS))
    assert np.array_equal(few, all_seven[..., [LEVELS.index(level) for level in (0.1, 0.5, 0.9)]])
    assert (np.diff(fitted.quantiles(closes, origins, 10, (0.01, 0.05)), axis=-1) > 0).all()


def test_a_new_baseline_is_one_class(monkeypatch):
    monkeypatch.setattr("pregao.evaluation.baselines.BASELINES", BASELINES | {})

    class Halved(LastClose):
        name = "halved"

        def scale(self, logs, returns):
            return np.full_like(logs, 0.5)

    from pregao.evaluation.baselines import BASELINES as found

    assert found["halved"] is Halved
    assert list(found) == [*BASELINES, "halved"]


@settings(max_examples=60, deadline=None)
@given(
    returns=st.lists(st.floats(-0.5, 0.5), min_size=12, max_size=80),
    first=st.floats(0.01, 1e5),
    kind=st.sampled_from(SIMPLE),
)
def test_whatever_the_prices_quantiles_are_finite_positive_and_in_order(returns, first, kind):
    closes = first * np.exp(np.cumsum([0.0, *returns]))
    quantiles = kind().fit(closes).quantiles(closes, np.arange(len(closes)), 10)
    assert np.isfinite(quantiles).all()
    assert (quantiles > 0).all()
    assert (np.diff(quantiles, axis=-1) >= 0).all()


# --- each ---


@pytest.mark.parametrize("baseline", [LastClose, RollingVolatility, Ewma])
def test_the_point_forecast_is_last_close_exactly(baseline):
    closes, origins = walk(), np.arange(200, 290)
    point = baseline().fit(closes[:200]).quantiles(closes, origins, 10)[..., MEDIAN]
    assert np.array_equal(point, np.repeat(closes[origins, None], 10, axis=1))


def test_last_closes_band_holds_what_it_held_in_the_fit_part():
    closes = walk(500)
    origins = np.arange(490)
    quantiles = LastClose().fit(closes).quantiles(closes, origins, 10)
    for step in (0, 9):
        rows = quantiles[:, step : step + 1]
        assert coverage(ahead(closes, origins)[:, step : step + 1], at(rows, 0.05), at(rows, 0.95)) == pytest.approx(
            90, abs=0.5
        )


def test_drift_goes_on_as_the_last_twenty_closes_did():
    closes, origins = walk(), np.array([2, 19, 250])
    point = Drift().fit(closes).quantiles(closes, origins, 5)[..., MEDIAN]
    for row, origin in zip(point, origins, strict=True):
        inputs = closes[None, max(0, origin - 19) : origin + 1]
        daily = np.log(inputs[0, -1] / inputs[0, 0]) / (inputs.shape[1] - 1)
        assert row == pytest.approx(closes[origin] * np.exp(daily * np.arange(1, 6)))


def test_mean_return_grows_by_the_fit_parts_mean():
    closes = walk()
    daily = np.log(closes[199] / closes[0]) / 199
    point = MeanReturn().fit(closes[:200]).quantiles(closes, np.array([250]), 5)[..., MEDIAN]
    assert point[0] == pytest.approx(closes[250] * np.exp(daily * np.arange(1, 6)))


def test_rolling_volatility_is_the_root_mean_square_of_twenty_returns():
    logs = np.log(walk())
    returns = np.diff(logs)
    scale = RollingVolatility().scale(logs, returns[:200])
    assert scale[250] == pytest.approx(np.sqrt(np.mean(returns[230:250] ** 2)))
    assert scale[0] == pytest.approx(np.sqrt(np.mean(returns[:200] ** 2)))
    assert RollingVolatility().scale(np.zeros(30), returns)[29] == LEAST_SCALE


def test_ewma_is_riskmetrics_recursion():
    logs = np.log(walk())
    returns = np.diff(logs)
    variance = np.mean(returns[:200] ** 2)
    for value in returns:
        variance = 0.94 * variance + 0.06 * value**2
    assert Ewma().scale(logs, returns[:200])[-1] == pytest.approx(np.sqrt(variance))


# --- GJR-GARCH ---


def test_gjr_variance_is_that_of_arch():
    closes = gjr(900)
    returns = 100 * np.diff(np.log(closes))
    fitted = GjrGarch().fit(closes).parameters
    model = arch_model(returns, mean="Zero", vol="GARCH", p=1, o=1, q=1, dist="t", rescale=False)
    result = model.fit(disp="off")
    assert fitted.variance(returns)[:-1] == pytest.approx(result.conditional_volatility**2, rel=1e-9)
    assert fitted.variance(returns)[-1] == pytest.approx(result.forecast(horizon=1).variance.iloc[-1, 0], rel=1e-9)


def test_gjr_simulates_the_distribution_that_arch_simulates(monkeypatch):
    monkeypatch.setattr("pregao.evaluation.baselines.PATHS", 20_000)
    closes = gjr(900)
    fitted = GjrGarch().fit(closes).parameters
    returns = 100 * np.diff(np.log(closes))
    model = arch_model(returns, mean="Zero", vol="GARCH", p=1, o=1, q=1, dist="t", rescale=False)
    model.distribution._generator = np.random.default_rng(3)
    parameters = [fitted.omega, fitted.alpha, fitted.gamma, fitted.beta, fitted.degrees]
    theirs = model.fix(parameters).forecast(horizon=10, method="simulation", simulations=20_000)
    theirs = theirs.simulations.values[-1].cumsum(axis=1) / 100
    ours = fitted.paths(fitted.variance(returns)[-1], 899, 10)
    for step in (0, 4, 9):
        assert ks_2samp(ours[step], theirs[:, step]).pvalue > 0.01


def test_gjr_draws_separately_for_each_origin():
    constant = FittedBaseline(GjrGarch(), GjrParameters(1.0, 0.0, 0.0, 0.0, 5.0, 1.0))
    one, other = constant.quantiles(np.full(30, 50.0), np.array([8, 9]), 10)
    assert not np.isclose(one, other, rtol=1e-9).any()
    assert one == pytest.approx(other, rel=0.02)


def test_gjr_bands_hold_what_they_promise_on_simulated_closes():
    closes = gjr(4000, seed=2)
    origins = np.arange(1500, 3990, 3)
    quantiles = GjrGarch().fit(closes[:1500]).quantiles(closes, origins, 10)
    y = ahead(closes, origins)
    assert coverage(y, at(quantiles, 0.05), at(quantiles, 0.95)) == pytest.approx(90, abs=3)
    assert coverage(y, at(quantiles, 0.1), at(quantiles, 0.9)) == pytest.approx(80, abs=4)


def test_gjr_says_that_its_likelihood_did_not_converge(monkeypatch, caplog):
    monkeypatch.setattr("arch.univariate.base.ARCHModelResult.convergence_flag", 9)
    GjrGarch().fit(walk())
    assert "did not converge" in caplog.text


# --- ETS and ARIMA ---


def test_arima_forecasts_as_statsmodels_does_from_the_same_parameters():
    closes = walk()
    fitted = Arima().fit(closes[:200])
    ours = fitted.quantiles(closes, np.array([250]), 10)[0]
    applied = SARIMAX(np.log(closes[:251]), order=(1, 1, 1)).filter(fitted.parameters).get_forecast(10)
    assert np.log(ours[:, MEDIAN]) == pytest.approx(applied.predicted_mean, rel=1e-9)
    assert np.log(at(ours, 0.95)) == pytest.approx(applied.conf_int(alpha=0.1)[:, 1], rel=1e-9)


def test_ets_forecasts_by_the_books_recursion():
    closes = walk()
    fitted = Ets().fit(closes[:200])
    alpha, beta, phi, variance = fitted.parameters
    logs = np.log(closes[:251])
    level, trend = logs[0], 0.0
    for close in logs:
        error = close - (level + phi * trend)
        level, trend = level + phi * trend + alpha * error, phi * trend + beta * error
    ours = fitted.quantiles(closes, np.array([250]), 3)[0]
    weights = [alpha + beta * sum(phi**i for i in range(1, j + 1)) for j in (1, 2)]
    sizes = np.sqrt(variance * np.cumsum([1.0, *np.square(weights)]))
    points = level + trend * np.cumsum([phi, phi**2, phi**3])
    assert np.log(ours[:, MEDIAN]) == pytest.approx(points, rel=1e-9)
    assert np.log(at(ours, 0.95)) == pytest.approx(points + 1.6448536 * sizes, rel=1e-8)


@pytest.mark.parametrize("baseline", [Ets, Arima])
def test_a_missing_package_is_a_sentence(baseline, monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] == "statsmodels"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    with pytest.raises(InvalidChoice, match=r"needs the package statsmodels.*pip install -e '\.\[classical\]'"):
        baseline().fit(walk())


# --- real prices ---


@EVERY
def test_real_bands_hold_roughly_what_they_promise(baseline, reference):
    closes, known, origins = reference("VALE3")
    assert len(origins) == 407
    quantiles = baseline().fit(closes[:known]).quantiles(closes, origins, 10)
    assert 85 < coverage(ahead(closes, origins), at(quantiles, 0.05), at(quantiles, 0.95)) < 100


def test_ewma_is_the_one_to_beat_on_real_prices(reference):
    def score(baseline, stock):
        closes, known, origins = reference(stock)
        quantiles = baseline().fit(closes[:known]).quantiles(closes, origins, 10)
        return pinball(Forecasts(ahead(closes, origins), quantiles))

    stocks = ("VALE3", "PETR4", "ITUB4", "ABEV3")
    skill = [100 * (1 - score(Ewma, stock) / score(LastClose, stock)) for stock in stocks]
    assert np.mean(skill) > 0


def test_gjr_is_fitted_and_simulated_in_little_more_than_a_second(reference):
    closes, known, origins = reference("VALE3")
    GjrGarch().fit(closes[:known])  # imports arch
    begin = time.process_time()
    GjrGarch().fit(closes[:known]).quantiles(closes, origins, 10)
    assert time.process_time() - begin < 1.5
