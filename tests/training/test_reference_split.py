"""The figures that the README shows, on real prices."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import run

pytestmark = pytest.mark.slow

BOUNDS = {"VALE3": (2.481, 2.50), "PETR4": (3.048, 3.08)}
"""By stock: last close's MAPE in percent, and what the default recipe must not exceed."""


def train(stock, prices, home, *overrides):
    """The metrics, the folder and the output of a training."""
    chosen = [f"stock={stock}", "source=csv", f"source.path={prices}", *overrides]
    done = run("train.py", *chosen, home=home, timeout=300)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.splitlines()[-1])
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8")), folder, done.stdout


@pytest.mark.parametrize("stock", BOUNDS)
def test_the_default_recipe_is_as_good_as_last_close(real_prices, home, stock):
    metrics, folder, _ = train(stock, real_prices, home, "evaluation.split=reference")
    naive, bound = BOUNDS[stock]
    assert metrics["n_test"] == 407
    assert metrics["naive_mape"] == pytest.approx(naive, abs=5e-4)
    assert metrics["final_mape"] <= bound
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["end"] == "2025-07-25", "the published comparison's last session"
    forecasts = pd.read_csv(folder / "evaluation.csv").pivot(index="cutoff", columns="step", values="y_hat")
    assert (forecasts.nunique(axis=1) == 10).mean() > 0.99, "no flat line, so last close is not repeated"
    assert metrics["final_mape"] != pytest.approx(metrics["naive_mape"], abs=1e-6)


def test_the_published_recipe_reports_that_it_loses(real_prices, home):
    metrics, _, table = train("VALE3", real_prices, home, "experiment=reference")
    assert metrics["n_test"] == 407
    assert metrics["epochs"] == 150
    assert metrics["skill_mape"] < -20
    assert f"{metrics['skill_mape']:+.2f}" in table
    assert "not served" in table
