import pytest

from pregao.promotion import judge


def test_the_first_model_is_served():
    assert judge("auto", mape=9.0, former=None, naive=2.5, finite=True).promoted


@pytest.mark.parametrize(
    ("mape", "former", "naive", "promoted"),
    [
        (2.5, 2.6, 2.5, True),  # better than the former
        (2.54, 2.5, 2.4, True),  # worse than both, within 2 %
        (2.56, 2.5, 2.5, False),  # clearly worse than both
        (2.56, 2.5, 2.55, True),  # clearly worse than the former only
        (2.56, 2.55, 2.5, True),  # clearly worse than last close only
    ],
)
def test_a_model_that_is_clearly_worse_than_both_is_not_served(mape, former, naive, promoted):
    verdict = judge("auto", mape, former, naive, finite=True)
    assert verdict.promoted is promoted
    assert f"{former:.3f}" in verdict.reason
    assert "may have trained on some of these windows" in verdict.reason


def test_a_champion_that_cannot_be_compared_leaves_last_close_as_the_bound():
    assert judge("auto", 2.5, float("nan"), 2.5, finite=True).promoted
    refused = judge("auto", 2.6, float("nan"), 2.5, finite=True)
    assert not refused.promoted
    assert "cannot be compared" in refused.reason


def test_promote_always_and_never_decide_by_themselves():
    assert judge("always", 99.0, 2.5, 2.5, finite=True).promoted
    assert not judge("never", 1.0, 2.5, 2.5, finite=True).promoted


@pytest.mark.parametrize("mode", ["auto", "always", "never"])
def test_what_is_not_finite_is_never_served(mode):
    assert not judge(mode, 2.0, None, 2.5, finite=False).promoted
    assert not judge(mode, float("nan"), None, 2.5, finite=True).promoted
