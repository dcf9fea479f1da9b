"""The promotion rule: a served model is never worse by accident."""

import math
from dataclasses import dataclass
from typing import Literal

TOLERANCE = 1.02
"""A new model may be 2 % worse, relative, before it counts as clearly worse: less is noise between trainings."""


@dataclass(frozen=True)
class Verdict:
    """Whether a new version is served, and the reason as a sentence's end."""

    promoted: bool
    reason: str


def judge(
    mode: Literal["auto", "always", "never"], mape: float, former: float | None, naive: float, finite: bool
) -> Verdict:
    """Decide by the MAPE, in percent, of the new model, the former champion's and last close's on the same windows.

    `former` is None when there is no champion, or none that forecasts the same steps; `finite` says that a forecast of
    the new version, read back from the registry, holds positive finite prices only.
    """
    if not (finite and math.isfinite(mape)):
        return Verdict(False, "its forecast is not finite")
    if mode != "auto":
        return Verdict(mode == "always", f"promote={mode}")
    if former is None:
        return Verdict(True, "there is no former champion to compare with")
    compared = (
        f"MAPE {mape:.3f} % against the former champion's {former:.3f} % and last close's {naive:.3f} % "
        "(the former champion may have trained on some of these windows)"
    )
    clearly_worse = mape > TOLERANCE * former and mape > TOLERANCE * naive
    return Verdict(not clearly_worse, f"clearly worse: {compared}" if clearly_worse else compared)
