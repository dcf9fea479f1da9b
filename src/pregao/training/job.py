"""The state of a background training: a JSON file in the job's folder, replaced atomically at each change."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pregao.errors import NoSuchJob
from pregao.files import atomic_write, or_null

ENDED = ("done", "failed", "cancelled")

RESERVE = "reserve"
"""A file in the folder of a running job, whose space is for the record of its end."""

RESERVED_BYTES = 65_536


@dataclass(frozen=True)
class Job:
    """The state of a training.

    Attributes:
        id: 32 hexadecimal digits.
        stock: the ticker.
        state: queued, running, done, failed or cancelled.
        created: time of creation, ISO 8601, UTC.
        finished: time of the end, ISO 8601, UTC; None before it.
        progress: 0..1.
        epoch: number of finished epochs.
        epochs: maximum number of epochs.
        train_loss: training loss of the last epoch.
        val_loss: validation loss of the last epoch.
        result: stock, version, run_id, metrics, training_time, promoted, promotion, inicio and fim; None before it is
            done.
        error: one sentence on why it failed or was cancelled.
        refusal: class name of the PregaoError that ended it; None for other failures.
    """

    id: str
    stock: str
    state: str
    created: str
    finished: str | None = None
    progress: float = 0.0
    epoch: int = 0
    epochs: int | None = None
    train_loss: float | None = None
    val_loss: float | None = None
    result: dict[str, Any] | None = None
    error: str | None = None
    refusal: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self.state in ENDED

    @classmethod
    def read(cls, folder: Path) -> "Job":
        """Read the job in a folder; raises NoSuchJob if its file is missing or damaged."""
        try:
            return cls(**json.loads((folder / "job.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            raise NoSuchJob(folder.name) from None

    def write(self, folder: Path) -> None:
        """Replace the job's file; on a full disk, the end of a job is written into its reserved space."""
        try:
            self._replace(folder)
        except OSError:
            if not self.ended:
                raise
            (folder / RESERVE).unlink(missing_ok=True)
            self._replace(folder)

    def _replace(self, folder: Path) -> None:
        with atomic_write(folder / "job.json") as file:
            file.write_text(json.dumps(or_null(asdict(self)), indent=1), encoding="utf-8")


def now() -> str:
    """The time in UTC, ISO 8601 to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
