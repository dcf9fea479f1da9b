"""The forecast of a run equals the one that the served model gives after the same last close."""

import numpy as np
import pandas as pd
import pytest

from pregao.forecasting.compose import forecast_stock, last_window
from pregao.forecasting.historical import forecast_history
from pregao.models.trained import TrainedModel
from pregao.prices.symbols import Symbol
from pregao.training.pipeline import Pipeline
from tests.conftest import random_walk, small_config, with_ranges
from tests.training.conftest import composed, new

START = "2023-06-01"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """VALE3 from years before `START` on, calm at first: the volatilities of the first windows depend on that time."""
    table = with_ranges(random_walk(1600))
    calm = table["date"] < "2021-06-01"
    table.loc[calm, ["open", "high", "low", "close"]] = table.loc[calm, ["open", "high", "low", "close"]] ** 0.2
    folder = tmp_path_factory.mktemp("prices")
    table.to_csv(folder / "VALE3.csv", index=False)
    return folder


def test_a_training_with_a_late_start_serves_what_was_judged(home, folder):
    run = new(home / "outputs/VALE3/1")
    pipeline = Pipeline(small_config(folder, f"start={START}"), run)
    result = pipeline.run()
    forecast = pd.read_csv(run / "forecast.csv")
    served = forecast_stock("VALE3", "csv", folder)
    for name in ("close", "lower_90", "upper_90"):
        assert served.table[name].to_numpy() == pytest.approx(forecast[name].to_numpy(), rel=1e-6)
    model = TrainedModel.load(run / "model")
    data, _ = pipeline.data(pipeline.download())
    [judged] = forecast_history(model, data.panel.histories).values()
    window = last_window(model, Symbol.parse("VALE3"), served.prices.table)
    np.testing.assert_array_equal(window.volatilities, judged.last.volatilities)
    assert window.width == judged.last.width
    assert result.evaluation.windows.cutoffs.min() >= pd.Timestamp(START)
    assert str(data.panel.first) == START


def test_windows_start_at_start(folder, tmp_path):
    panel = composed(tmp_path, folder, f"start={START}")[1].panel
    first, table = panel.split.train, panel.prices["VALE3"]
    assert first.cutoffs[0] == table["date"].iloc[19]
    assert first.inputs[0].tolist() == table["close"].head(20).tolist()
    assert len(panel.histories["VALE3"]) > len(table)
