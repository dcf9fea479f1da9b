"""The command line, the API and the dashboard return the same forecast."""

import json

import pandas as pd

from tests.api.conftest import client_of
from tests.dashboard.conftest import home_with_runs, open_page, stocks, with_runs  # noqa: F401 - fixtures
from tests.golden import in_one_process

BANDS = ["close", "lower_80", "upper_80", "lower_90", "upper_90"]


def numbers(rows):
    return pd.DataFrame(rows)[BANDS].to_numpy().tolist()


def test_the_command_line_the_api_and_the_dashboard_give_the_same_numbers(open_page, with_runs, stocks):  # noqa: F811
    closes = pd.read_csv(stocks / "VALE3.csv")["close"].tolist()
    source = ["predict", "stock=VALE3", "source=csv", f"source.path={stocks}", "format=json"]
    printed = in_one_process([source, [*source, f"closes={closes}"]], with_runs)
    commands = [json.loads(text) for _, text in printed]
    with client_of(stocks) as client:
        bodies = ({"stock": "VALE3"}, {"stock": "VALE3", "historical_data": closes})
        answers = [client.post("/predict", json=body).json() for body in bodies]
    app = open_page("forecast")
    pages = [app.dataframe[0].value]
    app.segmented_control(key="origin").set_value("pasted").run()
    app.text_area(key="pasted").set_value(" ".join(map(str, closes))).run()
    pages.append(app.dataframe[0].value)
    for answer, command, page in zip(answers, commands, pages, strict=True):
        assert numbers(answer["forecast"]) == numbers(command["forecast"]) == numbers(page)
        assert {name: answer[name] for name in command} == command
