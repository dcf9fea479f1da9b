"""Which trainings start from the shared model, and the sentence if one cannot."""

import json
import logging

import pytest

from pregao.config import parse
from pregao.errors import InvalidChoice
from pregao.training.config import TrainConfig
from pregao.training.pipeline import Pipeline
from pregao.training.steps import _history
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


def test_a_shared_model_that_was_trained_on_the_validation_part_is_not_used(home, shared, prices, caplog):
    caplog.set_level("INFO")
    card = json.loads((shared / "model.json").read_text(encoding="utf-8"))
    (shared / "model.json").write_text(json.dumps(card | {"train_end": "2024-08-30"}), encoding="utf-8")
    assert start_of(home, prices) is None
    assert "it was trained on closes up to 2024-08-30, but the validation part starts on 2024-" in caplog.text


def test_a_run_with_other_borders_does_not_resume(home, prices):
    def history(*overrides):
        pipeline = Pipeline(small_config(prices, "train.init=none", *overrides), home)
        return _history(pipeline.config, pipeline.data(pipeline.download())[0].panel, None)

    assert history() == history()
    assert history() != history("evaluation.validation=0.10")


def test_the_shared_model_has_no_warm_start(prices):
    with pytest.raises(InvalidChoice, match=r"train\.init=shared is for one stock"):
        parse(
            TrainConfig,
            small_config(prices, "stock=SHARED", "stocks=[VALE3]").model_dump()
            | {"train": {"init": "shared", "learning_rate_factor": 0.2}},
        )
