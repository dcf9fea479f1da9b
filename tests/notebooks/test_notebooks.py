import subprocess

import nbformat
import pytest

from pregao.settings import REPOSITORY
from tests.conftest import environment

FILES = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


def test_every_notebook_is_listed_and_stored_without_outputs():
    listed = (REPOSITORY / "notebooks/README.md").read_text(encoding="utf-8")
    for file in FILES:
        assert f"]({file.name})" in listed
        cells = nbformat.read(file, nbformat.NO_CONVERT).cells
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_notebook_runs(file, tmp_path):
    command = ["jupyter", "execute", f"--output={tmp_path}/{{notebook_name}}", str(file)]
    env = environment(tmp_path, MPLBACKEND="")
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    executed = nbformat.read(tmp_path / file.name, nbformat.NO_CONVERT)
    assert any(output.output_type == "display_data" for cell in executed.cells for output in cell.get("outputs", []))
