"""Scores of past forecasts, from the sums that the forecast log computes."""

import math
from typing import Any

import pandas as pd

from pregao.evaluation.metrics import skill
from pregao.files import or_null

SUMS = ["n", "squared", "naive_squared", "relative", "naive_relative", "inside_80", "inside_90"]


def accuracy(sums: pd.DataFrame) -> list[dict[str, Any]]:
    """Scores by stock, model and version, over all steps and by step, each compared with last close.

    RMSE in the stock's currency, the rest in percent. Forecasts of consecutive sessions share outcomes, so that a few
    days are weak evidence.

    Args:
        sums: one row per stock, model, version and step, from `ForecastLog.outcomes`.
    """
    found = []
    for _, part in sums.groupby(["stock", "model", "version"], sort=True):
        steps = [{"step": int(row["step"]), **_scores(row)} for row in part.to_dict("records")]
        span = {"first": part["first"].min().isoformat(), "last": part["last"].max().isoformat()}
        about = {name: part[name].iloc[0] for name in ("stock", "model")} | {"version": int(part["version"].iloc[0])}
        found.append({**about, **span, **_scores(part[SUMS].sum().to_dict()), "steps": steps})
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
