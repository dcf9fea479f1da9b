"""POST /train's overrides follow from conf/model, and what they allow goes through Hydra unharmed."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from pregao.config import SourceChoices
from pregao.errors import InvalidChoice
from pregao.models.base import ForecastModel
from pregao.models.choices import choices_of, model_class
from pregao.training import overrides
from pregao.training.compose import CONF, models, train_config
from pregao.training.overrides import overrides_class

SOURCE = SourceChoices(name="csv", path=None)


def chosen(**given):
    return overrides_class().model_validate(given).chosen()


def composed(vale3, given):
    return train_config(vale3, None, None, SOURCE, given)


def test_every_model_of_conf_may_be_chosen_with_each_of_its_choices():
    fields = overrides_class().model_json_schema()["properties"]
    assert fields["model"]["anyOf"][0]["enum"] == sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
    for model in models().values():
        assert {f"model.{name}" for name in choices_of(model_class(model["_target_"])).model_fields} <= set(fields)
    assert not {"model._target_", "model.horizon", "model.inputs"} & set(fields)


def test_bounds_are_the_constructors():
    fields = overrides_class().model_json_schema()["properties"]
    assert fields["model.hidden_size"]["anyOf"][0] == {"type": "integer", "exclusiveMinimum": 0, "maximum": 512}
    assert fields["model.loss"]["anyOf"][0]["enum"] == ["mse", "pinball"]


def test_what_is_given_is_handed_on_under_hydras_names():
    given = {"model": "lstm", "model.hidden_size": 8, "model.dropout": 0, "data.lookback": 30, "trainer.patience": None}
    assert chosen(**given) == {"model": "lstm", "model.hidden_size": 8, "model.dropout": 0.0, "data.lookback": 30}


@pytest.mark.parametrize(
    "given",
    [
        {"model.hidden_size": "64"},
        {"model.hidden_size": True},
        {"model.hidden_size": 5000},
        {"model.cell": "${oc.env:HOME}"},
        {"model": "lstm,gru"},
        {"model": "../x"},
        {"model._target_": "pregao.models.absolute.AbsoluteModel"},
        {"model.dropout": float("nan")},
        {"data.inputs": "window"},
        {"trainer.max_epochs": 1001},
        {"optimizer.learning_rate": 2},
    ],
    ids=str,
)
def test_anything_else_is_refused(given):
    with pytest.raises(ValidationError):
        overrides_class().model_validate(given)


def test_a_choice_of_several_models_allows_what_any_of_them_allows(monkeypatch):
    class One(ForecastModel):
        def __init__(self, size: Annotated[int, Field(le=8)], kind: Literal["a"], alpha: float) -> None: ...

    class Other(ForecastModel):
        def __init__(self, size: Annotated[int, Field(le=64)], kind: Literal["b"], name: str = "x") -> None: ...

    found = {"one": One, "other": Other}
    monkeypatch.setattr(overrides, "models", lambda: {name: {"_target_": name} for name in found})
    monkeypatch.setattr(overrides, "model_class", found.__getitem__)
    assert chosen(**{"model.size": 60, "model.kind": "b", "model.alpha": 1}) == {
        "model.size": 60,
        "model.kind": "b",
        "model.alpha": 1.0,
    }
    for given in ({"model.size": 65}, {"model.kind": "c"}, {"model.alpha": float("inf")}):
        with pytest.raises(ValidationError):
            chosen(**given)


def test_a_file_of_conf_that_names_no_model_is_a_sentence(monkeypatch):
    monkeypatch.setattr(overrides, "models", lambda: {"x": {"_target_": "os.system"}})
    with pytest.raises(InvalidChoice, match=r"^conf/model/x\.yaml: 'os\.system' is not a model"):
        overrides_class()


@pytest.mark.parametrize("text", ["${oc.env:HOME}", "a,b", "[a]", "'a'", "a\nb", "é", ""])
def test_a_text_with_characters_of_hydras_grammar_is_refused(vale3, text):
    with pytest.raises(InvalidChoice, match=r"^model\.cell=.* should be letters"):
        composed(vale3, {"model.cell": text})


def test_a_choice_of_another_model_is_refused_by_name(vale3):
    assert composed(vale3, {"model": "absolute", "model.num_layers": 3}).model["num_layers"] == 3
    with pytest.raises(InvalidChoice, match=r"^model\.shrinkage: there is no such setting"):
        composed(vale3, {"model": "absolute", "model.shrinkage": 0.5})
    with pytest.raises(InvalidChoice, match=r"^model\.loss='mse': should be 'pinball'"):
        composed(vale3, {"model.loss": "mse"})
