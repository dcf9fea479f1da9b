import errno
import os
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from pregao.files import atomic_write, in_background, locked, or_null, remove_folder, set_aside

HOLD = """
import sys, time
from pathlib import Path
from pregao.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def enter(lock):
    with locked(lock):
        return "entered"


def failing(code):
    def fail(*_args, **_kwargs):
        raise OSError(code, "it fails")

    return fail


def raising():
    raise ValueError("oops")


def test_a_lock_excludes_other_processes_and_threads_and_ends_with_its_process_or_an_error(tmp_path):
    lock = tmp_path / "new folder" / ".lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, lock], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    waiting = in_background(lambda: enter(lock))
    with pytest.raises(TimeoutError):
        waiting.result(0.3)
    holder.kill()
    holder.communicate()
    assert waiting.result(10) == "entered"
    with suppress(ValueError), locked(lock):
        waiting = in_background(lambda: enter(lock))
        with pytest.raises(TimeoutError):
            waiting.result(0.2)
        raising()
    assert waiting.result(10) == "entered"


def test_a_lock_is_skipped_only_on_a_read_only_disk(tmp_path, monkeypatch):
    for code in errno.EACCES, errno.EROFS:
        monkeypatch.setattr(os, "open", failing(code))
        assert enter(tmp_path / ".lock") == "entered"
    monkeypatch.setattr(os, "open", failing(errno.ENOSPC))
    with pytest.raises(OSError, match="it fails"):
        enter(tmp_path / ".lock")


def test_an_atomic_write_replaces_the_file_at_the_end_of_the_block(tmp_path):
    path = tmp_path / "new folder" / "table.csv"
    for text in ("first", "second"):
        with atomic_write(path) as file:
            file.write_text(text)
            assert file.parent == path.parent
            assert not path.exists() or path.read_text() != text
        assert path.read_text() == text
    assert os.listdir(path.parent) == ["table.csv"]


@pytest.mark.parametrize("call", ["fsync", "replace", "truncate"])
def test_a_failed_write_leaves_the_previous_file_and_no_temporary_file(tmp_path, monkeypatch, call):
    path = tmp_path / "table.csv"
    path.write_text("before")
    monkeypatch.setattr(os, call, failing(errno.ENOSPC))

    def write():
        with atomic_write(path) as file:
            file.write_text("after")
            os.truncate(file, 5)

    with pytest.raises(OSError, match="it fails"):
        write()
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_a_damaged_file_is_renamed_with_its_content(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("damaged")
    renamed = set_aside(path)
    assert (os.listdir(tmp_path), renamed.read_text()) == ([renamed.name], "damaged")
    assert renamed.name.startswith("table.corrupt-")


def test_a_call_in_the_background_has_a_result_an_error_or_a_time_limit():
    assert in_background(lambda: 3).result(10) == 3
    with pytest.raises(ValueError, match="oops"):
        in_background(raising).result(10)
    with pytest.raises(TimeoutError):
        in_background(threading.Event().wait).result(0.05)


def test_a_program_can_end_while_a_background_call_hangs():
    code = "from pregao.files import in_background; import time; in_background(lambda: time.sleep(60))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_a_folder_is_removed_with_its_empty_parents_below_the_root(tmp_path):
    for run in "VALE3/1", "PETR4/1", "PETR4/2":
        (tmp_path / "outputs" / run).mkdir(parents=True)
        (tmp_path / "outputs" / run / "train.log").touch()
    for run in "VALE3/1", "PETR4/1":
        remove_folder(tmp_path / "outputs" / run, tmp_path / "outputs")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["2", "PETR4", "outputs", "train.log"]


def test_null_replaces_every_number_that_json_cannot_contain():
    found = or_null({"a": float("nan"), "b": {"c": float("inf"), "d": 1.5, "e": "inf"}, "f": None, "g": True})
    assert found == {"a": None, "b": {"c": None, "d": 1.5, "e": "inf"}, "f": None, "g": True}
