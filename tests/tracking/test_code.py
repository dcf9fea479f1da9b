import os
import subprocess

import pytest
from machine import machine

from pregao.settings import REPOSITORY
from pregao.tracking.code import UNKNOWN, Code, code

AUTHOR = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def git(folder, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | AUTHOR
    done = subprocess.run(["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "model.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    git(tmp_path, "tag", "--annotate", "--message", "a tag does not replace the commit", "v1-rc")
    code.cache_clear()
    yield tmp_path
    code.cache_clear()


def test_the_code_of_a_checkout_is_its_commit(checkout):
    (checkout / "prices.csv").write_text("a file that git does not track changes no result")
    found = code(checkout)
    assert (found.commit, found.dirty) == (git(checkout, "rev-parse", "HEAD"), False)
    assert str(found).endswith(f"commit {found.commit[:10]}")


def test_a_changed_file_makes_the_code_dirty(checkout):
    (checkout / "model.py").write_text("2")
    found = code(checkout)
    assert (len(found.commit), found.dirty) == (40, True)
    assert str(found).endswith(f"commit {found.commit[:10]}, with changes")


def test_git_is_asked_once_per_process(checkout, monkeypatch):
    first = code(checkout)
    monkeypatch.setenv("PATH", "")
    (checkout / "model.py").write_text("2")
    assert code(checkout) is first


def test_a_hook_of_another_repository_does_not_change_the_commit(checkout, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(REPOSITORY / ".git"))
    assert code(checkout).commit == git(checkout, "rev-parse", "HEAD")


def test_the_commit_of_an_installed_package_is_unknown_even_inside_another_repository(checkout):
    installed = checkout / ".venv/lib/python3.11"
    installed.mkdir(parents=True)
    found = code(installed)
    assert found == Code(found.version, UNKNOWN, None)
    assert found.version
    assert str(found) == f"Pregão {found.version}, commit unknown"


def test_the_commit_is_unknown_without_git_and_without_a_first_commit(checkout, monkeypatch, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    git(empty, "init", "--quiet")
    assert code(empty).commit == UNKNOWN
    monkeypatch.setenv("PATH", "")
    assert code(checkout).commit == UNKNOWN


def test_every_table_of_the_benchmarks_names_the_code():
    writers = [path for path in (REPOSITORY / "benchmarks").glob("*.py") if 'with_suffix(".md")' in path.read_text()]
    assert len(writers) > 10
    assert [path.name for path in writers if "machine()" not in path.read_text()] == []
    assert machine().endswith(f", {code()}")
