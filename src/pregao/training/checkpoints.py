"""Checks of a checkpoint before a training resumes from it, and before an MLflow run starts."""

from pathlib import Path
from typing import Any

import torch

from pregao.errors import BadCheckpoint
from pregao.training.module import ForecastModule


def check_checkpoint(path: Path, module: ForecastModule, max_epochs: int, needs_best: bool) -> None:
    """Refuse a checkpoint that this training cannot resume from.

    Args:
        path: `last.ckpt` of the interrupted training.
        module: the module that would resume.
        max_epochs: maximum number of epochs of the resumed training.
        needs_best: whether `best.ckpt` must exist in the same folder, because the training keeps its best weights.

    Raises:
        BadCheckpoint: it is damaged, belongs to another model or other data, or already has all epochs.
    """
    checkpoint = read_checkpoint(path, path)
    _compare(path, checkpoint, module)
    done = checkpoint["epoch"] + 1
    if done >= max_epochs:
        raise BadCheckpoint(path, f"it already has {done} epochs and trainer.max_epochs={max_epochs}")
    for schedule in checkpoint.get("lr_schedulers", []):
        if schedule["T_max"] != max_epochs:  # the learning rate would rise again after its end
            raise BadCheckpoint(
                path,
                f"its cosine schedule ends at trainer.max_epochs={schedule['T_max']}, not {max_epochs}; only a "
                "training with optimizer.schedule=constant resumes with more epochs",
            )
    if needs_best:
        _compare(path, read_checkpoint(path.with_name("best.ckpt"), path), module)


def read_checkpoint(file: Path, asked: Path) -> dict[str, Any]:
    """Load a Lightning checkpoint without executing pickled code.

    Raises:
        BadCheckpoint: the file is missing or damaged.
    """
    if not file.is_file():
        raise BadCheckpoint(asked, f"the file {file} does not exist")
    try:
        checkpoint: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
        checkpoint["epoch"] + 1
        {name: value.shape for name, value in checkpoint["state_dict"].items()}
    except Exception:  # torch documents no exception type for damaged bytes
        raise BadCheckpoint(asked, f"{file.name} is damaged or not a checkpoint") from None
    return checkpoint


def _compare(path: Path, checkpoint: dict[str, Any], module: ForecastModule) -> None:
    """Require the same network and data: other training data could contain dates of the test set."""
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    if {name: value.shape for name, value in checkpoint["state_dict"].items()} != shapes:
        raise BadCheckpoint(path, "its weights belong to another network")
    started, now = checkpoint.get("hyper_parameters", {}), dict(module.hparams)
    other = [name for name in now if started.get(name) != now[name]]
    if other:
        changes = "; ".join(f"{name} was {started.get(name)}, is now {now[name]}" for name in other)
        raise BadCheckpoint(path, f"it belongs to a training with other settings ({changes})")
