"""A small disk, to be filled or made read-only."""

import contextlib
import subprocess

import pytest


@pytest.fixture
def disk(tmp_path):
    """A tmpfs for PREGAO_HOME, to be filled or made read-only by `remount`."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", folder], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def remount(disk, option):
    subprocess.run(["mount", "-o", f"remount,{option}", disk], check=True)


def fill(disk):
    """Write until nothing more can be written."""
    with contextlib.suppress(OSError), (disk / "filler").open("ab", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
