"""Every model of conf/model keeps the contract, and check_model finds one that breaks it."""

from typing import ClassVar

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from pregao.data.volatility import NAMES
from pregao.models.base import ForecastModel, gaussian_quantiles
from pregao.models.choices import TARGET, build_model, checked, choices_of, current, model_class, same_model, with_data
from pregao.models.recurrent import RecurrentModel
from pregao.quantiles import LEVELS
from pregao.settings import REPOSITORY
from pregao.testing import check_model

CONF = REPOSITORY / "conf"
NAMED = sorted(file.stem for file in (CONF / "model").glob("*.yaml"))


def choices(name):
    with initialize_config_dir(str(CONF), version_base=None):
        return checked(OmegaConf.to_container(compose("train", [f"model={name}"]).model))


@pytest.mark.parametrize("name", NAMED)
def test_a_model_that_conf_names_keeps_the_contract(name):
    chosen = choices(name)
    check_model(model_class(chosen.pop(TARGET)), **chosen | ({"hidden_size": 16} if "hidden_size" in chosen else {}))


class Regression(ForecastModel):
    """Quantiles of |z| by a regression on one measure: a model without weights."""

    def __init__(self, horizon: int, inputs: str) -> None:
        super().__init__(horizon, NAMES[inputs])
        self.register_buffer("slope", torch.zeros(horizon))
        self.register_buffer("offset", torch.zeros(horizon))
        self.register_buffer("shape", gaussian_quantiles())

    def design(self, inputs):
        return (inputs.measures[:, 1] / inputs.measures[:, 0]).log().nan_to_num(0.0)

    def fit_statistics(self, inputs, targets):
        x, y = self.design(inputs), self.normalize(inputs, targets).abs().clamp_min(1e-4).log()
        centred = x - x.mean()
        self.slope.copy_((centred[:, None] * y).mean(0) / centred.square().mean().clamp_min(1e-6))
        spread = self.normalize(inputs, targets) / (self.slope * x[:, None]).exp()
        self.offset.copy_(spread.square().mean(0).sqrt().log())

    def predict_normalized(self, inputs):
        size = (self.slope * self.design(inputs)[:, None] + self.offset).exp()
        return size[..., None] * self.shape


class PerStock(Regression):
    """Per-stock factors, as the panel model of the models issue needs them, and a scale of its own."""

    def __init__(self, horizon: int, inputs: str, stocks: int) -> None:
        super().__init__(horizon, inputs)
        self.register_buffer("factor", torch.ones(stocks + 1))

    def fit_statistics(self, inputs, targets):
        super().fit_statistics(inputs, targets)
        for place in range(len(self.factor) - 1):
            own = inputs.stock == place
            if own.any():
                self.factor[place] = super().normalize(inputs, targets)[own].square().mean().sqrt()

    def scale(self, inputs):
        return super().scale(inputs) * self.factor[inputs.stock][:, None]


@pytest.mark.parametrize("model", [Regression, PerStock])
def test_a_model_without_weights_fits_the_contract(model):
    check_model(model)


class Broken(RecurrentModel):
    def __init__(self, *, horizon: int, inputs: str) -> None:
        small = {"cell": "lstm", "hidden_size": 8, "num_layers": 1, "dropout": 0.0, "shrinkage": 0.25}
        super().__init__(horizon=horizon, inputs=inputs, **small)


class Crossing(Broken):
    def predict_normalized(self, inputs):
        return super().predict_normalized(inputs).flip(-1)


class Single(Broken):
    def forward(self, inputs):
        return super().forward(inputs).float()


class Short(Broken):
    def forward(self, inputs):
        return super().forward(inputs)[:, :-1]


class Absolute(Broken):
    def predict_normalized(self, inputs):
        return super().predict_normalized(inputs) + (inputs.closes[:, -1:, None] / 50).float().log() + 0.1


class Wide(Broken):
    def scale(self, inputs):
        return 2 * super().scale(inputs)

    def normalize(self, inputs, targets):
        return super().normalize(inputs, targets) * 2


class Forgetful(Broken):
    def fit_statistics(self, inputs, targets):
        super().fit_statistics(inputs, targets)
        self.kept = targets.mean().float() / 50

    def predict_normalized(self, inputs):
        return super().predict_normalized(inputs) + getattr(self, "kept", 0.0)


class Peeking(Broken):
    def fit_statistics(self, inputs, targets):
        super().fit_statistics(inputs, targets)
        self.register_buffer("kept", targets, persistent=True)

    def predict_normalized(self, inputs):
        return super().predict_normalized(inputs) + (self.kept.mean() / 50 - 1 if "kept" in self._buffers else 0)


class Idle(Broken):
    def __init__(self, *, horizon: int, inputs: str) -> None:
        super().__init__(horizon=horizon, inputs=inputs)
        self.unused = nn.Linear(2, 2)


class Frozen(Broken):
    def loss(self, inputs, targets):
        return super().loss(inputs, targets) * 0 + sum(weight.sum() for weight in self.parameters()) * 0 + 1


class Mixing(Broken):
    def predict_normalized(self, inputs):
        z = super().predict_normalized(inputs)
        return z + z.mean(dim=0)


class Fragile(Broken):
    def predict_normalized(self, inputs):
        return super().predict_normalized(inputs) + inputs.measures[:, 1, None, None]


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (Crossing, "quantiles cross"),
        (Single, "expected float64 prices"),
        (Short, r"forward returned \(5, 9, 7\)"),
        (Absolute, "prices × 1000 do not give"),
        (Wide, "the untrained 90 % band holds"),
        (Forgetful, "loaded from its state_dict"),
        (Peeking, "changed with the targets"),
        (Idle, "no gradient reaches unused"),
        (Frozen, "no gradient reaches"),
        (Mixing, "depends on the other windows"),
        (Fragile, "not finite for unknown measures"),
    ],
)
def test_check_model_finds_what_breaks_the_contract(model, sentence):
    with pytest.raises((AssertionError, RuntimeError), match=sentence):
        check_model(model)


def test_choices_that_a_card_cannot_hold_are_found():
    with pytest.raises(AssertionError, match="scalars"):
        check_model(RecurrentModel, cell=["lstm"])


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "pregao.models.base.ForecastModel",
        "pregao.models.quantile_model.torch.load",
        "pregao.models.recurrent.QuantileModel",
        "pregao.models.nowhere.Model",
        "pregao.modelsx.recurrent.RecurrentModel",
        "pregao.models.encoders.RecurrentEncoder",
        "tests.models.test_contract.Regression",
        "",
        "RecurrentModel",
        "..recurrent.RecurrentModel",
    ],
)
def test_a_target_cannot_name_foreign_code(target):
    with pytest.raises(ValueError, match=r"allowed is a ForecastModel in pregao\.models"):
        model_class(target)


def test_choices_are_the_constructors_annotations():
    fields = choices_of(RecurrentModel).model_fields
    assert list(fields) == ["cell", "hidden_size", "num_layers", "dropout", "shrinkage", "loss"]
    with pytest.raises(ValueError, match="less than or equal to 512"):
        checked(choices("lstm") | {"hidden_size": 513})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_a_card_cannot_hold_is_refused_without_bounds_of_its_own(value):
    class Plain(Regression):
        def __init__(self, horizon: int, inputs: str, alpha: float) -> None: ...

    with pytest.raises(ValueError, match="should be a finite number"):
        choices_of(Plain).model_validate({"alpha": value})


def test_choices_of_the_previous_version_name_the_same_model():
    old = {"scaling": "window", "cell": "gru", "hidden_size": 8, "num_layers": 2, "dropout": 0.0, "shrinkage": 0.5}
    assert isinstance(build_model(old | {"horizon": 10, "inputs": "ohlc"}), RecurrentModel)
    assert current(old)[TARGET].endswith(".RecurrentModel")
    new = {TARGET: "pregao.models.recurrent.RecurrentModel", **{key: old[key] for key in list(old)[1:]}}
    assert same_model(old | {"horizon": 10, "inputs": "ohlc"}, with_data(new, horizon=10, inputs="ohlc"))
    assert not same_model(old | {"horizon": 10, "inputs": "ohlc"}, with_data(new, horizon=9, inputs="ohlc"))


def test_a_class_may_declare_that_it_works_on_absolute_prices():
    class Declared(Absolute):
        scale_invariant: ClassVar[bool] = False

    check_model(Declared)


def test_levels_are_those_of_the_contract():
    assert build_model(with_data(choices("lstm"), horizon=3, inputs="window")).levels.tolist() == pytest.approx(LEVELS)
