import numpy as np

from pregao.evaluation.baselines import Ewma, History, MeanReturn
from pregao.forecasting.widths import WARM_UP, EwmaWithWidth, OnlineWidth
from pregao.models.calibration import band_scores, online_widths
from pregao.quantiles import MEDIAN, widened


def history(n=700, seed=0):
    """A volatility that doubles after 500 sessions."""
    scale = np.where(np.arange(n) < 500, 0.01, 0.02)
    return History({"close": 50 * np.exp((scale * np.random.default_rng(seed).standard_t(5, n)).cumsum())}, "VALE3")


def test_the_width_of_a_baseline_is_the_online_width_of_its_forecasts_since_the_end_of_the_fit_part():
    known, every = history(), np.arange(400 - WARM_UP, 690)
    plain = Ewma().fit(known.until(400)).quantiles(known, every, 10)
    targets = np.stack([known.closes[every + step] for step in range(1, 11)], axis=1)
    wanted = widened(plain, online_widths(band_scores(targets, plain)))
    found = EwmaWithWidth().fit(known.until(400)).quantiles(known, every[300:], 10)
    assert np.allclose(found, wanted[300:], rtol=1e-9)
    assert not np.allclose(found, plain[300:], rtol=1e-3)
    assert np.array_equal(found[..., MEDIAN], plain[300:, :, MEDIAN])


def test_a_width_does_not_depend_on_the_other_origins_and_is_1_before_the_end_of_the_fit_part():
    known, fitted = history(), EwmaWithWidth().fit(history().until(400))
    one = fitted.quantiles(known, np.array([600]), 10)
    assert np.array_equal(one[0], fitted.quantiles(known, np.arange(0, 699), 10)[600])
    early = np.array([20, 149])
    plain = Ewma().fit(known.until(400)).quantiles(known, early, 10)
    assert np.allclose(fitted.quantiles(known, early, 10), plain, rtol=1e-12)


def test_any_baseline_can_have_a_width_which_follows_its_misses():
    named = type("Widened", (OnlineWidth,), {"of": MeanReturn})
    known, origins = history(), np.array([500, 680])
    found, plain = (each().fit(known.until(400)).quantiles(known, origins, 10) for each in (named, MeanReturn))
    wider = np.ptp(np.log(found), axis=-1) / np.ptp(np.log(plain), axis=-1)
    assert (wider[1] > 1.05).all()
    assert (np.ptp(wider, axis=1) < 1e-9).all()
