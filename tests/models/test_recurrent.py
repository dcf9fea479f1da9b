import numpy as np
import pytest
import torch

from pregao.data.batch import Batch, Inputs
from pregao.data.stock_index import OTHER_STOCK
from pregao.data.volatility import NAMES
from pregao.models.absolute import LOWEST_PRICE
from pregao.models.base import session_scale
from pregao.models.calibration import band_scores, conformal_width
from pregao.models.choices import TARGET, build_model
from pregao.models.encoders import RecurrentEncoder
from pregao.quantiles import LEVELS, MEDIAN

TARGETS = {"window": "pregao.models.recurrent.RecurrentModel", "none": "pregao.models.absolute.AbsoluteModel"}


def network(scaling="window", **choices):
    torch.manual_seed(0)
    shrinkage = {"shrinkage": 0.25} if scaling == "window" else {}
    defaults = {"horizon": 10, "cell": "lstm", "hidden_size": 8, "num_layers": 2, "dropout": 0.1, "inputs": "window"}
    return build_model({TARGET: TARGETS[scaling]} | defaults | shrinkage | choices).eval()


def trained(scaling="window", size=0.3, seed=0, **choices):
    """A network with random changes of its initial weights."""
    net = network(scaling, **choices)
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(torch.randn_like(weight) * size)
    return net


def batch_of(inputs, targets):
    return Batch(inputs, targets, torch.full(targets.shape, torch.nan))


def closes(batch=4, lookback=20, volatility=0.02):
    generator = torch.Generator().manual_seed(1)
    returns = volatility * torch.randn(batch, lookback, generator=generator, dtype=torch.float64)
    return 60 * torch.exp(returns.cumsum(1))


def walks(n, horizon=10):
    """Windows of random walks with heavy tails, and the closes that follow."""
    draws = 0.02 * np.random.default_rng(4).standard_t(3, size=(n, 20 + horizon))
    walk = torch.from_numpy(50 * np.exp(draws.cumsum(axis=1)))
    return walk[:, :20], walk[:, 20:]


def inputs_of(x, inputs="window", size=0.02):
    """Windows of a stock that the model was not trained on; every measure has the same size."""
    return with_measures(x, torch.full((len(x), len(NAMES[inputs])), size))


def with_measures(x, measures):
    return Inputs(x, measures, torch.full((len(x),), OTHER_STOCK))


def gaps(quantiles):
    return torch.log(quantiles).diff(dim=-1)


def test_an_untrained_network_forecasts_a_gaussian_random_walk():
    x = closes()
    quantiles = network()(inputs_of(x))
    assert torch.equal(quantiles[..., MEDIAN], x[:, -1:].expand(4, 10))
    width = torch.log(quantiles[..., -1] / x[:, -1:])
    assert torch.allclose(width[:, 3], 2 * width[:, 0], rtol=1e-6)
    assert torch.allclose(width[:, :1].float(), 1.6449 * session_scale(inputs_of(x)), rtol=1e-4)


def test_the_scale_blends_the_windows_variance_with_the_long_run_variance():
    alternating = torch.tensor([[50.0, 50.0 * np.exp(0.03)] * 10], dtype=torch.float64)
    measures = torch.tensor([[0.01, 0.5, 0.5, 0.5, 0.5, 0.5]])
    expected = (0.3 * 0.03**2 + 0.7 * 0.01**2) ** 0.5
    assert session_scale(with_measures(alternating, measures)).item() == pytest.approx(expected, rel=1e-5)


def test_fit_statistics_estimates_the_quantiles_of_the_training_part():
    x, y = walks(4000, horizon=1)
    net, inputs = network(horizon=1), inputs_of(x, size=0.03)
    net.fit_statistics(batch_of(inputs, y))
    expected = np.quantile((torch.log(y / x[:, -1:]) / session_scale(inputs)).numpy(), LEVELS)
    assert net.gaps[0].numpy() == pytest.approx(np.diff(expected), rel=1e-4)
    assert torch.equal(net(inputs)[..., MEDIAN], x[:, -1:])


def test_fit_statistics_standardises_the_known_measures():
    net, x = network(inputs="history"), closes(500)
    torch.manual_seed(3)
    measures = 0.02 * torch.exp(torch.randn(500, 6))
    measures[::3, 4] = torch.nan
    net.fit_statistics(batch_of(with_measures(x, measures), closes(500)[:, :10]))
    scaled = (net.log_measures(with_measures(x, measures)) - net.measure_mean) / net.measure_deviation
    assert scaled.nanmean(dim=0).numpy() == pytest.approx(np.zeros(7), abs=1e-4)
    assert scaled.square().nanmean(dim=0).numpy() == pytest.approx(np.ones(7), rel=1e-4)


def test_statistics_are_fitted_once():
    net, (x, y) = network(), walks(100)
    net.initialise(batch_of(inputs_of(x), y))
    first = net.gaps.clone()
    net.initialise(batch_of(inputs_of(x), x[:, -1:] * (y / x[:, -1:]) ** 2))
    assert torch.equal(net.gaps, first)


@pytest.mark.parametrize("size", [0.1, 1, 1000])
def test_quantiles_never_cross_for_extreme_weights_and_inputs(size):
    """Windows from constant prices to prices that double in a day; volatilities from 0.1 % to 100 %, some unknown."""
    x = torch.cat([closes(20, volatility=volatility) for volatility in (0, 1e-6, 0.02, 0.3, 1.0)])
    measures = 10 ** (3 * torch.rand(100, 9, generator=torch.Generator().manual_seed(2)) - 3)
    measures[::3, 1:] = torch.nan
    for seed in range(3):
        z = trained(size=size, seed=seed, inputs="ohlc").predict_normalized(with_measures(x, measures))
        assert torch.isfinite(z).all()
        assert (z.diff(dim=-1) >= 0).all()


@pytest.mark.parametrize("shrinkage", [0.25, 1.0])
@pytest.mark.parametrize("width", [1.0, 1.5])
def test_shrinkage_multiplies_the_median_and_width_the_distances_from_it(shrinkage, width):
    net, inputs = trained(shrinkage=shrinkage), inputs_of(closes())
    net.width.fill_(width)
    z = net.predict_normalized(inputs)
    median = z[..., MEDIAN : MEDIAN + 1]
    assert median.abs().min() > 1e-3
    expected = (shrinkage * median + width * (z - median)) * (session_scale(inputs) * net.root_step)[..., None]
    found = torch.log(net(inputs) / inputs.closes[:, -1:, None])
    assert torch.allclose(found, expected.double(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("place", range(1, 9))
def test_every_measure_changes_the_forecast(place):
    net, inputs = trained(inputs="ohlc"), inputs_of(closes(), "ohlc")
    louder = inputs.measures.clone()
    louder[:, place] *= 3
    assert not torch.equal(net(with_measures(inputs.closes, louder)), net(inputs))


def test_the_place_and_the_sign_of_the_last_return_change_the_forecast():
    returns = torch.full((3, 19), 0.005, dtype=torch.float64)
    returns[0, -1], returns[1, -1], returns[2, 0] = 0.04, -0.04, 0.04  # the volatility is the same
    window = 50 * torch.cat([torch.zeros(3, 1, dtype=torch.float64), returns.cumsum(1)], dim=1).exp()
    z = trained().predict_normalized(inputs_of(window))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (z[one] - z[other]).abs().max() > 1e-3


@pytest.mark.parametrize(("layers", "varies"), [(1, False), (2, True)])
def test_dropout_is_applied_between_layers_and_after_the_last_one(layers, varies):
    encoder, features = RecurrentEncoder(2, "gru", 64, layers, 0.5).train(), torch.randn(4, 19, 2)
    first, second = (encoder.cell(features)[0] for _ in range(2))
    assert torch.equal(first, second) != varies
    assert (encoder(features) == 0).float().mean().item() == pytest.approx(0.5, abs=0.15)


def test_the_quantile_model_is_trained_on_pinball_loss_in_units_of_the_scale():
    net, (x, y) = trained(), walks(50)
    inputs = inputs_of(x)
    target = torch.log(y / x[:, -1:]) / (session_scale(inputs) * net.root_step)
    error = target[..., None] - net.predict_normalized(inputs)
    levels = torch.tensor(LEVELS)
    expected = torch.where(error > 0, levels * error, (levels - 1) * error).mean()
    assert net.loss(batch_of(inputs, y)).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_absolute_model_learns_prices_calibrates_its_width_and_forecasts_at_least_one_tick():
    net, (x, y) = network("none"), walks(30)
    inputs = inputs_of(x)
    off_by_two = batch_of(inputs, net.predict_prices(inputs).detach().double() + 2)
    assert net.loss(off_by_two).item() == pytest.approx(4, rel=1e-5)
    net.head.bias.data.fill_(50)
    expected = conformal_width(band_scores(y.numpy(), net(inputs).numpy(force=True)))
    net.calibrate(batch_of(inputs, y))
    assert net.width.item() == pytest.approx(expected, rel=1e-6)
    net.head.bias.data.fill_(-100)
    assert net(inputs)[..., MEDIAN].numpy(force=True) == pytest.approx(LOWEST_PRICE)
