"""A diagram of a network's modules, with the shapes of a forward pass and the numbers of weights."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor, nn

from pregao.data.batch import as_inputs
from pregao.models.base import ForecastModel
from pregao.quantiles import LEVELS

Hook = Callable[[nn.Module, Any, Any], None]

BOX, INK, LINE = "#e3f1ec", "#222222", "#0b6e4f"

FALLBACK = re.compile(r"regressions\.[1-9]")
"""Names of the panel model's regressions for windows with unknown measures, which are not drawn."""

REGRESSION = "panel model: regression of log variance, in closed form"


@dataclass(frozen=True)
class Stage:
    """A module without children, in a forward pass.

    Attributes:
        name: its path in the network.
        kind: its class and arguments.
        input: the shape of its input; B is the number of windows.
        output: the shape of its output.
        weights: the number of its parameters.
    """

    name: str
    kind: str
    input: str
    output: str
    weights: int


def stages(network: ForecastModel, lookback: int) -> list[Stage]:
    """The modules in the order of a forward pass."""
    found: list[Stage] = []
    hooks = []
    for name, module in network.named_modules():
        if not list(module.children()) and not FALLBACK.search(name):
            hooks.append(module.register_forward_hook(_recorder(name, found)))
    closes, measures = np.linspace(50, 55, lookback)[None], np.full((1, len(network.measures)), 0.02)
    try:
        with torch.inference_mode():
            network.eval()(as_inputs(closes, measures, np.zeros(1, np.int64)))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def draw(network: ForecastModel, lookback: int, horizon: int, path: Path) -> None:
    """Draw one box per module, from the closes to the quantiles."""
    found = stages(network, lookback)
    kinds = ", ".join(dict.fromkeys(re.sub(r"_\d+$", "", name) for name in network.measures))
    first = f"closes [B, {lookback}]  ·  volatilities [B, {len(network.measures)}]: {kinds}"
    last = f"closes at {len(LEVELS)} quantiles [B, {horizon}, {len(LEVELS)}]"
    boxes = [
        ("prices in", first),
        *((_title(stage), _shapes(stage)) for stage in found),
        ("prices out", last),
    ]
    with matplotlib.rc_context({"font.size": 9, "svg.hashsalt": "pregao"}):
        figure = Figure(figsize=(8, 0.95 * len(boxes)), layout="constrained")
        axis = figure.add_subplot()
        axis.set(xlim=(0, 1), ylim=(-len(boxes) + 0.4, 0.6))
        axis.axis("off")
        for place, (title, text) in enumerate(boxes):
            edge = FancyBboxPatch((0.02, -place - 0.28), 0.96, 0.56, "round,pad=0,rounding_size=0.04", fc=BOX, ec=LINE)
            axis.add_patch(edge)
            axis.text(0.5, -place + 0.1, title, ha="center", va="center", color=INK, fontweight="bold")
            axis.text(0.5, -place - 0.13, text, ha="center", va="center", color=INK, fontsize=8)
            if place:
                arrow = {"arrowstyle": "->", "color": LINE}
                axis.annotate("", (0.5, -place + 0.28), (0.5, -place + 0.72), arrowprops=arrow)
        weights = sum(parameter.numel() for parameter in network.parameters())
        kind = type(network).__name__
        figure.suptitle(f"{kind}: {weights:,} weights", x=0.03, ha="left", fontsize=10, fontweight="bold")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _recorder(name: str, found: list[Stage]) -> Hook:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ANN401 - torch's
        out = output[0] if isinstance(output, tuple) else output
        weights = sum(parameter.numel() for parameter in module.parameters())
        kind = f"{type(module).__name__}({module.extra_repr()})"
        found.append(Stage(name, kind, _shape(inputs[0]), _shape(out), weights))

    return hook


def _shape(tensor: Tensor) -> str:
    return f"[{', '.join(['B', *map(str, tensor.shape[1:])])}]"


def _title(stage: Stage) -> str:
    return REGRESSION if _is_regression(stage) else f"{stage.name}: {stage.kind}"


def _shapes(stage: Stage) -> str:
    more = f"  ·  {stage.weights:,} weights" if stage.weights else ""
    if _is_regression(stage):
        more = ", the size of the log return  ·  the head corrects its quantiles"
    return f"{stage.input} → {stage.output}{more}"


def _is_regression(stage: Stage) -> bool:
    return stage.kind.startswith("Regression(")
