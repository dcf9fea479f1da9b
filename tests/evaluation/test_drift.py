import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp

from pregao.config import parse
from pregao.errors import InvalidChoice
from pregao.evaluation.drift import SESSIONS, drift, summary
from pregao.forecasting.compose import forecast_stock
from pregao.models.trained import TrainedModel
from pregao.training.config import TrainConfig
from tests.conftest import SMALL, random_walk, run


def closes(returns):
    return 50 * np.exp(np.append(0, np.cumsum(returns)))


def noise(n, seed=0, scale=0.02):
    return np.random.default_rng(seed).normal(0, scale, n)


USUAL = summary(closes(noise(1000)))


def test_a_stock_that_goes_on_as_before_is_not_warned_of():
    found = [drift(USUAL, closes(noise(SESSIONS, seed))) for seed in range(1, 200)]
    assert np.mean([one.warning is not None for one in found]) < 0.05
    assert all(0 < one.score < 1.5 for one in found)


@pytest.mark.parametrize("changed", [noise(SESSIONS, 1, 0.06), noise(SESSIONS, 1, 0.003), noise(SESSIONS, 1) + 0.02])
def test_a_stock_that_has_changed_is_warned_of(changed):
    found = drift(USUAL, closes(changed))
    assert found.score > 1
    assert "60 daily returns" in found.warning


def test_only_the_last_returns_count_and_the_price_level_does_not():
    recent = noise(SESSIONS, 3)
    alone = drift(USUAL, closes(recent))
    after_a_crash = drift(USUAL, 1000 * closes(np.append(np.full(10, -0.3), recent)))
    assert after_a_crash.score == pytest.approx(alone.score)


def test_the_distance_is_that_of_a_two_sample_test():
    training, recent = noise(1000), noise(SESSIONS, 4, 0.03)
    usual = summary(closes(training))
    found = drift(usual, closes(recent)).score * usual["bound"]
    assert found == pytest.approx(ks_2samp(recent, training).statistic, abs=0.01)


def test_ninety_nine_of_a_hundred_windows_of_the_training_part_are_usual():
    training = closes(noise(1000))
    usual = summary(training)
    scores = [drift(usual, training[begin : begin + SESSIONS + 1]).score for begin in range(0, 940, 5)]
    assert 0 < np.mean(np.array(scores) > 1) <= 0.02


def test_too_little_is_no_drift_and_no_summary():
    assert drift(USUAL, closes(noise(SESSIONS - 1))) is None
    assert drift(None, closes(noise(SESSIONS))) is None
    assert summary(closes(noise(200))) is None
    assert summary(np.full(1000, 50.0)) is None


def test_a_summary_is_short_and_survives_json():
    assert json.loads(json.dumps(USUAL, allow_nan=False)) == USUAL
    assert len(json.dumps(USUAL)) < 1500


def test_a_card_without_returns_still_loads_and_knows_no_drift(home, shared, prices):
    card = json.loads((shared / "model.json").read_text())
    del card["returns"]
    (shared / "model.json").write_text(json.dumps(card))
    assert TrainedModel.load(shared).card.returns == {}
    assert forecast_stock("VALE3", "csv", prices).drift is None


@pytest.fixture
def long_prices(tmp_path):
    folder = tmp_path / "long"
    folder.mkdir()
    random_walk(n=600).to_csv(folder / "VALE3.csv", index=False)
    return folder


def test_a_training_keeps_what_was_usual_before_the_validation_part_and_nothing_later(home, long_prices):
    def trained():
        done = run("train.py", "stock=VALE3", *SMALL, "source=csv", f"source.path={long_prices}", home=home)
        assert done.returncode == 0, done.stderr
        return TrainedModel.load(home.joinpath(done.stdout.splitlines()[-1], "model")).card

    before = trained()
    table = pd.read_csv(long_prices / "VALE3.csv")
    table.loc[table["date"] >= before.validation_start, "close"] *= 3
    table.to_csv(long_prices / "VALE3.csv", index=False)
    assert before.returns["VALE3"] is not None
    assert trained().returns == before.returns


@pytest.mark.slow
def test_if_drifted_trains_only_a_stock_that_has_changed(home, long_prices):
    source = ["source=csv", f"source.path={long_prices}"]

    def trained(if_drifted):
        return run("train.py", "stock=VALE3", *SMALL, *source, f"if_drifted={if_drifted}", "promote=always", home=home)

    first = trained(False)
    assert first.returncode == 0, first.stderr
    folders = sorted((home / "outputs/VALE3").iterdir())
    calm = trained(True)
    assert calm.returncode == 0
    assert "nothing was trained" in calm.stderr
    assert sorted((home / "outputs/VALE3").iterdir()) == folders
    assert forecast_stock("VALE3", "csv", long_prices).as_json()["drift"]["warning"] is None
    wild = pd.read_csv(long_prices / "VALE3.csv")
    wild.loc[540:, "close"] *= np.exp(np.cumsum(noise(60, 5, 0.08)))
    wild.to_csv(long_prices / "VALE3.csv", index=False)
    assert forecast_stock("VALE3", "csv", long_prices).drift.warning is not None
    changed = trained(True)
    assert changed.returncode == 0
    assert len(sorted((home / "outputs/VALE3").iterdir())) == 2
    shutil.rmtree(home / "outputs")


def test_if_drifted_is_refused_for_the_shared_model():
    from tests.conftest import small_config

    config = small_config("x").model_dump(mode="json") | {"stock": "SHARED", "stocks": ["VALE3"], "if_drifted": True}
    with pytest.raises(InvalidChoice, match="if_drifted=true needs one stock"):
        parse(TrainConfig, config)
