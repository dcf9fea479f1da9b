"""What a change of the structure must not change: golden.py says how the expected values are computed."""

import json
import shutil

import numpy as np
import pytest

from tests import golden

EXPECTED = json.loads(golden.FILE.read_text(encoding="utf-8"))


def assert_close(found, expected, tolerance, smallest=0.0):
    """Nested values: numbers up to a relative tolerance, or an absolute one; everything else equal."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_close(found[key], expected[key], tolerance, smallest)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other, tolerance, smallest)
    elif isinstance(expected, float):
        np.testing.assert_allclose(found, expected, tolerance, smallest)
    else:
        assert found == expected


@pytest.fixture(scope="module")
def forecasts():
    return golden.forecasts()


@pytest.mark.parametrize("name", EXPECTED["forecasts"])
def test_a_shipped_model_forecasts_the_same_quantiles(forecasts, name):
    assert_close(forecasts[name], EXPECTED["forecasts"][name], 1e-9)


@pytest.fixture(scope="module")
def commands(tmp_path_factory, empty_database):
    home, prices = (tmp_path_factory.mktemp(name) for name in ("home", "prices"))
    (home / "mlruns").mkdir()
    shutil.copy(empty_database, home / "mlruns")
    return golden.commands(home, prices)


@pytest.mark.parametrize("name", EXPECTED["commands"])
def test_a_command_gives_the_same_figures(commands, name):
    assert_close(commands[name], EXPECTED["commands"][name], 1e-6, smallest=1e-6)  # forecast.csv has six decimals


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
