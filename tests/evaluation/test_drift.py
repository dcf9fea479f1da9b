from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import ks_2samp

from pregao.errors import NotNeeded
from pregao.evaluation.drift import FEWEST_WINDOWS, SESSIONS, STRIDE, drift, summary
from pregao.training.pipeline import Pipeline
from tests.conftest import random_walk, small_config


def closes(returns):
    return 50 * np.exp(np.append(0, np.cumsum(returns)))


def noise(n, seed=0, scale=0.02):
    return np.random.default_rng(seed).normal(0, scale, n)


USUAL = summary(closes(noise(1000)))


def test_a_stock_that_did_not_change_has_few_warnings():
    found = [drift(USUAL, closes(noise(SESSIONS, seed))) for seed in range(1, 200)]
    assert np.mean([one.warning is not None for one in found]) < 0.05
    assert all(0 < one.score < 1.5 for one in found)


@pytest.mark.parametrize("changed", [noise(SESSIONS, 1, 0.06), noise(SESSIONS, 1, 0.003), noise(SESSIONS, 1) + 0.02])
def test_a_stock_that_changed_has_a_warning(changed):
    found = drift(USUAL, closes(changed))
    assert found.score > 1
    assert f"{found.score:.2f} times" in found.warning


def test_the_score_depends_on_the_last_60_returns_and_not_on_the_price_level():
    recent = noise(SESSIONS, 3)
    after_a_crash = drift(USUAL, 1000 * closes(np.append(np.full(10, -0.3), recent)))
    assert after_a_crash.score == pytest.approx(drift(USUAL, closes(recent)).score)


@pytest.mark.parametrize("mean", [0.02, -0.02])
def test_the_distance_is_that_of_a_two_sample_test(mean):
    training, recent = noise(1000), noise(SESSIONS, 4) + mean
    usual = summary(closes(training))
    found = drift(usual, closes(recent)).score * usual["bound"]
    assert found == pytest.approx(ks_2samp(recent, training).statistic, abs=0.005)


def test_too_few_returns_and_constant_prices_have_neither_summary_nor_drift():
    least = SESSIONS + STRIDE * (FEWEST_WINDOWS - 1)
    assert summary(closes(noise(least))) is not None
    assert summary(closes(noise(least - 1))) is None
    assert summary(np.full(1000, 50.0)) is None
    assert drift(USUAL, closes(noise(SESSIONS))) is not None
    assert drift(USUAL, closes(noise(SESSIONS - 1))) is None
    assert drift(None, closes(noise(SESSIONS))) is None


def test_if_drifted_trains_only_a_stock_that_has_changed(tmp_path, monkeypatch, vale3):
    table = random_walk(600)
    card = SimpleNamespace(returns={"VALE3": summary(table["close"].to_numpy()[:480])}, trained_at="2024-07-01")
    served = SimpleNamespace(model=SimpleNamespace(card=card))
    monkeypatch.setattr("pregao.tracking.registry.champion", lambda symbol: served)
    pipeline = Pipeline(small_config(tmp_path, "if_drifted=true"), tmp_path)
    with pytest.raises(NotNeeded, match="drift score 0"):
        pipeline.refuse_unless_drifted(table)
    table.loc[540:, "close"] *= np.exp(np.cumsum(noise(60, 5, 0.08)))
    pipeline.refuse_unless_drifted(table)
