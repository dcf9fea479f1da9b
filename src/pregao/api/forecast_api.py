"""The LitAPI: ONNX Runtime in LitServe's inference process, which imports neither PyTorch nor pandas nor MLflow."""

import multiprocessing
import os
import signal
import threading
from functools import lru_cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import litserve

from pregao.errors import CorruptModel
from pregao.models.onnx import OnnxModel

Call = tuple[str, str, tuple[Any, ...]]
"""The folder of a model, the name of a method of `Forecaster`, and its arguments."""

MODELS_IN_MEMORY = 64


class ForecastAPI(litserve.LitAPI):  # type: ignore[misc] # LitServe has no types
    """Runs models. It reads neither registry nor prices: each call names the folder of its model.

    A change of the served model needs no message between the processes: the next call has another folder.
    """

    def setup(self, device: str) -> None:
        """Prepare the process; models are loaded at their first call, and stay in memory."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is the starter's
        threading.Thread(target=end_with_parent, daemon=True).start()
        self.load = lru_cache(MODELS_IN_MEMORY)(OnnxModel.load)

    def decode_request(self, request: list) -> list[Call]:  # type: ignore[type-arg] # LitServe's own annotation
        """The calls that share a trip, unchanged."""
        return request

    def predict(self, x: list[Call]) -> list[Any]:
        """The result of each call, which does not depend on the others; None where a model's files are damaged."""
        return [self.result(*call) for call in x]

    def encode_response(self, output: list[Any]) -> list[Any]:
        """The results, unchanged: the HTTP process adds the dates and the stock."""
        return output

    def result(self, folder: str, method: str, arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401
        """The result of one call."""
        try:
            return getattr(self.load(Path(folder)), method)(*arguments)
        except CorruptModel:
            return None


def end_with_parent() -> None:
    """End with the parent process: a parent that is killed cannot end its children."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
