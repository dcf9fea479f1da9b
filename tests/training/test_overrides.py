"""The overrides of POST /train follow from conf/model, and their values are composed by Hydra unchanged."""

import re

import pytest
from pydantic import ValidationError

from pregao.config import SourceChoices
from pregao.errors import InvalidChoice
from pregao.training import model_choices as of_models
from pregao.training.compose import CONF, train_config
from pregao.training.model_choices import as_json, model_choices, offered
from pregao.training.overrides import CHOICES, overrides_class
from tests.training.conftest import new


def chosen(**given):
    return overrides_class().model_validate(given).chosen()


def composed(vale3, given, path=None):
    return train_config(vale3, "2015-01-01", "2024-12-30", SourceChoices(name="csv", path=path), given)


def test_every_model_of_conf_can_be_chosen_with_each_of_its_settings():
    fields = overrides_class().model_json_schema()["properties"]
    named = {path.stem for path in (CONF / "model").glob("*.yaml")}
    assert fields["model"]["anyOf"][0]["enum"] == offered() == sorted(named - {"foundation"})
    for name in offered():
        assert {f"model.{choice}" for choice in model_choices(name).model_fields} <= set(fields)
    # A client names neither code nor folders of the server.
    assert not {"model._target_", "model.horizon", "model.inputs", "model.path"} & set(fields)
    assert fields["model.hidden_size"]["anyOf"][0] == {"type": "integer", "exclusiveMinimum": 0, "maximum": 512}
    assert fields["model.loss"]["anyOf"][0]["enum"] == ["mse", "pinball", "log_variance"]


def test_the_stored_choices_are_those_of_the_models():
    assert CHOICES.read_text() == as_json()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.hidden_size", "64"),
        ("model.hidden_size", True),
        ("model._target_", "pregao.models.absolute.AbsoluteModel"),
        ("model.dropout", float("nan")),
        ("data.inputs", "window"),
        ("trainer.max_epochs", 1001),
        ("optimizer.learning_rate", 2),
    ],
)
def test_other_keys_types_and_values_are_refused(key, value):
    with pytest.raises(ValidationError, match=key):
        chosen(**{key: value})


def test_a_whole_number_may_be_written_with_a_decimal_point():
    assert chosen(**{"model.hidden_size": 64.0, "seed": 3}) == {"model.hidden_size": 64, "seed": 3}
    with pytest.raises(ValidationError, match="hidden_size"):
        chosen(**{"model.hidden_size": 64.5})


def test_the_experiment_with_a_leak_is_refused_with_the_reason():
    with pytest.raises(ValidationError, match=r"experiment=published is refused: .* chosen on the test windows"):
        chosen(experiment="published")
    assert chosen(experiment="reference") == {"experiment": "reference"}


@pytest.mark.parametrize("text", ["${oc.env:HOME}", "a,b", "[a]", "'a'", "a\nb", "é", ""])
def test_a_text_with_special_characters_of_hydra_is_refused(vale3, text):
    with pytest.raises(InvalidChoice, match=r"^model\.cell="):
        composed(vale3, {"model.cell": text})


@pytest.mark.parametrize("given", [{"model": "absolute", "model.shrinkage": 0.5}, {"model.loss": "mse"}], ids=str)
def test_a_setting_of_another_model_is_refused_by_name(vale3, given):
    with pytest.raises(InvalidChoice, match=rf"^{re.escape(list(given)[-1])}"):
        composed(vale3, given)


def test_a_configuration_is_the_one_of_train_py(vale3):
    given = chosen(**{"model": "absolute", "model.num_layers": 3, "seed": 3, "trainer.patience": None})
    config = composed(vale3, given)
    assert config.model["_target_"] == "pregao.models.absolute.AbsoluteModel"
    assert (config.model["num_layers"], config.seed, config.for_predict) == (3, 3, True)
    assert (config.stock, config.start, config.end) == ("VALE3", "2015-01-01", "2024-12-30")
    assert of_models.model_name(config) == "absolute"


def test_a_path_with_special_characters_of_hydra_stays_unchanged(vale3, tmp_path):
    folder = new(tmp_path / "a {b}, 'c' ${d}=e")
    assert composed(vale3, {}, folder).source.path == folder
