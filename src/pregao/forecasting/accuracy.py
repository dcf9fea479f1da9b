"""Scores of past forecasts, from the sums that the forecast log computes."""

import math
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from pregao.evaluation.metrics import skill
from pregao.files import or_null

SUMS = ["n", "squared", "naive_squared", "relative", "naive_relative", "inside_80", "inside_90"]


def accuracy(sums: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Scores by stock, model and version, over all steps and by step, each compared with last close.

    RMSE in the stock's currency, the rest in percent. Forecasts of consecutive sessions share outcomes, so that a few
    days are weak evidence.

    Args:
        sums: one row per stock, model, version and step, in this order, from `ForecastLog.outcomes`.
    """
    found = []
    # pandas takes a millisecond per group, and a year of weekly trainings makes ten thousand.
    for (stock, model, version), part in groupby(sums, itemgetter("stock", "model", "version")):
        rows = list(part)
        steps = [{"step": row["step"], **_scores(row)} for row in rows]
        about = {"stock": stock, "model": model, "version": version}
        span = {"first": min(row["first"] for row in rows), "last": max(row["last"] for row in rows)}
        total = _scores({name: sum(row[name] for row in rows) for name in SUMS})
        found.append({**about, **{name: day.isoformat() for name, day in span.items()}, **total, "steps": steps})
    return found


def _scores(sums: dict[Any, Any]) -> dict[str, Any]:
    n = int(sums["n"])
    model = {"rmse": math.sqrt(sums["squared"] / n), "mape": 100 * sums["relative"] / n}
    naive = {"rmse": math.sqrt(sums["naive_squared"] / n), "mape": 100 * sums["naive_relative"] / n}
    skills = {f"skill_{name}": skill(model[name], naive[name]) for name in model}
    return {
        "n": n,
        **model,
        **{f"naive_{name}": value for name, value in naive.items()},
        **or_null(skills),
        **{f"coverage_{percent}": 100 * sums[f"inside_{percent}"] / n for percent in (80, 90)},
    }
