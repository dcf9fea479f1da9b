"""Export a trained model to ONNX, and check that ONNX Runtime gives the same forecasts."""

import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pregao.data.batch import Inputs, as_inputs
from pregao.data.stock_index import OTHER_STOCK
from pregao.errors import NotExported, first_line
from pregao.models.base import ForecastModel
from pregao.models.card import MARKET
from pregao.models.forecaster import Forecaster
from pregao.models.onnx import INPUTS, ONNX, OUTPUT, OnnxModel
from pregao.models.trained import TrainedModel

LARGEST_DIFFERENCE = 1e-6
"""Between PyTorch and ONNX Runtime, relative to the last close: float32 in another order of operations gives 1e-7."""

LARGEST_ON_PROBES = 1e-5
"""The limit for random windows, which may be far from the training windows."""

LARGEST_MOVE = float(np.log(3))
"""Log returns in ten sessions up to which forecasts are compared."""

PROBES = 64
"""Windows of the check, more than one of every kind."""


def export(model: TrainedModel, folder: Path) -> OnnxModel:
    """Write `model.onnx`, market and card to a new folder, whole or not at all, and return what is read back.

    Raises:
        NotExported: PyTorch cannot export the network, or ONNX Runtime gives other forecasts.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(mkdtemp(prefix=".", dir=folder.parent))
    try:
        unfinished.chmod(0o755)  # a server may run as another user
        add_onnx(model, unfinished)
        found = OnnxModel.load(unfinished)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return found


def add_onnx(model: TrainedModel, folder: Path) -> None:
    """Write `model.onnx`, market and card to a folder, which may have the weights.

    Raises:
        NotExported: see `export`.
    """
    (folder / ONNX).write_bytes(_as_onnx(model.network, model.card.lookback))
    if model.market is not None:
        model.market.save(folder / MARKET)
    replace(model.card, follows_outcomes=model.follows_outcomes).save(folder)
    inputs = probes(model.network, model.card.lookback, len(model.card.stocks))
    stocks = [[*model.card.stocks, ""][place] for place in inputs.stock.tolist()]
    windows = inputs.closes.numpy(), inputs.measures.numpy(), np.array(stocks)
    check_parity(model, OnnxModel.load(folder), *windows, LARGEST_ON_PROBES)


def check_parity(
    model: Forecaster,
    exported: OnnxModel,
    closes: Float[np.ndarray, "n lookback"],
    measures: Float[np.ndarray, "n measures"],
    stocks: np.ndarray,
    allowed: float = LARGEST_DIFFERENCE,
) -> None:
    """Compare the quantiles of both models for these windows.

    Raises:
        NotExported: they differ.
    """
    ours, theirs = (each.quantiles(closes, measures, stocks) for each in (model, exported))
    last = closes[:, -1, None, None]
    # Far from the last close, the exponential of a return multiplies every rounding error.
    plausible = np.abs(np.log(ours / last)) < LARGEST_MOVE
    difference = float((np.abs(theirs - ours) / last)[plausible | ~np.isfinite(theirs)].max(initial=0.0))
    if not difference <= allowed:  # NaN too
        raise NotExported(
            str(model.card.network["_target_"]),
            f"ONNX Runtime's forecasts differ by {difference:.1e}, and {allowed:.0e} is allowed",
        )


def probes(network: ForecastModel, lookback: int, stocks: int) -> Inputs:
    """Random walks with measures that are all known, known in part, and unknown but for the first."""
    rng = np.random.default_rng(0)
    closes = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, (PROBES, lookback)), axis=1))
    measures = np.abs(rng.normal(0.02, 0.005, (PROBES, len(network.measures)))) + 1e-3
    known = rng.random((PROBES, 1)) < [1.0, *np.full(len(network.measures) - 1, 0.8)]
    known[: PROBES // 2] = True
    known[-1, 1:] = False
    measures[~known] = np.nan
    return as_inputs(closes, measures, rng.integers(OTHER_STOCK, stocks, PROBES))


class _OfTensors(nn.Module):
    """The network with three tensors as arguments, which are the graph's inputs."""

    def __init__(self, network: ForecastModel) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, closes: Float[Tensor, "n lookback"], measures: Float[Tensor, "n measures"], stock: Int[Tensor, " n"]
    ) -> Float[Tensor, "n horizon levels"]:
        """Quantiles of the next closes."""
        quantiles: Tensor = self.network(Inputs(closes, measures, stock))
        return quantiles


def _as_onnx(network: ForecastModel, lookback: int) -> bytes:
    """The network as ONNX, for any number of windows.

    Raises:
        NotExported: PyTorch cannot export it.
    """
    import onnx_ir

    n = torch.export.Dim("n")
    arguments = tuple(probes(network, lookback, 1))
    try:
        with _quiet():
            program = torch.onnx.export(
                _OfTensors(network.eval()),
                arguments,
                dynamo=True,  # the older exporter agrees with PyTorch to 1e-3 only
                dynamic_shapes=({0: n}, {0: n}, {0: n}),
                input_names=INPUTS,
                output_names=[OUTPUT],
                verbose=False,
            )
    except Exception as error:  # the exporter's own classes, and what a network raises under it
        raise NotExported(_name(network), first_line(error.__cause__ or error)) from error
    assert program is not None
    graph = program.model.graph
    # The exporter notes where in the source each node comes from, with paths of this machine.
    nodes = list(graph.all_nodes())
    for node in nodes:
        node.metadata_props.clear()
    for value in (*graph.inputs, *graph.initializers.values(), *(value for node in nodes for value in node.outputs)):
        value.metadata_props.clear()
    graph.metadata_props.clear()
    program.model.metadata_props.clear()
    content: bytes = onnx_ir.serde.serialize_model(program.model).SerializeToString()
    return content


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings, and with the attention that it can export."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.__trace")]
    levels, fast = [logger.level for logger in loggers], torch.backends.mha.get_fastpath_enabled()
    for logger in loggers:
        logger.setLevel(logging.ERROR)  # it misses torchvision, which is not needed
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _name(network: ForecastModel) -> str:
    return f"{type(network).__module__}.{type(network).__name__}"
