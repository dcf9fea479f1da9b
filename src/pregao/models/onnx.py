"""A trained model in ONNX Runtime: what servers run. This module imports neither torch nor MLflow nor pandas."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from jaxtyping import Float

from pregao.data.market import Market
from pregao.data.stock_index import places
from pregao.errors import CorruptModel, first_line
from pregao.models.card import ModelCard
from pregao.models.forecaster import Forecaster

ONNX = "model.onnx"

INPUTS = ("closes", "measures", "stock")
"""float64 [n, lookback], float32 [n, measures], int64 [n]: the fields of `data.batch.Inputs`."""

OUTPUT = "quantiles"
"""float64 [n, horizon, 7]."""


@dataclass(frozen=True)
class OnnxModel(Forecaster):
    """A network for inference without PyTorch, and its card.

    Attributes:
        session: ONNX Runtime's.
        card: its description.
        market: the market factor of its panel; None if its inputs have none.
    """

    session: onnxruntime.InferenceSession
    card: ModelCard
    market: Market | None = None

    def quantiles(
        self,
        closes: Float[np.ndarray, "n lookback"],
        measures: Float[np.ndarray, "n measures"],
        stocks: Sequence[str] | np.ndarray,
    ) -> Float[np.ndarray, "n horizon 7"]:
        """Quantiles of the next closes of many windows, in the closes' currency."""
        values = closes.astype(np.float64), measures.astype(np.float32), places(stocks, self.card.stocks)
        out: np.ndarray = self.session.run([OUTPUT], dict(zip(INPUTS, values, strict=True)))[0]
        return out

    @classmethod
    def load(cls, folder: Path) -> "OnnxModel":
        """Read what `models.export` wrote.

        Raises:
            CorruptModel: a file is missing or damaged.
        """
        card = ModelCard.load(folder)
        content = card.read(folder, ONNX)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # one window is faster in one thread
        options.enable_cpu_mem_arena = False  # the arena keeps the memory of the largest batch
        options.log_severity_level = 3  # errors
        try:
            session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no public base
            raise CorruptModel(folder, f"{type(error).__name__}: {first_line(error)}") from error
        return cls(session, card, card.read_market(folder))
