"""The pages in Streamlit's test harness, on synthetic prices."""

import sys

import pyarrow as pa
import pytest
import streamlit as st
from hydra import compose, initialize_config_dir
from streamlit.testing.v1 import AppTest

from pregao.cli import command as cli
from pregao.cli.dashboard import APP
from pregao.config import parse
from pregao.dashboard.config import DashboardConfig
from pregao.dashboard.sentences import SENTENCES
from pregao.forecasting.log import ForecastLog
from pregao.settings import settings
from pregao.training.pipeline import Pipeline
from tests.conftest import random_walk, settle, small_config, with_ranges

CHARTS = "vega_lite_chart"


@pytest.fixture(scope="session")
def stocks(tmp_path_factory):
    """CSV files: VALE3 with ranges and volumes, PETR4 with closes only, SHRT3 too short for a training."""
    folder = tmp_path_factory.mktemp("stocks")
    with_ranges(random_walk()).assign(volume=1e6).to_csv(folder / "VALE3.csv", index=False)
    random_walk(seed=1).to_csv(folder / "PETR4.csv", index=False)
    random_walk(60).to_csv(folder / "SHRT3.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def home_with_runs(tmp_path_factory, empty_database, stocks):
    """Two runs of VALE3, one of them served."""
    with pytest.MonkeyPatch.context() as patch:
        home = settle(tmp_path_factory.mktemp("runs"), empty_database, patch)
        for number, overrides in enumerate(((), ("seed=1",))):
            folder = home / "outputs/VALE3" / str(number)
            folder.mkdir(parents=True)
            learning = ("optimizer.learning_rate=0.05", "model.shrinkage=1")  # forecasts differ from the last close
            Pipeline(small_config(stocks, *learning, *overrides), folder).run()
    return home


@pytest.fixture
def with_runs(home_with_runs, home, monkeypatch):
    monkeypatch.setenv("PREGAO_HOME", str(home_with_runs))
    return home_with_runs


@pytest.fixture
def log(with_runs):
    """The empty forecast log of that home."""
    found = ForecastLog(settings().forecasts_uri)
    found.file.unlink(missing_ok=True)
    return found


@pytest.fixture
def open_page(home, stocks, monkeypatch):
    """Opens a page with the prices of a folder, or with these overrides of pregao dashboard."""

    def opened(page="prices", *overrides, language="en", stock=None, folder=stocks):
        st.cache_resource.clear()
        given = overrides or ("source=csv", f"source.path={folder}")
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
    """All messages and captions of a page that did not fail."""
    assert not app.exception
    kinds = (app.error, app.warning, app.info, app.caption, app.success, app.markdown)
    text = "\n".join(element.value for kind in kinds for element in kind).replace("\\", "")
    assert not any(sentence in text for sentence in SENTENCES["internal"])
    return text


def metrics(app):
    return {metric.label: metric.value for metric in app.metric}


def chart_data(app, number=0):
    """The tables of a chart, in the order of its layers."""
    return [pa.ipc.open_stream(each.data.data).read_pandas() for each in app.get(CHARTS)[number].proto.datasets]
