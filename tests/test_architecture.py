"""The floors of the house: a file imports only from its own floor or below."""

import ast
import re
from pathlib import Path

import pytest

from pregao.settings import REPOSITORY

PACKAGE = REPOSITORY / "src/pregao"
FILES = sorted(PACKAGE.rglob("*.py"))

FLOORS = [
    {"errors", "settings", "config"},
    {"quantiles", "volatility", "network", "windows", "panel", "trained_model", "prices"},
    {
        *("tracking", "pyfunc_model", "promotion", "evaluation", "datamodule", "forecaster", "training", "rolling"),
        *("statistics", "drift", "forecast_log", "keeper", "migrations", "diagram"),
    },
    {
        *("pipeline", "forecasting", "backtest", "backtest_folder", "progress", "jobs", "judging", "sweep", "search"),
        "search_space",
    },
    {"cli", "terminal", "api", "dashboard"},
]


def floor(name):
    [found] = [number for number, names in enumerate(FLOORS) if name in names]
    return found


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "pregao":
            yield from (f"pregao.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def room(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "cli" if parts[-1] == "__main__" else parts[0]  # a command stands on the top floor, wherever its file lies


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.name != "__init__.py"], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_a_file_imports_from_its_own_floor_or_below(path):
    below = {name.split(".")[1] for name in imports(path) if name.startswith("pregao.")}
    assert all(floor(name) <= floor(room(path)) for name in below)


def test_only_tracking_and_its_model_know_mlflow():
    knows = {room(path) for path in FILES if any(name.split(".")[0] == "mlflow" for name in imports(path))}
    assert knows == {"tracking", "pyfunc_model"}


def test_evaluation_knows_no_model():
    for path in (PACKAGE / "evaluation").glob("*.py"):
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("pregao.")}
        assert ours <= {"evaluation", "quantiles", "windows", "errors"}


def test_nothing_loads_a_pickle():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert not {name.split(".")[0] for name in imports(path)} & {"pickle", "joblib", "dill", "cloudpickle"}
        assert all("weights_only=True" in call for call in re.findall(r"torch\.load\(.*", text))


@pytest.mark.parametrize("entry", ["train.py", "tune.py", "predict.py", "backtest.py", "serve.py"])
def test_a_command_is_a_thin_entry(entry):
    assert len(Path(REPOSITORY / entry).read_text(encoding="utf-8").splitlines()) <= 40
