"""The command line, the API and the dashboard answer alike."""

import asyncio
import json

import pandas as pd
import pytest

from tests.api.test_shared import client_of, predict
from tests.conftest import run
from tests.dashboard.conftest import home_with_runs, open_page, stocks, with_runs  # noqa: F401 - fixtures

BANDS = ["close", "lower_80", "upper_80", "lower_90", "upper_90"]


def numbers(rows):
    return pd.DataFrame(rows)[BANDS].to_numpy().tolist()


async def by_http(prices, **body):
    async with client_of(prices) as client:
        return await predict(client, **body)


@pytest.mark.parametrize("origin", ["stock", "closes"])
def test_the_three_ways_to_a_forecast_give_the_same_numbers(open_page, with_runs, stocks, origin):  # noqa: F811
    closes = pd.read_csv(stocks / "VALE3.csv")["close"].tolist()
    given = {} if origin == "stock" else {"historical_data": closes}
    answer = asyncio.run(by_http(stocks, stock="VALE3", **given))
    source = ("stock=VALE3", "source=csv", f"source.path={stocks}", "format=json")
    choice = [f"closes={closes}"] if given else []
    printed = run("predict.py", *source, *choice, home=with_runs)
    assert printed.returncode == 0, printed.stderr
    app = open_page("forecast")
    if given:
        app.segmented_control(key="origin").set_value("pasted").run()
        app.text_area(key="pasted").set_value(" ".join(map(str, closes))).run()
    command = json.loads(printed.stdout)
    assert numbers(answer["forecast"]) == numbers(command["forecast"]) == numbers(app.dataframe[0].value)
    assert {name: answer[name] for name in command} == command
