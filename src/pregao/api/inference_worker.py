"""The inference process: LitServe hands it windows, it hands back rows of a forecast."""

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

if TYPE_CHECKING:  # torch takes seconds, and the server's starter does without
    from pregao.models.trained import TrainedModel

Rows = list[dict[str, Any]]
Seen = tuple[list[float], list[float], float]
"""A Window's closes, volatilities and width: plain, or the process of LitServe's queues would import torch for it."""
Trip = list[tuple[str, Seen]]

MODELS_IN_MEMORY = 64


class ForecastAPI(litserve.LitAPI):  # type: ignore[misc] # LitServe has no types
    """Knows no registry and no prices: the HTTP process says which model's folder, and which window.

    So a change of the served model needs no word between the two: the next request names another folder.
    """

    def setup(self, device: str) -> None:
        """Import what a forecast needs, before the first request."""
        import torch

        from pregao.models.trained import TrainedModel, Window

        self.window = Window
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is the parent's to pass on
        threading.Thread(target=_end_with_the_parent, daemon=True).start()
        # One thread: a network of this size is several times slower on two.
        torch.set_num_threads(1)
        self.load = lru_cache(MODELS_IN_MEMORY)(TrainedModel.load)

    def decode_request(self, request: Trip) -> Trip:
        """Model folders, each with the window that its model is to see."""
        return request

    def predict(self, x: Trip) -> list[Rows | None]:
        """`TrainedModel.rows` of each; None where a model's files are gone or damaged."""
        return [self._rows(Path(folder), seen) for folder, seen in x]

    def encode_response(self, output: list[Rows | None]) -> list[Rows | None]:
        """As it is: the HTTP process adds the dates and the stock."""
        return output

    def _rows(self, folder: Path, seen: Seen) -> Rows | None:
        try:
            model: TrainedModel = self.load(folder)
            return model.rows(self.window(*seen))
        except CorruptModel:
            return None


def _end_with_the_parent() -> None:
    """A parent that is killed can end nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
