"""Every model of conf/model satisfies the contract, and check_model finds each violation."""

from importlib.metadata import EntryPoint

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from pregao.config import CONF
from pregao.data.batch import Inputs
from pregao.data.volatility import NAMES
from pregao.models.base import ForecastModel, gaussian_quantiles
from pregao.models.choices import (
    TARGET,
    build_model,
    checked,
    differences,
    model_class,
    with_current_names,
    with_data,
)
from pregao.models.recurrent import RecurrentModel
from pregao.testing import check_model, random_walks

NAMED = sorted(file.stem for file in (CONF / "model").glob("*.yaml") if file.stem != "foundation")
"""Without foundation, which needs a folder of weights: tests/models/test_foundation.py."""


def choices(name):
    with initialize_config_dir(str(CONF), version_base=None):
        return checked(OmegaConf.to_container(compose("train", [f"model={name}"]).model))


@pytest.mark.parametrize("name", NAMED)
def test_a_model_of_conf_satisfies_the_contract(name):
    chosen = choices(name)
    check_model(model_class(chosen.pop(TARGET)), **chosen | ({"hidden_size": 16} if "hidden_size" in chosen else {}))


@pytest.mark.parametrize("name", ["lstm", "gru", "tcn", "transformer", "mlp", "linear", "absolute"])
def test_a_forecast_depends_on_every_close_of_its_window(name):
    torch.manual_seed(0)
    model = build_model(with_data(choices(name), horizon=10, inputs="panel", lookback=20, stocks=3)).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    closes, measures, stock = random_walks(3).inputs
    model.predict_normalized(Inputs(closes.requires_grad_(), measures, stock)).square().sum().backward()
    assert (closes.grad != 0).all()


class PerStock(ForecastModel):
    """Gaussian quantiles with an estimated factor per stock: a model without weights."""

    def __init__(self, horizon: int, inputs: str, stocks: int) -> None:
        super().__init__(horizon, NAMES[inputs])
        self.register_buffer("gaussian", gaussian_quantiles())
        self.register_buffer("factor", torch.ones(stocks + 1))

    def fit_statistics(self, batch):
        for place in range(len(self.factor) - 1):
            errors = self.normalize(batch.inputs, batch.targets)[batch.inputs.stock == place]
            self.factor[place] = errors.square().mean().sqrt()

    def predict_normalized(self, inputs):
        return self.gaussian.expand(len(inputs.closes), self.horizon, -1)

    def scale(self, inputs):
        return super().scale(inputs) * self.factor[inputs.stock][:, None]


def test_a_model_without_weights_satisfies_the_contract():
    check_model(PerStock)


class Small(RecurrentModel):
    def __init__(self, *, horizon: int, inputs: str) -> None:
        small = {"cell": "lstm", "hidden_size": 8, "num_layers": 1, "dropout": 0.0, "shrinkage": 0.25}
        super().__init__(horizon=horizon, inputs=inputs, **small)


def changed(**methods):
    """A subclass in which a method returns `change(result, model, *arguments)`."""

    def method(name, change):
        return lambda self, *given: change(getattr(Small, name)(self, *given), self, *given)

    return type("Changed", (Small,), {name: method(name, change) for name, change in methods.items()})


def price_dependent(z, _model, inputs):
    return z + (inputs.closes[:, -1:, None] / 50).float().log() + 0.1


def statistics_outside_the_buffers():
    return changed(
        fit_statistics=lambda _, model, *__: setattr(model, "kept", 0.1),
        predict_normalized=lambda z, model, _: z + getattr(model, "kept", 0.0),
    )


def targets_after_the_fit():
    return changed(
        fit_statistics=lambda _, model, batch: setattr(model, "kept", batch.targets),
        predict_normalized=lambda z, model, _: (
            z + (model.kept.mean().float() / 50 - 1 if hasattr(model, "kept") else 0)
        ),
    )


class Idle(Small):
    def __init__(self, *, horizon: int, inputs: str) -> None:
        super().__init__(horizon=horizon, inputs=inputs)
        self.unused = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (changed(predict_normalized=lambda z, *_: z.flip(-1)), "quantiles cross"),
        (changed(forward=lambda prices, *_: prices.float()), "expected float64 prices"),
        (changed(forward=lambda prices, *_: prices[:, :-1]), r"forward returned \(5, 9, 7\)"),
        (changed(predict_normalized=price_dependent), "prices × 1000 do not give"),
        (changed(scale=lambda s, *_: 2 * s, normalize=lambda z, *_: 2 * z), "the untrained 90 % band holds"),
        (statistics_outside_the_buffers(), "loaded from its state_dict"),
        (targets_after_the_fit(), "changed with the targets"),
        (Idle, "no gradient reaches unused"),
        (changed(loss=lambda loss, model, *_: 0 * loss + sum(0 * w.sum() for w in model.parameters())), "no gradient"),
        (changed(predict_normalized=lambda z, *_: z + z.mean(dim=0)), "depends on the other windows"),
        (changed(predict_normalized=lambda z, _, x: z + x.measures[:, 1, None, None]), "not finite for unknown"),
    ],
)
def test_check_model_finds_a_violation(model, message):
    with pytest.raises((AssertionError, RuntimeError), match=message):
        check_model(model)


def test_check_model_accepts_a_declared_dependence_on_the_price():
    model = changed(predict_normalized=price_dependent)
    model.scale_invariant = False
    check_model(model)


FOREIGN = """
    os.system pregao.models.base.ForecastModel pregao.models.quantile_model.torch.load
    pregao.models.recurrent.QuantileModel pregao.models.nowhere.Model pregao.modelsx.recurrent.RecurrentModel
    pregao.models.encoders.RecurrentEncoder tests.models.test_contract.PerStock
    RecurrentModel ..recurrent.RecurrentModel
"""


@pytest.mark.parametrize("target", ["", *FOREIGN.split()])
def test_a_target_cannot_name_arbitrary_code(target):
    with pytest.raises(ValueError, match=r"allowed is a ForecastModel in pregao\.models"):
        model_class(target)


def test_an_entry_point_names_a_model_of_another_package(monkeypatch):
    entry = EntryPoint("per_stock", f"{__name__}:PerStock", "pregao.models")
    monkeypatch.setattr("pregao.models.choices.entry_points", lambda group: [entry])
    assert model_class.__wrapped__(f"{__name__}.PerStock") is PerStock


def test_choices_of_version_0_1_build_the_same_model():
    old = {"scaling": "window", "cell": "gru", "hidden_size": 8, "num_layers": 2, "dropout": 0.0, "shrinkage": 0.5}
    new = {TARGET: "pregao.models.recurrent.RecurrentModel", **{key: old[key] for key in list(old)[1:]}}
    complete = old | {"horizon": 10, "inputs": "ohlc"}
    assert with_current_names(old) == new
    assert isinstance(build_model(complete), RecurrentModel)
    assert not differences(complete, with_data(new, horizon=10, inputs="ohlc"))
    assert differences(complete, with_data(new, horizon=9, inputs="ohlc")) == "horizon is 10, not 9"
