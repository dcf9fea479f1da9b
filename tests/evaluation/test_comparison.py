import numpy as np
import pytest

from pregao.data.windows import joined, sliding_windows
from pregao.evaluation.comparison import UNITS, compare
from pregao.evaluation.metrics import score_table
from tests.conftest import random_walk


def windows_of(days, *stocks):
    return joined([sliding_windows(random_walk(days + 29, seed=n), 20, 10, stock=s) for n, s in enumerate(stocks)])


def fan(windows, width, shift=0.0):
    """Quantiles with a band of this daily width around the last close, moved by a log return."""
    spread = np.array([-1.64, -1.28, -0.67, 0, 0.67, 1.28, 1.64]) * width
    moves = shift + np.sqrt(np.arange(1, 11))[:, None] * spread
    return windows.inputs[:, -1, None, None] * np.exp(moves)


def test_each_improvement_is_the_difference_of_the_metrics():
    windows = windows_of(200, "VALE3")
    model, other = fan(windows, 0.02, shift=0.001), fan(windows, 0.03)
    scores = score_table(windows.targets, {"model": model, "other": other}, windows.inputs[:, -1])
    found = compare(windows, model, other)
    assert list(found) == list(UNITS)
    for measure, name in {"MAPE": "mape", "pinball": "pinball"}.items():
        assert found[measure].estimate == pytest.approx(100 * (1 - scores["model"][name] / scores["other"][name]))
    for nominal in (80, 90):
        errors = [abs(scores[name][f"coverage_{nominal}"] - nominal) for name in ("other", "model")]
        assert found[f"{nominal} % band"].estimate == pytest.approx(errors[0] - errors[1])
    for saved in found.values():
        assert saved.low < saved.estimate < saved.high


def test_a_band_that_is_too_narrow_is_worse_and_equal_forecasts_do_not_differ():
    windows = windows_of(200, "VALE3", "PETR4")
    good, narrow = fan(windows, 0.02), fan(windows, 0.007)
    found = compare(windows, narrow, good)
    assert all(found[band].high < -10 for band in ("80 % band", "90 % band"))
    assert found["MAPE"].estimate == 0
    for saved in compare(windows, good, good).values():
        assert (saved.low, saved.estimate, saved.high) == (0, 0, 0)


def test_errors_of_coverage_of_two_stocks_do_not_cancel():
    windows = windows_of(200, "VALE3", "PETR4")
    good, mixed = fan(windows, 0.02), fan(windows, 0.02)
    for factor, (_, place) in zip((0.014, 0.04), windows.by_stock(), strict=True):
        mixed[place] = fan(windows, factor)[place]
    assert compare(windows, mixed, good)["80 % band"].estimate < -8


def test_windows_without_a_forecast_of_the_other_one_are_left_out():
    windows = windows_of(100, "VALE3", "PETR4")
    model, other = fan(windows, 0.02), fan(windows, 0.03)
    first = next(place for _, place in windows.by_stock())
    other[first] = np.nan
    rest = windows.where(~np.isnan(other[:, 0, 0]))
    assert compare(windows, model, other) == compare(rest, fan(rest, 0.02), fan(rest, 0.03))
    none = compare(windows, model, np.full_like(other, np.nan))
    assert all(np.isnan(saved.estimate) for saved in none.values())


@pytest.mark.parametrize(("days", "known"), [(39, False), (40, True), (56, True)])
def test_an_interval_needs_four_horizons_of_dates(days, known):
    windows = windows_of(days, "VALE3")
    found = compare(windows, fan(windows, 0.02), fan(windows, 0.03))["pinball"]
    assert np.isfinite(found.estimate)
    assert np.isfinite(found.high) == known
