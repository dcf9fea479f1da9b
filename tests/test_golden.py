"""The golden values of golden.py: forecasts of the shipped models, and figures of commands."""

import json

from tests import golden
from tests.conftest import assert_close

EXPECTED = json.loads(golden.FILE.read_text(encoding="utf-8"))


def test_the_shipped_models_forecast_the_same_quantiles(subtests):
    found = golden.forecasts()
    assert found.keys() == EXPECTED["forecasts"].keys()
    for name, expected in EXPECTED["forecasts"].items():
        with subtests.test(name):
            assert_close(found[name], expected, 1e-9)


def test_commands_give_the_same_figures(home, tmp_path, subtests):
    prices = tmp_path / "prices"
    prices.mkdir()
    found = golden.commands(home, prices)
    assert found.keys() == EXPECTED["commands"].keys()
    for name, expected in EXPECTED["commands"].items():
        with subtests.test(name):  # forecast.csv has six decimals
            assert_close(found[name], expected, 1e-6, smallest=1e-6)
