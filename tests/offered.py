"""Print the choices of POST /train and of the dashboard as JSON; test_recipes.py runs this in a copy of the code."""

import json
import sys

from fastapi import FastAPI
from hydra import compose, initialize_config_dir
from streamlit.testing.v1 import AppTest

from pregao.api.routes import routes
from pregao.cli.command import CONF
from pregao.cli.dashboard import APP
from pregao.config import parse
from pregao.dashboard.config import DashboardConfig


def overrides():
    """The JSON schema of each override of POST /train."""
    app = FastAPI()
    app.include_router(routes)
    return app.openapi()["components"]["schemas"]["Overrides"]["properties"]


def fields(model):
    """The models of the training page, and the values of the fields of one of them by label."""
    with initialize_config_dir(str(CONF), version_base=None):
        config = parse(DashboardConfig, compose("dashboard", ["language=en"]))
    sys.argv = ["app.py", config.model_dump_json()]
    app = AppTest.from_file(str(APP), default_timeout=120).run().switch_page("train.py").run()
    chosen = next(box for box in app.selectbox if box.label == "Model")
    chosen.set_value(model).run()
    assert not app.exception
    return {"models": chosen.options, "values": {field.label: field.value for field in app.number_input}}


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"overrides": overrides(), "page": fields(sys.argv[1])}))
