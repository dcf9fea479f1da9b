"""The pages in Streamlit's own test harness, on prices that are made here."""

import shutil
import sys

import pytest
import streamlit as st
from hydra import compose, initialize_config_dir
from streamlit.testing.v1 import AppTest

from pregao.cli import command as cli
from pregao.cli.dashboard import APP
from pregao.config import parse
from pregao.dashboard.config import DashboardConfig
from pregao.forecasting.log import ForecastLog
from pregao.settings import settings
from pregao.training.pipeline import Pipeline
from tests.conftest import random_walk, small_config


@pytest.fixture(scope="session")
def stocks(tmp_path_factory):
    """A folder of csv files: VALE3 with opens and volumes, PETR4 of closes alone, SHRT3 too short for a training."""
    folder = tmp_path_factory.mktemp("stocks")
    for seed, stock in enumerate(("VALE3", "PETR4", "SHRT3")):
        table = random_walk(seed=seed, n=60 if stock == "SHRT3" else 400)
        if stock == "VALE3":
            close = table["close"]
            table = table.assign(open=close * 0.99, high=close * 1.02, low=close * 0.98, volume=1e6)
        table.to_csv(folder / f"{stock}.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def home_with_runs(tmp_path_factory, empty_database, stocks):
    """Two runs of VALE3; the newer one is served or not, as the promotion rule has it."""
    home = tmp_path_factory.mktemp("runs")
    (home / "mlruns").mkdir()
    shutil.copy(empty_database, home / "mlruns" / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREGAO_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr("pregao.settings.SHIPPED", home / "no models are shipped")
        for number, overrides in enumerate(((), ("seed=1",))):
            folder = home / "outputs/VALE3" / str(number)
            folder.mkdir(parents=True)
            Pipeline(small_config(stocks, *overrides), folder).run()
    return home


@pytest.fixture
def with_runs(home_with_runs, home, monkeypatch):
    monkeypatch.setenv("PREGAO_HOME", str(home_with_runs))
    return home_with_runs


@pytest.fixture
def log(with_runs):
    """The empty log of that home's forecasts."""
    found = ForecastLog(settings().forecasts_uri)
    found.file.unlink(missing_ok=True)
    return found


@pytest.fixture
def open_page(home, stocks, monkeypatch):
    """A page as a visitor sees it; further overrides are those of pregao dashboard."""
    st.cache_resource.clear()

    def opened(page="prices", *overrides, language="en", stock=None):
        given = overrides or ("source=csv", f"source.path={stocks}")
        with initialize_config_dir(str(cli.CONF), version_base=None):
            config = parse(DashboardConfig, compose("dashboard", [*given, f"language={language}"]))
        monkeypatch.setattr(sys, "argv", ["app.py", config.model_dump_json()])
        app = AppTest.from_file(str(APP), default_timeout=60)
        if stock is not None:
            app.query_params["stock"] = stock
        app.run()
        if page != "prices":
            app.switch_page(f"{page}.py").run()
        return app

    return opened


def text_of(app):
    """All that the page says in sentences."""
    assert not app.exception
    kinds = (app.error, app.warning, app.info, app.caption, app.success, app.markdown)
    return "\n".join(element.value for kind in kinds for element in kind)


def metrics(app):
    return {metric.label: metric.value for metric in app.metric}
