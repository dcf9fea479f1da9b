"""The peers of the API benchmark: the same network behind a bare FastAPI and behind Flask.

Both run the network for every request and return the same numbers, without prices, dates, registry or API key.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI
from flask import Flask, Response, request
from pydantic import BaseModel

from pregao.models.trained import TrainedModel

torch.set_num_threads(1)

MODEL = TrainedModel.load(Path(os.environ["PREGAO_BENCHMARK_MODEL"]))
LATEST = [50 + (7 * i % 11) / 10 for i in range(20)]


class PredictBody(BaseModel):
    """The request body of Pregão's POST /predict."""

    stock: str | None = None
    historical_data: list[float] | None = None


def answer(closes: list[float] | None) -> dict[str, Any]:
    """The numbers of Pregão's answer."""
    rows = MODEL.rows(MODEL.window(LATEST if closes is None else closes))
    prices = ", ".join(f"{row['close']:.2f}" for row in rows)
    return {"stock": "VALE3", "prediction": rows[0]["close"], "forecast": rows, "preco": f"[{prices}]"}


bare = FastAPI()


@bare.post("/predict")
async def predict(body: PredictBody) -> dict[str, Any]:
    """Run the network in the event loop, which is fastest for a small network."""
    return answer(body.historical_data)


flask = Flask("peers")


@flask.post("/predict")
def predict_of_flask() -> Response:
    """POST /predict of Flask."""
    return Response(json.dumps(answer(request.get_json().get("historical_data"))), mimetype="application/json")
