"""The rules of `promote=auto`: a new model is served unless it is below a floor, outdated or significantly worse.

It need not be better than another one. It is compared, on its test windows, with the model that answers now (the
stock's champion, else SHARED), with the best version that was served so far (alias `best`), with last close and with
EWMA. `best` moves only to a model whose pinball loss is not higher, so the margins of many trainings do not add up.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pregao.evaluation.comparison import UNITS
from pregao.evaluation.significance import Saved
from pregao.models.card import ModelCard

MARGIN = 2.0
"""How much worse than another forecast a model may be: percent of MAPE and pinball, percentage points of coverage."""

LEAST_SKILL = -2.0
"""Percent of last close's MAPE."""

BAND_80 = (70.0, 90.0)
"""Percent of the closes that the 80 % band may hold."""

EWMA = "EWMA"


@dataclass(frozen=True)
class Verdict:
    """Whether a new version is served, and the reason as the end of a sentence.

    Attributes:
        promoted: whether it is served.
        reason: the rule and the figures.
        best: whether later versions are compared with it, instead of the best one so far.
    """

    promoted: bool
    reason: str
    best: bool = False


@dataclass(frozen=True)
class Rival:
    """Another forecast of the same windows.

    Attributes:
        name: as it stands in a sentence.
        gained: improvement of the new model on it, by measure of `UNITS`; None if it cannot be compared.
        is_best: whether it is the best version so far.
    """

    name: str
    gained: Mapping[str, Saved] | None
    is_best: bool = False

    @property
    def worse(self) -> list[str]:
        """The measures whose 95 % interval is beyond the margin, with their figures."""
        return [
            f"{measure} {gained} {UNITS[measure]}"
            for measure, gained in (self.gained or {}).items()
            if gained.high < -MARGIN  # NaN, without an interval: only the floor decides
        ]

    def __str__(self) -> str:
        if self.gained is None:
            return f"{self.name}: it cannot be compared"
        return f"{self.name}: {', '.join(f'{name} {gained} {UNITS[name]}' for name, gained in self.gained.items())}"


def outdated(card: ModelCard, split: str, served: ModelCard, name: str) -> str | None:
    """Why a model must not replace a newer one, as the end of a sentence; None if it is not older.

    Args:
        card: of the new model.
        split: its `evaluation.split`.
        served: the card of the model that answers now.
        name: of that model, in a sentence.
    """
    if card.data_end < served.data_end:
        return f"outdated: its closes end on {card.data_end}, and those of {name} on {served.data_end}"
    if split != "date" and card.validation_end < served.validation_end:
        return (
            f"outdated: with evaluation.split={split} it is fitted on closes up to {card.validation_end}, and {name} "
            f"on closes up to {served.validation_end}"
        )
    return None


def decide(skill: float, coverage_80: float, rivals: Sequence[Rival], outdated: str | None = None) -> Verdict:
    """Decide by the scores of the new model and its comparison with other forecasts, EWMA among them.

    Args:
        skill: MAPE reduction against last close, in percent.
        coverage_80: percent of the closes in the 80 % band.
        rivals: the other forecasts.
        outdated: why the model is older than the one that answers; None if it is not.
    """
    saved = next(
        (rival.gained["pinball"].estimate for rival in rivals if rival.name == EWMA and rival.gained), math.nan
    )
    refused = [outdated] if outdated else []
    refused += [f"below the floor: {reason}" for reason in _below_the_floor(skill, coverage_80, saved)]
    refused += [
        f"significantly worse than {rival.name}, by more than {MARGIN:g}: {', '.join(worse)}"
        for rival in rivals
        if (worse := rival.worse)
    ]
    if refused:
        return Verdict(False, "; ".join(refused))
    others = [f"against {rival.name} {rival.gained['pinball']} %" for rival in rivals if rival.gained]
    reason = f"above the floor (skill {skill:+.2f} %, 80 % band {coverage_80:.1f} %); pinball {', '.join(others)}"
    reason += "".join(f"; {rival.name} cannot be compared" for rival in rivals if rival.gained is None)
    return Verdict(True, reason, best=all(_is_as_good_as(rival) for rival in rivals if rival.is_best))


def _below_the_floor(skill: float, coverage_80: float, saved: float) -> list[str]:
    """The rules of the floor that the figures break; a figure that is not known breaks its rule."""
    least, most = BAND_80
    rules = {
        f"skill {skill:+.2f} % against last close, and at least {LEAST_SKILL:g} % is needed": skill >= LEAST_SKILL,
        f"the 80 % band holds {coverage_80:.1f} % of the closes, and {least:g} to {most:g} % are needed": (
            least <= coverage_80 <= most
        ),
        f"pinball {-saved:+.2f} % against EWMA's, and at most {MARGIN:+g} % is allowed": saved >= -MARGIN,
    }
    return [reason for reason, holds in rules.items() if not holds]


def _is_as_good_as(best: Rival) -> bool:
    """Whether the new model takes the place of the best version: by pinball, or since the two cannot be compared."""
    return best.gained is None or best.gained["pinball"].estimate >= 0
