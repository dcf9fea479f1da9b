import pytest
import torch

from pregao.network import VOLATILITY_FLOOR, build_network, long_run_volatility
from pregao.quantiles import LEVELS, MEDIAN


def network(scaling="window", **choices):
    torch.manual_seed(0)
    shrinkage = {"shrinkage": 0.25} if scaling == "window" else {}
    defaults = {"horizon": 10, "cell": "lstm", "hidden_size": 8, "num_layers": 2, "dropout": 0.1}
    return build_network(scaling, **defaults | shrinkage | choices).eval()


def trained(scaling="window", **choices):
    """Weights that are no longer the initial ones."""
    net = network(scaling, **choices)
    with torch.no_grad():
        for weight in net.recurrence.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return net


def closes(batch=4, lookback=20):
    generator = torch.Generator().manual_seed(1)
    return 60 * torch.exp(0.02 * torch.randn(batch, lookback, generator=generator, dtype=torch.float64).cumsum(1))


def test_an_untrained_network_forecasts_the_last_close():
    x = closes()
    assert torch.equal(network()(x)[..., MEDIAN], x[:, -1:].expand(4, 10))


def test_an_untrained_fan_is_a_gaussian_random_walk():
    x = closes()
    width = torch.log(network()(x)[..., LEVELS.index(0.95)] / x[:, -1:])
    assert torch.allclose(width[:, 3], 2 * width[:, 0], rtol=1e-6)
    assert torch.allclose(width[:, 0].float(), 1.6449 * network().fan.scale(x)[:, 0], rtol=1e-4)


@pytest.mark.parametrize("scaling", ["window", "none"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_quantiles_never_cross_and_are_positive(scaling, cell, num_layers):
    quantiles = trained(scaling, cell=cell, num_layers=num_layers)(closes())
    assert quantiles.shape == (4, 10, 7)
    assert (quantiles.diff(dim=-1) > 0).all()
    assert (quantiles > 0).all()


@pytest.mark.parametrize("unit", [1000, 1e-5])
def test_the_unit_of_the_closes_is_the_unit_of_the_forecast(unit):
    net, x = trained(), closes()
    assert torch.allclose(net(unit * x), unit * net(x), rtol=1e-9, atol=0)


def test_a_forecast_moves_once_there_are_learned_weights():
    net, x = trained(), closes()
    assert (net(x)[..., MEDIAN] / x[:, -1:] - 1).abs().max() > 1e-4


def test_shrinkage_is_the_part_of_the_learned_move_that_is_forecast():
    x = closes()
    moves = [torch.log(trained(shrinkage=s)(x)[..., MEDIAN] / x[:, -1:]) for s in (0.25, 1.0)]
    assert torch.allclose(4 * moves[0], moves[1], rtol=1e-6)


def test_a_halted_stock_has_a_finite_narrow_fan():
    quantiles = trained()(torch.full((1, 20), 7.0, dtype=torch.float64))
    assert torch.isfinite(quantiles).all()
    assert (quantiles[..., -1] > quantiles[..., 0]).all()


def test_the_absolute_network_starts_far_from_the_prices_that_it_must_learn():
    assert (network("none")(closes())[..., MEDIAN] < 1).all()


def test_what_is_learned_and_its_goal_share_a_unit():
    x, y = closes(), 60 * torch.ones(4, 10, dtype=torch.float64)
    net = network()
    moved = x[:, -1:] * torch.exp(net.goal(x, y).double() * net.fan.scale(x))
    assert torch.allclose(moved, y, rtol=1e-6)
    assert torch.equal(network("none").goal(x, y), y.float())


def test_long_run_volatility_is_the_root_mean_square_return_with_a_floor():
    alternating = torch.tensor([1.0, 1.1] * 50, dtype=torch.float64)
    assert long_run_volatility(alternating) == pytest.approx(0.09531, rel=1e-3)
    assert long_run_volatility(torch.ones(50, dtype=torch.float64)) == VOLATILITY_FLOOR
