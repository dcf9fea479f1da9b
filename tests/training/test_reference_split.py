"""The figures that the README shows, on real prices."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import run

pytestmark = pytest.mark.slow


def train(prices, home, *overrides):
    """The metrics, the folder and the output of a training of VALE3."""
    done = run("train.py", "stock=VALE3", "source=csv", f"source.path={prices}", *overrides, home=home, timeout=300)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.splitlines()[-1])
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8")), folder, done.stdout


def test_the_default_recipe_is_as_good_as_last_close(real_prices, home):
    metrics, folder, _ = train(real_prices, home, "evaluation.split=reference")
    assert metrics["n_test"] == 407
    assert metrics["naive_mape"] == pytest.approx(2.481, abs=5e-4)
    assert metrics["final_mape"] <= 2.50
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["end"] == "2025-07-25", "the published comparison's last session"
    forecasts = pd.read_csv(folder / "evaluation.csv").pivot(index="cutoff", columns="step", values="y_hat")
    assert (forecasts.nunique(axis=1) == 10).mean() > 0.99, "no flat line, so last close is not repeated"
    assert metrics["final_mape"] != pytest.approx(metrics["naive_mape"], abs=1e-6)


def test_the_published_recipe_reports_that_it_loses(real_prices, home):
    """After 20 of its 150 epochs too."""
    metrics, _, table = train(real_prices, home, "experiment=reference", "trainer.max_epochs=20")
    assert metrics["n_test"] == 407
    assert metrics["skill_mape"] < -20
    assert f"{metrics['skill_mape']:+.2f}" in table
    assert "not served" in table
