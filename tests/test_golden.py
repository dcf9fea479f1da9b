"""What a change of the structure must not change: golden.py says how the expected values are computed."""

import json

import pytest

from tests import golden
from tests.conftest import assert_close

EXPECTED = json.loads(golden.FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def forecasts():
    return golden.forecasts()


@pytest.mark.parametrize("name", EXPECTED["forecasts"])
def test_a_shipped_model_forecasts_the_same_quantiles(forecasts, name):
    assert_close(forecasts[name], EXPECTED["forecasts"][name], 1e-9)


def test_commands_give_the_same_figures(home, tmp_path, subtests):
    prices = tmp_path / "prices"
    prices.mkdir()
    found = golden.commands(home, prices)
    assert found.keys() == EXPECTED["commands"].keys()
    for name, expected in EXPECTED["commands"].items():
        with subtests.test(name):  # forecast.csv has six decimals
            assert_close(found[name], expected, 1e-6, smallest=1e-6)


@pytest.fixture(scope="module")
def configurations():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREGAO_HOME", "/home/pregao")
        return golden.configurations()


def flat(nested, prefix=""):
    found = {}
    for key, value in nested.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


@pytest.mark.parametrize("name", EXPECTED["configurations"])
def test_a_command_is_composed_of_the_same_choices(configurations, name):
    """A model's yaml may name the class and what the class is built with; `scaling` and `loss` follow from it."""
    found, expected = flat(configurations[name]), flat(EXPECTED["configurations"][name])
    may_go = {"model.scaling", "model.loss"} - found.keys()
    may_come = {key for key in found.keys() - expected.keys() if key.startswith("model.")}
    assert {key: found[key] for key in found.keys() - may_come} == {
        key: expected[key] for key in expected.keys() - may_go
    }
