"""The panel model: its regressions, which of them applies, and what a stock takes from a panel."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pregao.data.batch import Batch
from pregao.data.stock_index import OTHER_STOCK
from pregao.errors import InvalidChoice
from pregao.models.har import LEAST_WINDOWS, PRIOR_WINDOWS, HarModel, Regression, filled, symmetric_quantiles
from pregao.testing import random_walks

STOCKS = 3


def regression(n=3000, noise=0.0, seed=0, shift=0.0):
    """A regression, fitted on log variances with known slopes and one intercept per stock."""
    torch.manual_seed(seed)
    stock = torch.arange(n) % STOCKS
    x = torch.randn(n, 2) - 8
    own = torch.tensor([0.0, 0.3, -0.3])[stock] + shift
    y = (0.4 * x[:, 0] + 0.5 * x[:, 1] + own)[:, None] + noise * torch.randn(n, 1)
    moves = (y / 2).exp() * torch.randn(n, 1)
    fitted = Regression(2, 1, STOCKS)
    fitted.fit(x, y, moves, stock)
    return fitted, x, y, moves, stock


def test_slopes_are_estimated_within_stocks_and_intercepts_are_shrunken_towards_the_panel():
    fitted, *_ = regression()
    assert fitted.slopes[:, 0].tolist() == pytest.approx([0.4, 0.5], abs=1e-4)
    weight = 1000 / (1000 + PRIOR_WINDOWS)
    assert fitted.intercepts[:, 0].tolist() == pytest.approx([0.0, 0.3 * weight, -0.3 * weight, 0.0], abs=1e-3)


def test_the_shape_is_symmetric_and_its_quantiles_are_those_of_the_errors():
    fitted, *_ = regression()
    shape = fitted.shape[0].numpy()
    assert shape == pytest.approx(-shape[::-1])
    assert shape[3] == 0
    assert shape[-1] == pytest.approx(1.645, rel=0.1)
    normal = symmetric_quantiles(torch.randn(100_000, 1, generator=torch.Generator().manual_seed(1)))
    assert normal[0].numpy() == pytest.approx([-1.645, -1.282, -0.674, 0, 0.674, 1.282, 1.645], abs=0.02)


def test_a_stock_that_moves_twice_as_much_has_a_larger_scale_and_others_have_the_panels():
    torch.manual_seed(0)
    stock = torch.arange(3000) % STOCKS
    x, y = torch.randn(3000, 2) - 8, torch.full((3000, 1), -8.0)
    moves = (y / 2).exp() * torch.randn(3000, 1) * torch.tensor([2.0, 1.0, 1.0])[stock][:, None]
    fitted = Regression(2, 1, STOCKS)
    fitted.fit(x, y, moves, stock)
    weight = (1000 / 10) / (1000 / 10 + PRIOR_WINDOWS)
    assert fitted.log_scales[0].item() == pytest.approx(weight * np.log(2 / (4 / 3)), abs=0.03)
    assert fitted.log_scales[-1].item() == 0
    features = torch.full((2, 2), -8.0)
    first, other = fitted(features, torch.tensor([0, OTHER_STOCK]))[:, 0].tolist()
    assert first > 1.1 * other


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest result."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        found = function(*arguments, **(named or {}))
        for each in tree_leaves(found):
            if isinstance(each, torch.Tensor):
                self.elements = max(self.elements, each.numel())
        return found


def test_the_memory_of_a_fit_does_not_grow_with_windows_times_stocks():
    stocks, n = 200, 4000
    x, y = torch.randn(n, 2), torch.randn(n, 1)
    with LargestTensor() as largest:
        Regression(2, 1, stocks).fit(x, y, torch.randn(n, 1), torch.arange(n) % stocks)
    assert largest.elements <= 4 * n


def test_a_forecast_does_not_extrapolate_far_beyond_what_was_fitted():
    fitted, _, y, *_ = regression()
    size = fitted(torch.full((1, 2), 50.0), torch.tensor([OTHER_STOCK]))
    assert 2 * size.log().item() == pytest.approx(y.max().item() + np.log(4), rel=1e-5)


def test_adopting_a_panel_keeps_its_slopes_and_estimates_the_stocks_own_values():
    panel, *_ = regression()
    _, x, y, moves, _ = regression(n=300, seed=1, shift=1.0)
    own = Regression(2, 1, 1)
    own.adopt(panel)
    assert own.intercepts[:, 0].tolist() == [panel.intercepts[-1, 0].item()] * 2
    own.fit(x, y, moves, torch.zeros(300, dtype=torch.int64))
    assert torch.equal(own.slopes, panel.slopes)
    assert torch.equal(own.shape, panel.shape)
    assert own.intercepts[0, 0].item() == pytest.approx(1.0 * 300 / (300 + PRIOR_WINDOWS), abs=0.02)
    assert own.intercepts[1, 0] == panel.intercepts[-1, 0]


@pytest.fixture(scope="module")
def batch():
    return random_walks(800)


@pytest.fixture(scope="module")
def model(batch):
    fitted = HarModel(horizon=10, inputs="panel", stocks=STOCKS)
    fitted.initialise(batch)
    return fitted.eval()


def known(model, inputs, *prefixes):
    """The inputs with unknown measures of these names."""
    measures = inputs.measures.clone()
    gone = [place for place, name in enumerate(model.measures) if name.startswith(prefixes)]
    measures[:, gone] = torch.nan
    return inputs._replace(measures=measures)


@pytest.mark.parametrize(
    ("unknown", "path"),
    [
        ((), 0),
        (("market",), 1),
        (("market", "variance"), 2),
        (("variance",), 2),
        (("variance", "market", "squares_250"), 3),
        (("variance", "market", "squares"), 4),
    ],
)
def test_a_window_is_forecast_by_the_first_regression_whose_inputs_are_known(model, batch, unknown, path):
    inputs = batch.inputs._replace(**{name: tensor[1:4] for name, tensor in batch.inputs._asdict().items()})
    inputs = known(model, inputs, *unknown) if unknown else inputs
    features = model.features(inputs)
    assert model.chosen(features).tolist() == [path] * 3
    expected = model.paths[path](features[path], inputs.stock) * model.root_step
    assert torch.allclose(model.scale(inputs), expected)
    assert torch.equal(model.predict_normalized(inputs)[0], model.paths[path].shape)


def test_an_unknown_mean_is_replaced_by_its_neighbour():
    nan = torch.nan
    given = torch.tensor([[nan, 1.0, 2.0, 3.0], [1.0, nan, nan, 4.0], [1.0, 2.0, nan, nan], [nan, nan, nan, nan]])
    assert filled(given)[:3].tolist() == [[1.0, 1.0, 2.0, 3.0], [1.0, 4.0, 4.0, 4.0], [1.0, 2.0, 2.0, 2.0]]
    assert filled(given)[3].isnan().all()


@pytest.mark.parametrize(("choices", "path"), [({"market": False}, 1), ({"ranges": False}, 2)])
def test_a_part_can_be_left_out_to_measure_what_it_is_worth(batch, choices, path):
    model = HarModel(horizon=10, inputs="panel", stocks=STOCKS, **choices)
    model.initialise(batch)
    assert model.chosen(model.features(batch.inputs)).min() == path


def test_too_few_windows_and_other_measures_are_refused():
    few = random_walks(LEAST_WINDOWS - 1)
    with pytest.raises(InvalidChoice, match=f"at least {LEAST_WINDOWS}"):
        HarModel(horizon=10, inputs="panel", stocks=STOCKS).initialise(few)
    with pytest.raises(InvalidChoice, match=r"data\.inputs=ohlc"):
        HarModel(horizon=10, inputs="ohlc", stocks=STOCKS)


def test_refit_uses_the_new_windows_unless_a_panel_was_adopted(model, batch):
    later = random_walks(800, seed=5)
    later = Batch(later.inputs, later.targets, 4 * later.variances)
    fresh = HarModel(horizon=10, inputs="panel", stocks=STOCKS)
    fresh.initialise(batch)
    before = fresh.scale(batch.inputs)
    fresh.refit(later)
    assert (fresh.scale(batch.inputs) / before).median().item() == pytest.approx(2, rel=0.1)
    adopted = HarModel(horizon=10, inputs="panel", stocks=1)
    adopted.adopt(model)
    adopted.refit(later._replace(inputs=later.inputs._replace(stock=torch.zeros(800, dtype=torch.int64))))
    assert torch.equal(adopted.paths[0].slopes, model.paths[0].slopes)
    assert torch.equal(adopted.paths[0].intercepts[-1], model.paths[0].intercepts[-1])
    assert (adopted.paths[0].intercepts[0] > adopted.paths[0].intercepts[-1] + 0.5).all()
