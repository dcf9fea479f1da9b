"""Which checkpoint a training may resume from; what it cannot use is refused before anything is tracked."""

from pathlib import Path
from typing import Any

import torch

from pregao.errors import BadCheckpoint
from pregao.training.module import ForecastModule


def check_checkpoint(path: Path, module: ForecastModule, max_epochs: int, needs_best: bool) -> None:
    """Refuse a checkpoint that this training cannot resume from.

    Args:
        path: `last.ckpt` of the interrupted training.
        module: the training that would resume.
        max_epochs: of the training that would resume.
        needs_best: the training keeps its best weights, so `best.ckpt` has to lie next to the checkpoint.

    Raises:
        BadCheckpoint: it is damaged, of another model or of other data, or has all its epochs.
    """
    checkpoint = read_checkpoint(path, path)
    _compare(path, checkpoint, module)
    done = checkpoint["epoch"] + 1
    if done >= max_epochs:
        raise BadCheckpoint(path, f"it already has {done} epochs and trainer.max_epochs={max_epochs}")
    if needs_best:
        _compare(path, read_checkpoint(path.with_name("best.ckpt"), path), module)


def read_checkpoint(file: Path, asked: Path) -> dict[str, Any]:
    """A checkpoint of Lightning, without unpickling code.

    Raises:
        BadCheckpoint: the file is missing or damaged.
    """
    if not file.is_file():
        raise BadCheckpoint(asked, f"there is no file {file}")
    try:
        checkpoint: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
        checkpoint["epoch"] + 1
        {name: value.shape for name, value in checkpoint["state_dict"].items()}
    except Exception:  # torch's unpickler meets damaged bytes with whatever its next line raises
        raise BadCheckpoint(asked, f"{file.name} is no checkpoint, or a damaged one") from None
    return checkpoint


def _compare(path: Path, checkpoint: dict[str, Any], module: ForecastModule) -> None:
    """A training resumes only on the data it started with: other data could contain its test part."""
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    if {name: value.shape for name, value in checkpoint["state_dict"].items()} != shapes:
        raise BadCheckpoint(path, "its weights are of another network")
    started, now = checkpoint.get("hyper_parameters", {}), dict(module.hparams)
    other = [name for name in now if started.get(name) != now[name]]
    if other:
        changes = "; ".join(f"{name} was {started.get(name)}, now it is {now[name]}" for name in other)
        raise BadCheckpoint(path, f"it was begun with other choices ({changes})")
