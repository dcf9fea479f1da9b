"""Networks that start at the panel model, and the mean of several models."""

import logging

import pytest
import torch

from pregao.errors import InvalidChoice
from pregao.models.choices import build_model
from pregao.models.har import HarModel
from pregao.quantiles import MEDIAN
from pregao.testing import random_walks

DATA = {"horizon": 10, "inputs": "panel", "stocks": 3}
SMALL = {"hidden_size": 4, "num_layers": 1, "dropout": 0.0, "shrinkage": 0.1}
LSTM = {"_target_": "pregao.models.recurrent.RecurrentModel", "cell": "lstm", **SMALL, **DATA}
ENSEMBLE = {"_target_": "pregao.models.ensemble.EnsembleModel", **SMALL, **DATA}


def fitted(**choices):
    torch.manual_seed(0)
    model = build_model(choices).eval()
    model.initialise(random_walks(400))
    return model


def moved(model, size=0.3):
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(size * torch.randn_like(weight))
    return model


@pytest.fixture
def panel():
    model = HarModel(**DATA)
    model.initialise(random_walks(400))
    return model.eval()


@pytest.mark.parametrize("loss", ["pinball", "log_variance"])
def test_an_untrained_network_is_the_panel_model(panel, loss):
    inputs = random_walks(50, seed=3).inputs
    assert torch.allclose(fitted(**LSTM, start="panel", loss=loss)(inputs), panel(inputs))


def test_the_median_moves_by_its_share_and_leaves_the_other_quantiles_where_they_are():
    model, inputs = fitted(**LSTM, start="panel"), random_walks(50, seed=3).inputs
    flat = model(inputs)
    with torch.no_grad():
        model.head.bias.view(10, -1)[:, MEDIAN] = 0.2
    tilted = model(inputs)
    others = [level for level in range(7) if level != MEDIAN]
    assert torch.equal(tilted[..., others], flat[..., others])
    expected = 0.1 * 0.2 * model.scale(inputs)
    assert torch.allclose((tilted / flat)[..., MEDIAN].log().float(), expected, atol=1e-6)


def test_a_median_stays_between_its_neighbours():
    model, inputs = fitted(**LSTM, start="panel"), random_walks(50, seed=3).inputs
    with torch.no_grad():
        model.head.bias.view(10, -1)[:, MEDIAN] = 1000
    assert (model(inputs).diff(dim=-1) >= 0).all()


def test_log_variance_trains_one_factor_for_all_quantiles_of_a_step():
    model, batch = fitted(**LSTM, start="panel", loss="log_variance"), random_walks(50, seed=3)
    before = model.loss(batch)
    with torch.no_grad():
        model.head.bias.view(10, -1)[:, 0] = 2 * torch.log(torch.tensor(1.5))
    wide, flat = model.predict_normalized(batch.inputs), model.panel.predict_normalized(batch.inputs)
    assert torch.allclose(wide, 1.5 * flat, atol=1e-5)
    assert model.loss(batch) > before


def test_the_starting_point_has_the_panels_bands_and_the_learned_median():
    model, inputs = moved(fitted(**LSTM, start="panel")), random_walks(50, seed=3).inputs
    start = model.starting_point().eval()
    z, bands = start.predict_normalized(inputs), model.panel.predict_normalized(inputs)
    median = model.correction(inputs)[..., MEDIAN].clamp(bands[..., MEDIAN - 1], bands[..., MEDIAN + 1])
    assert torch.allclose(z[..., MEDIAN], median)
    others = [level for level in range(7) if level != MEDIAN]
    assert torch.allclose(z[..., others], bands[..., others], atol=1e-6)
    assert fitted(**LSTM).starting_point() is None


def test_a_network_adopts_weights_but_not_the_stocks_own_intercepts():
    shared = moved(fitted(**LSTM, start="panel"))
    own = build_model({**LSTM, "start": "panel", "stocks": 1})
    own.adopt(shared)
    assert torch.equal(own.head.weight, shared.head.weight)
    assert torch.equal(own.panel.paths[0].slopes, shared.panel.paths[0].slopes)
    assert torch.equal(own.panel.paths[0].intercepts[0], shared.panel.paths[0].intercepts[-1])


def test_an_ensemble_is_the_mean_of_its_members_log_returns(panel):
    model, inputs = (
        fitted(**ENSEMBLE, members=["lstm", "har"], start="volatility", loss="pinball"),
        random_walks(50).inputs,
    )
    moved(model.members["lstm"])
    logs = [(member(inputs) / inputs.closes[:, -1:, None]).log() for member in model.members.values()]
    assert torch.allclose((model(inputs) / inputs.closes[:, -1:, None]).log(), torch.stack(logs).mean(dim=0), atol=1e-6)
    assert torch.allclose(model.members["har"](inputs), panel(inputs))
    assert not model.follows_outcomes


def test_a_member_that_cannot_be_fitted_is_left_out(caplog):
    few = random_walks(20)
    model = build_model({**ENSEMBLE, "members": ["lstm", "har"], "start": "volatility", "loss": "pinball"}).eval()
    with caplog.at_level(logging.WARNING):
        model.initialise(few)
    assert "The member har is left out of the ensemble: the panel model (model=har, or model.start=panel): 20 " in (
        caplog.text
    )
    assert torch.equal(model(few.inputs), model.members["lstm"](few.inputs))
    alone = build_model({**ENSEMBLE, "members": ["har"], "start": "panel", "loss": "pinball"})
    with pytest.raises(
        InvalidChoice, match=r"model\.members=\[har\]: no member can be fitted\. the panel model .* 20 training windows"
    ):
        alone.initialise(few)


def test_a_name_is_given_once():
    with pytest.raises(InvalidChoice, match="twice"):
        build_model({**ENSEMBLE, "members": ["har", "har"], "start": "panel", "loss": "pinball"})
