"""Forecasts for stocks that share a model: the app in this process, its registry in a test's own home."""

import asyncio
import shutil
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pandas as pd
import pytest
from fastapi import FastAPI
from hydra import compose, initialize_config_dir

from pregao.api.app import configure_app
from pregao.api.config import ServeConfig
from pregao.cli import command as cli
from pregao.config import parse
from pregao.forecasting.compose import forecast_closes, forecast_stock
from pregao.forecasting.writer import ForecastWriter
from pregao.models.trained import TrainedModel, Window
from pregao.prices.symbols import Symbol
from pregao.tracking import registry, runs
from pregao.training.pipeline import Pipeline
from tests.conftest import random_walk, small_config, with_ranges


async def ask(batch):
    """The inference process's work, done in this process."""
    return [TrainedModel.load(Path(folder)).rows(Window(*seen)) for folder, seen in batch]


@asynccontextmanager
async def client_of(prices):
    with initialize_config_dir(str(cli.CONF), version_base=None):
        config = parse(ServeConfig, compose("serve", ["source=csv", f"source.path={prices}"]))
    app = FastAPI()
    configure_app(app, ask, config)
    forecasts = app.state.service.forecasts
    await forecasts.start()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        client.cached = forecasts.cached_answer
        yield client
    forecasts.close()


@pytest.fixture
def many(tmp_path):
    """PETR4, with daily ranges."""
    folder = tmp_path / "many"
    folder.mkdir()
    with_ranges(random_walk(seed=9)).to_csv(folder / "PETR4.csv", index=False)
    return folder


async def predict(client, **body):
    answer = await client.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_its_answer_is_predict_pys_bit_by_bit(shared, many):
    closes = pd.read_csv(many / "PETR4.csv")["close"].tolist()

    async def ask():
        async with client_of(many) as client:
            return await predict(client, stock="PETR4"), await predict(client, stock="PETR4", historical_data=closes)

    by_stock, by_closes = asyncio.run(ask())
    assert by_stock["model"]["stock"] == by_closes["model"]["stock"] == "SHARED"
    for told, expected in (
        (by_stock, forecast_stock("PETR4", "csv", many, ForecastWriter())),
        (by_closes, forecast_closes(closes, "PETR4")),
    ):
        assert {name: told[name] for name in expected.as_json()} == expected.as_json()


def test_a_stocks_own_model_wins_as_soon_as_it_is_served(shared, many):
    folder = many / "run"
    folder.mkdir()
    Pipeline(small_config(many, "stock=PETR4", "promote=never"), folder).run()

    async def ask():
        async with client_of(many) as client:
            former = await predict(client, stock="PETR4")
            assert client.cached("PETR4") is not None
            registry.set_champion(Symbol.parse("PETR4"), 1)
            assert client.cached("PETR4") is None
            return former, await predict(client, stock="PETR4"), await predict(client, stock="petr4.sa")

    former, own, again = asyncio.run(ask())
    assert (former["model"]["stock"], own["model"]["stock"]) == ("SHARED", "PETR4")
    assert former["forecast"] != own["forecast"]
    assert again == own
    # Written by a training, asked for by HTTP: the same bands.
    written = pd.read_csv(folder / "forecast.csv").drop(columns=["date"])
    told = pd.DataFrame(own["forecast"]).drop(columns=["date"])
    assert told[written.columns].to_numpy() == pytest.approx(written.to_numpy(), abs=1e-6)


def test_a_better_shared_model_takes_the_place_of_what_is_remembered(shared, many, tmp_path):
    symbol = Symbol.parse("SHARED")

    async def ask():
        async with client_of(many) as client:
            former = await predict(client, stock="PETR4")
            with runs.start_run(symbol, "better") as run:
                version = registry.register(run, symbol, shutil.copytree(shared, tmp_path / "model"))
            assert client.cached("PETR4") is not None, "it is registered, and not served yet"
            registry.set_champion(symbol, version)
            return former, await predict(client, stock="PETR4")

    former, later = asyncio.run(ask())
    assert (former["model"]["version"], later["model"]["version"]) == (1, 2)


def test_without_a_shared_model_a_stock_is_told_who_has_one_and_how_to_get_one(home, prices):
    folder = home / "outputs/VALE3/1"
    folder.mkdir(parents=True)
    Pipeline(small_config(prices), folder).run()

    async def ask():
        async with client_of(prices) as client:
            bodies = ({"stock": "ITUB4"}, {"stock": "ITUB4", "historical_data": [50.0 + n for n in range(20)]})
            return [await client.post("/predict", json=body) for body in bodies]

    for answer in asyncio.run(ask()):
        assert answer.status_code == 404
        told = answer.json()["detail"]
        assert told.startswith("ITUB4: no trained model; there are models for VALE3. Train one: ")
        assert 'POST /train {"stock": "ITUB4"' in told


@pytest.mark.parametrize("sizes", ["data.horizon=9", "data.lookback=30"])
def test_a_champion_of_other_sizes_is_not_served_and_the_answer_says_why(home, prices, sizes):
    """train.py may promote it; /predict promises ten prices after twenty closes."""

    def train(run, *overrides):
        folder = home / "outputs/VALE3" / run
        folder.mkdir(parents=True)
        return Pipeline(small_config(prices, *overrides), folder).run()

    train("1")

    async def ask():
        async with client_of(prices) as client:
            before = await predict(client, stock="VALE3")
            assert train("2", sizes, "promote=always").verdict.promoted
            answer = await client.post("/predict", json={"stock": "VALE3"})
            return before, answer, (await client.get("/health")).json()["problems"]

    before, answer, problems = asyncio.run(ask())
    assert before["model"]["version"] == 1
    assert answer.status_code == 404
    [problem] = problems
    assert problem.startswith(
        "VALE3 version 2 is not served: /predict answers with 10 prices after 20 closes, and this"
    )
    assert problem in answer.json()["detail"]
