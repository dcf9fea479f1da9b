"""The inference process: LitServe sends it batches of windows, it returns the rows of their forecasts."""

import multiprocessing
import os
import signal
import threading
from functools import lru_cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import litserve

from pregao.errors import CorruptModel

if TYPE_CHECKING:  # importing torch takes seconds, and the server's starter does not need it
    from pregao.models.trained import TrainedModel

Rows = list[dict[str, Any]]
PlainWindow = tuple[list[float], list[float], float, str]
"""The fields of a Window; to unpickle the class, LitServe's queues would import torch."""
Batch = list[tuple[str, PlainWindow]]
"""Model folders, each with the window for its model."""

MODELS_IN_MEMORY = 64


class ForecastAPI(litserve.LitAPI):  # type: ignore[misc] # LitServe has no types
    """Runs the network. It reads neither registry nor prices: each request holds its model's folder and its window.

    A change of the served model needs no message between the processes: the next request has another folder.
    """

    def setup(self, device: str) -> None:
        """Import everything that a forecast needs, before the first request."""
        import torch

        from pregao.models.forecaster import Window
        from pregao.models.trained import TrainedModel

        self.window = Window
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent passes ctrl-C on
        threading.Thread(target=_end_with_the_parent, daemon=True).start()
        # One thread: a network of this size is several times slower with two.
        torch.set_num_threads(1)
        self.load = lru_cache(MODELS_IN_MEMORY)(TrainedModel.load)

    def decode_request(self, request: Batch) -> Batch:
        """A batch, unchanged."""
        return request

    def predict(self, x: Batch) -> list[Rows | None]:
        """`TrainedModel.rows` of each window; None where a model's files are gone or damaged."""
        return [self._rows(Path(folder), window) for folder, window in x]

    def encode_response(self, output: list[Rows | None]) -> list[Rows | None]:
        """The rows, unchanged: the HTTP process adds the dates and the stock."""
        return output

    def _rows(self, folder: Path, window: PlainWindow) -> Rows | None:
        try:
            model: TrainedModel = self.load(folder)
            return model.rows(self.window(*window))
        except CorruptModel:
            return None


def _end_with_the_parent() -> None:
    """End with the parent process: a parent that is killed cannot end its children."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
