"""What the API is measured against: the same network behind a bare FastAPI, and behind Flask.

Both run the network for every request and answer with the same numbers. Neither knows prices, bands' dates, a registry
or a key.
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


class Asked(BaseModel):
    """The same body as ours."""

    stock: str | None = None
    historical_data: list[float] | None = None


def answer(closes: list[float] | None) -> dict[str, Any]:
    """The same numbers as ours."""
    rows = MODEL.rows(MODEL.window(LATEST if closes is None else closes))
    prices = ", ".join(f"{row['close']:.2f}" for row in rows)
    return {"stock": "VALE3", "prediction": rows[0]["close"], "forecast": rows, "preco": f"[{prices}]"}


bare = FastAPI()


@bare.post("/predict")
async def predict(asked: Asked) -> dict[str, Any]:
    """The network runs in the event loop: for one so small that is the fastest way."""
    return answer(asked.historical_data)


flask = Flask("peers")


@flask.post("/predict")
def predict_of_flask() -> Response:
    """The same."""
    return Response(json.dumps(answer(request.get_json().get("historical_data"))), mimetype="application/json")
