"""The peer of the API benchmark: a bare FastAPI with the same network, in ONNX Runtime or in PyTorch.

It remembers the answer of a stock in a dict and runs the network for given closes, without prices, dates, registry or
key. PREGAO_BENCHMARK_RUNTIME is `onnx` or `torch`.
"""

import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from pregao.models.forecaster import Forecaster

MODEL = Path(os.environ["PREGAO_BENCHMARK_MODEL"])


def load() -> Forecaster:
    """The model in the chosen runtime."""
    if os.environ["PREGAO_BENCHMARK_RUNTIME"] == "onnx":
        from pregao.models.onnx import OnnxModel

        return OnnxModel.load(MODEL)
    import torch

    from pregao.models.trained import TrainedModel

    torch.set_num_threads(1)
    return TrainedModel.load(MODEL)


class PredictBody(BaseModel):
    """The request body of Pregão's POST /predict."""

    stock: str | None = None
    historical_data: list[float] | None = None


def answer(closes: list[float]) -> dict[str, Any]:
    """The numbers of Pregão's answer."""
    rows = model.rows(model.window(closes))
    prices = ", ".join(f"{row['close']:.2f}" for row in rows)
    return {"stock": "VALE3", "prediction": rows[0]["close"], "forecast": rows, "preco": f"[{prices}]"}


model = load()
remembered = {"VALE3": answer([50 + (7 * i % 11) / 10 for i in range(20)])}
bare = FastAPI()


@bare.post("/predict")
async def predict(body: PredictBody) -> dict[str, Any]:
    """Run the network in the event loop, which is fastest for a small network."""
    return remembered[body.stock or "VALE3"] if body.historical_data is None else answer(body.historical_data)
