"""Runs the notebooks: python notebooks/execute.py [NAME…]; with their outputs they go to outputs/notebooks/.

Their own files stay without outputs, so that a change of them is a change of what they say.
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from rich.console import Console

from pregao.settings import settings

NOTEBOOKS = Path(__file__).parent
SECONDS_A_CELL = 300

INLINE = "module://matplotlib_inline.backend_inline"
"""What draws into a notebook, whatever the shell's environment has chosen."""


def execute(file: Path, folder: Path) -> Path:
    """Run one from its first cell to its last.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(file, nbformat.NO_CONVERT)
    NotebookClient(notebook, timeout=SECONDS_A_CELL, resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / file.name)
    return folder / file.name


def main(names: list[str]) -> None:
    """Run those named, or all."""
    os.environ["MPLBACKEND"] = INLINE
    for file in sorted(NOTEBOOKS.glob("*.ipynb")):
        if not names or file.stem in names:
            Console().print(str(execute(file, settings().outputs / "notebooks")), highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main(sys.argv[1:])
