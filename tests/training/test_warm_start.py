"""Which trainings start from the shared model, and the sentence if one cannot."""

import logging

import pytest

from pregao.config import parse
from pregao.errors import InvalidChoice
from pregao.training.config import TrainConfig
from pregao.training.pipeline import Pipeline
from tests.conftest import small_config

DATES = ("start=2023-06-01",)


def start_of(home, prices, *overrides, end="2024-12-30"):
    pipeline = Pipeline(small_config(prices, *overrides, end=end), home)
    return pipeline.data(pipeline.download())[1]


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("model.dropout=0.3", "dropout is 0.1, not 0.3"),
        ("model.hidden_size=5", "hidden_size is 4, not 5"),
        ("data.lookback=21", "its data.lookback is 20, not 21"),
    ],
)
def test_a_changed_choice_that_costs_the_warm_start_is_a_warning(home, shared, prices, caplog, override, reason):
    assert start_of(home, prices, override) is None
    [record] = [record for record in caplog.records if "Not started" in record.message]
    assert record.levelno == logging.WARNING
    assert reason in record.message


def test_the_shared_model_has_no_warm_start(prices):
    with pytest.raises(InvalidChoice, match=r"train\.init=shared is for one stock"):
        parse(
            TrainConfig,
            small_config(prices, "stock=SHARED", "stocks=[VALE3]").model_dump()
            | {"train": {"init": "shared", "learning_rate_factor": 0.2}},
        )
