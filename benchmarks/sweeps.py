"""A sweep of sixteen trainings by each launcher, in alternating rounds: python benchmarks/sweeps.py DIR [ROUNDS].

DIR contains VALE3.csv (source=csv). Measures whole commands, imports and the start of workers included. Writes
benchmarks/sweeps.md.
"""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from machine import machine

from pregao.settings import REPOSITORY

TABLE = Path(__file__).with_suffix(".md")
LAUNCHERS = ("basic", "joblib", "ray")
RUNS = 16
SWEPT = ("model.hidden_size=16,24,32,40", "optimizer.learning_rate=2e-4,5e-4,1e-3,2e-3")
LENGTHS = {
    "default recipe": (),  # two seconds, less than one of them in fit: a worker's imports take longer
    "100 epochs": ("trainer.max_epochs=100", "trainer.patience=null"),
}


def sweep(prices: Path, launcher: str, *length: str) -> float:
    """Seconds of `python train.py -m …`."""
    given = ["source=csv", f"source.path={prices}", "end=2025-07-27", f"hydra/launcher={launcher}", *SWEPT, *length]
    started = perf_counter()
    subprocess.run([sys.executable, str(REPOSITORY / "train.py"), "-m", *given], check=True, capture_output=True)
    return perf_counter() - started


def main(prices: Path, rounds: int) -> None:
    """Print and write the table."""
    lines = ["| f) sixteen trainings of VALE3 | s | runs per minute | × basic |", "|---|---:|---:|---:|"]
    for name, length in LENGTHS.items():
        seconds: dict[str, list[float]] = {launcher: [] for launcher in LAUNCHERS}
        with TemporaryDirectory() as home:
            os.environ["PREGAO_HOME"] = home
            for _ in range(rounds):
                for launcher in LAUNCHERS:
                    seconds[launcher].append(sweep(prices, launcher, *length))
        for launcher, found in seconds.items():
            ratio = median(basic / own for basic, own in zip(seconds["basic"], found, strict=True))
            lines.append(
                f"| {launcher}, {name} | {median(found):.0f} | {60 * RUNS / median(found):.1f} | {ratio:.2f} |"
            )
    note = f"Medians of {rounds} alternating rounds, one thread per training, on: {machine()}. To repeat: `make bench`."
    text = "\n".join([*lines, "", note, ""])
    print(text)
    TABLE.write_text(f"# Speed of a sweep\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
