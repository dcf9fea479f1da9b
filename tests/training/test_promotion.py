import math
from types import SimpleNamespace

import pytest

from pregao.evaluation.significance import Saved
from pregao.models.card import not_for_predict
from pregao.training.promotion import Rival, decide, outdated

NAN = math.nan
SERVED, BEST = "version 3 (served now)", "version 2 (the best so far)"


def saved(estimate, half=0.5):
    return Saved(estimate, estimate - half, estimate + half)


def rival(name, is_best=False, half=0.5, **figures):
    """A rival that the new model equals but for these figures."""
    figures = dict.fromkeys(("MAPE", "pinball", "80", "90"), 0.0) | figures
    gained = {f"{key} % band" if key.isdigit() else key: saved(figure, half) for key, figure in figures.items()}
    return Rival(name, gained, is_best)


def verdict(*rivals, skill=-0.1, coverage_80=79.0, ewma=0.5, **more):
    return decide(skill, coverage_80, [*rivals, rival("last close", MAPE=skill), rival("EWMA", pinball=ewma)], **more)


def test_a_model_that_is_not_better_than_any_other_is_served():
    found = verdict(rival(SERVED, is_best=True, pinball=-1.9, MAPE=-1.9, **{"80": -1.9, "90": -1.9}))
    assert (found.promoted, found.best) == (True, False)
    assert found.reason == (
        "above the floor (skill -0.10 %, 80 % band 79.0 %); pinball against version 3 (served now) "
        "-1.90 [-2.40, -1.40] %, against last close +0.00 [-0.50, +0.50] %, against EWMA +0.50 [+0.00, +1.00] %"
    )


@pytest.mark.parametrize("measure", ["MAPE", "pinball", "80", "90"])
def test_a_model_is_refused_if_the_interval_of_one_measure_is_beyond_the_margin(measure):
    found = verdict(rival(SERVED, **{measure: -2.6}))
    assert not found.promoted
    assert found.reason.startswith("significantly worse than version 3 (served now), by more than 2: ")
    assert "-2.60 [-3.10, -2.10]" in found.reason
    assert verdict(rival(SERVED, **{measure: -2.4})).promoted, "the interval holds differences within the margin"
    assert verdict(rival(SERVED, half=NAN, **{measure: -9.0})).promoted, "without an interval only the floor decides"


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({"skill": -1934.2}, "below the floor: skill -1934.20 % against last close, and at least -2 % is needed"),
        ({"skill": -2.01}, "below the floor: skill"),
        ({"skill": NAN}, "below the floor: skill"),
        ({"coverage_80": 41.7}, "below the floor: the 80 % band holds 41.7 % of the closes, and 70 to 90 % are needed"),
        ({"coverage_80": 90.1}, "below the floor: the 80 % band holds 90.1 %"),
        ({"ewma": -2.01}, "below the floor: pinball +2.01 % against EWMA's, and at most +2 % is allowed"),
        ({"ewma": NAN}, "below the floor: pinball"),
    ],
)
def test_a_model_below_the_floor_is_refused_with_and_without_a_predecessor(figures, reason):
    for predecessors in ([], [rival(SERVED, is_best=True, pinball=9.0)]):
        found = verdict(*predecessors, **figures)
        assert not found.promoted
        assert found.reason.startswith(reason)


def test_a_model_on_the_floor_is_served():
    assert verdict(skill=-2.0, coverage_80=70.0, ewma=-2.0).promoted
    assert verdict(coverage_80=90.0).promoted


def test_without_ewma_the_floor_cannot_be_judged():
    assert not decide(0.0, 80.0, [rival("last close")]).promoted


def test_every_rule_that_is_broken_is_named():
    found = verdict(rival(SERVED, pinball=-9.0), coverage_80=41.7, outdated="outdated: a reason")
    assert [part.split(":")[0] for part in found.reason.split("; ")][:3] == [
        "outdated",
        "below the floor",
        "significantly worse than version 3 (served now), by more than 2",
    ]


def test_five_models_that_are_each_slightly_worse_do_not_add_up():
    """Pinball in percent of the first model's; each model is compared with the last served one and with the best."""
    best = champion = 100.0
    served = []
    for pinball in (101.5, 103.0, 104.5, 106.0, 107.5):
        lost = {"pinball": 100 * (1 - pinball / champion)}
        best_rival = rival(BEST, is_best=True, half=0.2, pinball=100 * (1 - pinball / best))
        found = verdict(rival(SERVED, half=0.2, **lost), best_rival)
        served.append(found.promoted)
        champion = pinball if found.promoted else champion
        best = pinball if found.best else best
    assert served == [True, False, False, False, False]
    assert (best, champion) == (100.0, 101.5)


@pytest.mark.parametrize(("pinball", "best"), [(0.0, True), (0.4, True), (-0.1, False)])
def test_a_model_with_no_higher_pinball_is_the_best_one_from_now_on(pinball, best):
    assert verdict(rival(SERVED, pinball=-1.0), rival(BEST, is_best=True, pinball=pinball)).best is best


def test_a_version_that_cannot_be_compared_does_not_block_and_is_no_longer_the_best():
    found = verdict(Rival(SERVED, None, is_best=True))
    assert (found.promoted, found.best) == (True, True)
    assert "version 3 (served now) cannot be compared" in found.reason


def card(data_end, validation_end="2024-09-16"):
    return SimpleNamespace(data_end=data_end, validation_end=validation_end)


@pytest.mark.parametrize(
    ("new", "split", "reason"),
    [
        (card("2021-12-30"), "date", "its closes end on 2021-12-30, and those of version 3 on 2025-07-28"),
        (card("2025-07-25"), "reference", "its closes end on 2025-07-25"),
        (
            card("2025-07-28", "2023-11-23"),
            "reference",
            "on closes up to 2023-11-23, and version 3 on closes up to 2024-09-16",
        ),
        (card("2025-07-28"), "reference", None),
        (card("2025-07-28", "2023-11-23"), "date", None),
        (card("2025-07-29", "2024-09-17"), "date", None),
    ],
)
def test_a_model_of_older_closes_is_outdated(new, split, reason):
    found = outdated(new, split, card("2025-07-28"), "version 3")
    assert (found is None) if reason is None else reason in found


def test_only_the_sizes_of_predict_are_for_predict():
    assert not_for_predict(20, 10) is None
    assert "forecasts 10 after 30" in not_for_predict(30, 10)
    assert "forecasts 5 after 20" in not_for_predict(20, 5)
