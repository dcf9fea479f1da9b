from dataclasses import replace

import numpy as np
import pytest

from pregao.errors import TooFewSessions
from pregao.evaluation.report import REPORTED
from pregao.forecasting.evaluate import served_on_latest
from pregao.forecasting.historical import rolling_forecasts
from pregao.prices.downloader import Prices
from pregao.tracking.registry import Served
from tests.conftest import random_walk
from tests.models.test_trained import trained_model


def evaluated(vale3, sessions):
    """The evaluation on this many sessions after the model's last one, and the table of prices."""
    table = random_walk(120)
    last = table["date"].iloc[-sessions - 1].date().isoformat()
    model = trained_model()
    model = replace(model, card=replace(model.card, validation_start="2024-08-01", validation_end=last))
    served = Served(model, "VALE3", 1, "run", None)
    return served_on_latest(served, Prices(vale3, table, "csv", False, ())), table, model


def test_the_first_evaluated_close_is_the_first_one_that_the_model_has_not_seen(vale3):
    evaluation, table, _ = evaluated(vale3, sessions=10)
    assert len(evaluation.windows) == 1
    assert np.array_equal(evaluation.windows.dates[0], table["date"].to_numpy("datetime64[ns]")[-10:])


def test_the_evaluated_forecasts_are_the_historical_ones_next_to_every_baseline(vale3):
    evaluation, table, model = evaluated(vale3, sessions=15)
    assert len(evaluation.windows) == 6
    rolling = rolling_forecasts(model, table, model.card.validation_start, "VALE3").at(evaluation.windows.cutoffs)
    assert np.array_equal(evaluation.forecasts["model"], rolling.quantiles)
    short = {"log-HAR"}  # the 105 closes before these windows do not determine it
    assert {"model", *REPORTED} - short <= set(evaluation.forecasts)


def test_fewer_new_sessions_than_a_horizon_are_refused(vale3):
    with pytest.raises(TooFewSessions, match=r"VALE3: 9 sessions .* at least 10 are needed"):
        evaluated(vale3, sessions=9)
