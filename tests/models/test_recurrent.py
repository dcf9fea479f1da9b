import numpy as np
import pytest
import torch

from pregao.data.batch import OTHER_STOCK, Inputs
from pregao.data.volatility import NAMES, VOLATILITY_FLOOR
from pregao.models.base import WINDOW_WEIGHT, session_scale
from pregao.models.choices import TARGET, build_model
from pregao.models.quantile_model import LARGEST_FACTOR
from pregao.quantiles import LEVELS, MEDIAN

TARGETS = {"window": "pregao.models.recurrent.RecurrentModel", "none": "pregao.models.absolute.AbsoluteModel"}


def network(scaling="window", **choices):
    torch.manual_seed(0)
    shrinkage = {"shrinkage": 0.25} if scaling == "window" else {}
    defaults = {"horizon": 10, "cell": "lstm", "hidden_size": 8, "num_layers": 2, "dropout": 0.1, "inputs": "window"}
    return build_model({TARGET: TARGETS[scaling]} | defaults | shrinkage | choices).eval()


def trained(scaling="window", size=0.3, seed=0, **choices):
    """Weights that are no longer the initial ones."""
    net = network(scaling, **choices)
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(torch.randn_like(weight) * size)
    return net


def closes(batch=4, lookback=20, volatility=0.02):
    generator = torch.Generator().manual_seed(1)
    returns = volatility * torch.randn(batch, lookback, generator=generator, dtype=torch.float64)
    return 60 * torch.exp(returns.cumsum(1))


def known(batch=4, inputs="window", size=0.02):
    """Volatilities that go with closes."""
    return torch.full((batch, len(NAMES[inputs])), size)


def seen(x, measures):
    """Inputs of a stock that the model was not trained on."""
    return Inputs(x, measures, torch.full((len(x),), OTHER_STOCK))


def at(quantiles, level):
    return quantiles[..., LEVELS.index(level)]


def test_an_untrained_network_forecasts_the_last_close():
    x = closes()
    assert torch.equal(network()(seen(x, known()))[..., MEDIAN], x[:, -1:].expand(4, 10))


def test_an_untrained_fan_is_a_gaussian_random_walk():
    x, net = closes(), network()
    width = torch.log(at(net(seen(x, known())), 0.95) / x[:, -1:])
    assert torch.allclose(width[:, 3], 2 * width[:, 0], rtol=1e-6)
    assert torch.allclose(width[:, :1].float(), 1.6449 * session_scale(seen(x, known())), rtol=1e-4)


def test_the_unit_of_the_fan_is_a_blend_of_the_windows_variance_and_the_long_runs():
    alternating = torch.tensor([[50.0, 50.0 * np.exp(0.03)] * 10], dtype=torch.float64)
    blend = WINDOW_WEIGHT * 0.03**2 + (1 - WINDOW_WEIGHT) * 0.01**2
    assert session_scale(seen(alternating, known(1, size=0.01))).item() == pytest.approx(blend**0.5, rel=1e-5)


@pytest.mark.parametrize("fitted", [False, True], ids=["gaussian", "statistics of the training part"])
def test_an_untrained_network_covers_what_it_promises_on_a_random_walk(fitted):
    draws = 0.02 * np.random.default_rng(4).normal(size=(6000, 30))
    walk = torch.from_numpy(50 * np.exp(draws.cumsum(axis=1)))
    x, y, net = walk[:, :20], walk[:, 20:], network()
    if fitted:
        net.fit_statistics(seen(x[:3000], known(3000)), y[:3000])
    quantiles = net(seen(x[3000:], known(3000)))
    for lower, upper in ((0.05, 0.95), (0.1, 0.9), (0.25, 0.75)):
        inside = (at(quantiles, lower) <= y[3000:]) & (y[3000:] <= at(quantiles, upper))
        assert inside.double().mean().item() == pytest.approx(upper - lower, abs=0.015)
        assert inside.double().mean(dim=0).numpy() == pytest.approx(upper - lower, abs=0.03)


def test_fit_statistics_takes_the_shape_of_the_training_part():
    draws = 0.02 * np.random.default_rng(0).standard_t(3, size=(4000, 21))
    walk = torch.from_numpy(50 * np.exp(draws.cumsum(axis=1)))
    x, y, net = walk[:, :20], walk[:, 20:], network(horizon=1)
    net.fit_statistics(seen(x, known(4000, size=0.03)), y)
    expected = np.quantile((torch.log(y / x[:, -1:]) / session_scale(seen(x, known(4000, size=0.03)))).numpy(), LEVELS)
    assert net.gaps[0].numpy() == pytest.approx(np.diff(expected), rel=1e-4)
    assert torch.equal(net(seen(x, known(4000)))[..., MEDIAN], x[:, -1:])


def test_fit_statistics_centres_the_measures_and_gives_them_one_size():
    net, x = network(inputs="history"), closes(500)
    torch.manual_seed(3)
    measures = 0.02 * torch.exp(torch.randn(500, 6))
    measures[::3, 4] = torch.nan
    net.fit_statistics(seen(x, measures), closes(500)[:, :10])
    scaled = (net.log_measures(seen(x, measures)) - net.measure_mean) / net.measure_deviation
    assert scaled.nanmean(dim=0).numpy() == pytest.approx(np.zeros(7), abs=1e-4)
    assert scaled.square().nanmean(dim=0).numpy() == pytest.approx(np.ones(7), rel=1e-4)


@pytest.mark.parametrize("scaling", ["window", "none"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_quantiles_never_cross_and_are_positive(scaling, cell, num_layers):
    quantiles = trained(scaling, cell=cell, num_layers=num_layers)(seen(closes(), known()))
    assert quantiles.shape == (4, 10, 7)
    assert (quantiles.diff(dim=-1) > 0).all()
    assert (quantiles > 0).all()


def wild_inputs():
    """Windows from standstill to prices that double in a day, volatilities from 0.1 % to 100 %, some unknown."""
    generator = torch.Generator().manual_seed(2)
    x = torch.cat([closes(20, volatility=size) for size in (0, 1e-6, 0.02, 0.3, 1.0)])
    measures = 10 ** (3 * torch.rand(100, 9, generator=generator) - 3)
    measures[::3, 1:] = torch.nan
    return x, measures


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [0.1, 1])
def test_quantiles_never_cross_whatever_the_weights_and_the_inputs(seed, size):
    quantiles = trained(size=size, seed=seed, inputs="ohlc")(seen(*wild_inputs()))
    assert torch.isfinite(quantiles).all()
    assert (quantiles > 0).all()
    assert (quantiles.diff(dim=-1) > 0).all()


@pytest.mark.parametrize("size", [10, 100, 1000])
def test_weights_that_are_no_networks_give_quantiles_that_do_not_fall(size):
    x, measures = wild_inputs()
    learned = trained(size=size, inputs="ohlc").predict_normalized(seen(x, measures))
    assert torch.isfinite(learned).all()
    assert (learned.diff(dim=-1) >= 0).all()


def test_no_weight_blows_a_gap_up():
    x = closes()
    gaps = [torch.log(net(seen(x, known()))).diff(dim=-1) for net in (network(), trained(size=3))]
    assert (gaps[1] < 1.01 * np.exp(LARGEST_FACTOR) * gaps[0]).all()
    assert (gaps[1] > 0.99 * np.exp(-LARGEST_FACTOR) * gaps[0]).all()


@pytest.mark.parametrize("unit", [1000, 1e-5])
def test_the_unit_of_the_closes_is_the_unit_of_the_forecast(unit):
    net, x = trained(), closes()
    assert torch.allclose(net(seen(unit * x, known())), unit * net(seen(x, known())), rtol=1e-9, atol=0)


@pytest.mark.parametrize("factor", [0.93714, 1.0000123, 7.77])
def test_the_day_that_prices_are_anchored_at_leaves_no_trace(factor):
    net, x = trained(), closes()
    assert torch.equal(net.predict_normalized(seen(factor * x, known())), net.predict_normalized(seen(x, known())))
    assert torch.allclose(net(seen(factor * x, known())) / factor, net(seen(x, known())), rtol=1e-15, atol=0)


def test_a_forecast_moves_once_there_are_learned_weights():
    net, x = trained(), closes()
    assert (net(seen(x, known()))[..., MEDIAN] / x[:, -1:] - 1).abs().max() > 1e-4


@pytest.mark.parametrize("shrinkage", [0.25, 0.6, 1.0])
def test_shrinkage_is_the_part_of_the_learned_median_that_is_forecast(shrinkage):
    x, net = closes(), trained(shrinkage=shrinkage)
    whole = net.predict_normalized(seen(x, known()))[..., MEDIAN] * session_scale(seen(x, known())) * net.root_step
    forecast = torch.log(net(seen(x, known()))[..., MEDIAN] / x[:, -1:])
    assert whole.abs().min() > 1e-5
    assert torch.allclose(forecast, shrinkage * whole.double(), rtol=1e-5)


def test_shrinkage_leaves_the_bands_width_as_it_was():
    x = closes()
    one, two = (torch.log(trained(shrinkage=part)(seen(x, known()))).diff(dim=-1) for part in (0.25, 1.0))
    assert torch.allclose(one, two, rtol=1e-3)


def test_width_multiplies_the_distance_from_the_median():
    x, net = closes(), trained()
    before = torch.log(net(seen(x, known())))
    net.width.fill_(1.5)
    after = torch.log(net(seen(x, known())))
    assert torch.equal(after[..., MEDIAN], before[..., MEDIAN])
    assert torch.allclose(after.diff(dim=-1), 1.5 * before.diff(dim=-1), rtol=1e-3)


@pytest.mark.parametrize("inputs", NAMES)
def test_what_is_unknown_counts_as_usual(inputs):
    net, x = trained(inputs=inputs), closes()
    measures = known(inputs=inputs)
    measures[:, 1:] = torch.nan
    quantiles = net(seen(x, measures))
    assert torch.isfinite(quantiles).all()
    assert (quantiles.diff(dim=-1) > 0).all()
    usual = ((net.measure_mean[1:].exp() - 0.05) * measures[:, :1])[:, 1:]
    measures[:, 1:] = usual
    assert torch.allclose(net(seen(x, measures)), quantiles, rtol=1e-5)


@pytest.mark.parametrize("inputs", ["history", "ohlc"])
@pytest.mark.parametrize("place", [1, -1])
def test_every_measure_is_seen(inputs, place):
    net, x, measures = trained(inputs=inputs), closes(), known(inputs=inputs)
    louder = measures.clone()
    louder[:, place] *= 3
    assert not torch.equal(net(seen(x, louder)), net(seen(x, measures)))


@pytest.mark.parametrize("scaling", ["window", "none"])
def test_a_halted_stock_has_a_finite_narrow_fan(scaling):
    halted = torch.full((1, 20), 7.0, dtype=torch.float64)
    quantiles = trained(scaling)(seen(halted, known(1, size=VOLATILITY_FLOOR)))
    assert torch.isfinite(quantiles).all()
    assert (quantiles > 0).all()
    assert (quantiles.diff(dim=-1) > 0).all()
    assert (quantiles[..., -1] / quantiles[..., 0]).max() < 1.2


def test_prices_that_never_move_give_finite_statistics():
    net, still = network(inputs="ohlc"), torch.full((50, 30), 7.0, dtype=torch.float64)
    measures = torch.zeros(50, 9)
    measures[:, 0] = VOLATILITY_FLOOR
    net.fit_statistics(seen(still[:, :20], measures), still[:, 20:])
    quantiles = net(seen(still[:, :20], measures))
    assert torch.isfinite(quantiles).all()
    assert (quantiles.diff(dim=-1) > 0).all()


def test_a_jump_of_a_quarter_widens_the_fan_and_stays_finite():
    calm = closes(1)
    jumped = calm.clone()
    jumped[:, 12:] *= 0.75
    for net in (network(), trained()):
        before, after = (net(seen(x, known(1))) for x in (calm, jumped))
        assert torch.isfinite(after).all()
        assert (after.diff(dim=-1) > 0).all()
    before, after = (network()(seen(x, known(1))) for x in (calm, jumped))
    assert (after[..., -1] / after[..., 0] > before[..., -1] / before[..., 0]).all()


def test_the_absolute_network_starts_far_from_the_prices_that_it_must_learn():
    assert (network("none")(seen(closes(), known()))[..., MEDIAN] < 1).all()


def test_targets_are_normalized_by_the_scale():
    net, x, y = network(), closes(), 60 * torch.ones(4, 10, dtype=torch.float64)
    inputs = seen(x, known())
    moved = x[:, -1:] * torch.exp(net.normalize(inputs, y).double() * net.scale(inputs))
    assert torch.allclose(moved, y, rtol=1e-6)


def test_the_absolute_model_learns_prices_by_their_squared_error():
    net, inputs = network("none"), seen(closes(), known())
    targets = net.predict_prices(inputs).detach().double() + 2
    assert net.loss(inputs, targets).item() == pytest.approx(4, rel=1e-5)
