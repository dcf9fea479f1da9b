"""A model whose network runs in an inference process; card and market are here."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pregao.data.market import Market
from pregao.errors import CorruptModel
from pregao.models.card import ModelCard
from pregao.models.forecaster import Forecaster, Rows, Window, check_closes
from pregao.models.onnx import ONNX

Infer = Callable[..., Awaitable[Any]]
"""`RequestBatcher`: folder, method, arguments → result."""


@dataclass(frozen=True)
class RemoteModel(Forecaster):
    """A model of a folder, run elsewhere.

    Attributes:
        folder: with the ONNX model.
        infer: calls the inference process.
        loop: the event loop of `infer`.
        card: its description.
        market: the market factor of its panel; None if its inputs have none.
    """

    folder: Path
    infer: Infer
    loop: asyncio.AbstractEventLoop
    card: ModelCard
    market: Market | None = None

    @classmethod
    def load(cls, folder: Path, infer: Infer, loop: asyncio.AbstractEventLoop) -> "RemoteModel":
        """Read card and market; the ONNX model is compared with its checksum.

        Raises:
            CorruptModel: a file is missing or damaged.
        """
        card = ModelCard.load(folder)
        card.read(folder, ONNX)
        return cls(folder, infer, loop, card, card.read_market(folder))

    def quantiles(
        self,
        closes: Float[np.ndarray, "n lookback"],
        measures: Float[np.ndarray, "n measures"],
        stocks: Sequence[str] | np.ndarray,
    ) -> Float[np.ndarray, "n horizon 7"]:
        """Quantiles of the next closes of many windows; not to be called in the thread of the event loop."""
        work = self._call("quantiles", closes, measures, list(map(str, stocks)))
        found: np.ndarray = asyncio.run_coroutine_threadsafe(work, self.loop).result()
        return found

    async def forecast_window(self, window: Window) -> Rows:
        """The rows of the forecast of a window."""
        rows: Rows = await self._call("rows", window)
        return rows

    async def forecast_closes(self, closes: Sequence[Any]) -> Rows:
        """The rows of the forecast after closes alone.

        Raises:
            InvalidCloses: there are too few or too many, or one is not a plausible price.
        """
        rows: Rows = await self._call("rows_after", check_closes(closes, self.card.lookback))
        return rows

    async def _call(self, method: str, *arguments: object) -> Any:  # noqa: ANN401
        answer = await self.infer(os.fspath(self.folder), method, *arguments)
        if answer is None:
            raise CorruptModel(self.folder, "an inference process found its files damaged")
        return answer
