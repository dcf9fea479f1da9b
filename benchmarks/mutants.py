"""Small mutations of the package that the quick tests must kill: python benchmarks/mutants.py [NAME ...].

`tests/mutants/NAME.yaml` lists mutations: `file` below src/pregao, the text `old`, which occurs once, its replacement
`new`, and the `tests` that must fail (files or folders below tests/). Two copies of the checkout run side by side.
Prints each survivor, and ends with exit code 1 if fewer than 95 % are killed.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
LISTS = REPOSITORY / "tests/mutants"
COPIES = 2
ENOUGH = 0.95
PASSED, FAILED, NOT_IMPORTED = 0, 1, 2


@dataclass(frozen=True)
class Mutant:
    """One changed place in one file, and the tests that must notice it."""

    file: str
    old: str
    new: str
    tests: str

    def __str__(self) -> str:
        return f"{self.file}: {self.old.strip()!r} → {self.new.strip()!r}"

    def source(self) -> str:
        """The mutated source; raises ValueError unless `old` occurs exactly once."""
        text = (REPOSITORY / "src/pregao" / self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self}: the text occurs {text.count(self.old)} times in the file; it must occur once.")
        return text.replace(self.old, self.new)

    def survives(self, copy: Path) -> bool:
        """Whether the tests pass with this mutant in a copy of the checkout."""
        file = copy / "src/pregao" / self.file
        original = file.read_text(encoding="utf-8")
        file.write_text(self.source(), encoding="utf-8")
        try:
            return self._code(copy) == PASSED
        finally:
            file.write_text(original, encoding="utf-8")

    def _code(self, copy: Path) -> int:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            "not slow and not faults",
        ]
        command += [f"tests/{each}" for each in self.tests.split()]
        environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
        if done.returncode not in (PASSED, FAILED, NOT_IMPORTED):
            raise RuntimeError(f"{self}: pytest ended with {done.returncode}: {done.stdout[-2000:]}")
        return done.returncode


def mutants(names: Sequence[str]) -> list[Mutant]:
    """The lists of these names, or all of them."""
    files = [LISTS / f"{name}.yaml" for name in names] or sorted(LISTS.glob("*.yaml"))
    found = [Mutant(**entry) for file in files for entry in yaml.safe_load(file.read_text(encoding="utf-8"))]
    for mutant in found:
        mutant.source()
    return found


def survivors(found: Sequence[Mutant], folder: Path) -> Iterator[Mutant]:
    """The mutants that no test notices."""
    copies: SimpleQueue[Path] = SimpleQueue()
    for number in range(COPIES):
        copies.put(checkout(folder / str(number)))

    def survives(mutant: Mutant) -> bool:
        copy = copies.get()
        try:
            return mutant.survives(copy)
        finally:
            copies.put(copy)

    with ThreadPoolExecutor(COPIES) as pool:
        for number, (mutant, alive) in enumerate(zip(found, pool.map(survives, found), strict=True), start=1):
            print(f"{number}/{len(found)} {'SURVIVED' if alive else 'killed'} {mutant}", flush=True)
            if alive:
                yield mutant


def checkout(folder: Path) -> Path:
    """A copy of the files that git tracks, or would."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    for name in listed.splitlines():
        if (REPOSITORY / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
    return folder


def main(names: Sequence[str]) -> int:
    """Print the survivors; returns the exit code."""
    found = mutants(names)
    with TemporaryDirectory() as folder:
        alive = list(survivors(found, Path(folder)))
    print(f"{len(found) - len(alive)} of {len(found)} mutants killed.")
    for mutant in alive:
        print(f"SURVIVED {mutant}")
    return int(len(found) - len(alive) < ENOUGH * len(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
