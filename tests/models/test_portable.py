"""A model for other programs works as its README says."""

import io
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from pregao.errors import CorruptModel
from pregao.models.card import CARD, MARKET
from pregao.models.onnx import ONNX, OnnxModel
from pregao.models.portable import README, write_portable, zipped
from pregao.settings import SHIPPED


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("other program") / "VALE3-1"
    write_portable(SHIPPED / "VALE3", target)
    return target


def test_the_code_of_the_readme_forecasts_ten_closes_near_the_last_one(folder):
    [code] = re.findall(r"```python\n(.*?)```", (folder / README).read_text(), re.S)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    medians = np.array(done.stdout.strip(" []\n").split(), float)
    assert medians == pytest.approx(np.full(10, 55.5), rel=0.01)


def test_the_folder_is_the_model_with_its_checksums(folder):
    assert sorted(file.name for file in folder.iterdir()) == [README, MARKET, CARD, ONNX]
    model = OnnxModel.load(folder)
    assert model.card.files.keys() == {MARKET, ONNX}
    closes = np.linspace(50, 55, 20).tolist()
    assert model.rows(model.window(closes)) == OnnxModel.load(SHIPPED / "VALE3").rows(model.window(closes))


def test_a_zip_has_the_same_files_in_one_folder(folder):
    with zipfile.ZipFile(io.BytesIO(zipped(SHIPPED / "VALE3", "VALE3-1"))) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        assert names == {f"VALE3-1/{name}" for name in (README, MARKET, CARD, ONNX)}
        assert archive.read(f"VALE3-1/{ONNX}") == (folder / ONNX).read_bytes()


def test_a_damaged_model_is_not_copied(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / ONNX).write_bytes(b"damaged")
    with pytest.raises(CorruptModel, match=ONNX):
        write_portable(tmp_path, tmp_path / "target")
    assert not (tmp_path / "target").exists()
