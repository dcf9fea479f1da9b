"""The console script and the root scripts: which commands there are, and that both are the same command."""

import subprocess
import sys

import pytest

from pregao.cli.__main__ import COMMANDS
from pregao.config import CONF
from pregao.settings import REPOSITORY
from tests.conftest import environment, run


def pregao(*arguments, home):
    command = [sys.executable, "-m", "pregao.cli", *arguments]
    return subprocess.run(command, env=environment(home), cwd=home, capture_output=True, text=True, timeout=120)


def test_every_configuration_of_conf_is_a_command():
    assert set(COMMANDS) == {path.stem for path in CONF.glob("*.yaml")}


def test_help_lists_every_command(home):
    done = pregao("--help", home=home)
    assert done.returncode == 0
    assert all(f"\n  {name}  " in done.stdout for name in COMMANDS)


def test_without_a_command_the_help_is_a_refusal(home):
    done = pregao(home=home)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == pregao("--help", home=home).stdout


@pytest.mark.parametrize(("given", "hint"), [("trian", " Did you mean train?"), ("xyz", ""), ("../x", "")])
def test_an_unknown_command_is_refused_in_a_sentence(home, given, hint):
    done = pregao(given, home=home)
    assert done.returncode == 2
    assert done.stderr.startswith(f"'{given}' is not a command.{hint} Allowed: train, predict, ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_shows_examples_settings_and_exit_codes(home, name):
    done = pregao(name, "--help", home=home)
    assert done.returncode == 0, done.stderr
    script = f"python {name}.py" if (REPOSITORY / f"{name}.py").is_file() else f"pregao {name}"
    for text in (f"\n  {script}", "Choices (group=option)", "stock: VALE3", "Exit codes: 0 done"):
        assert text in done.stdout
    assert not (home / "outputs").exists()


def test_a_root_script_is_the_command_of_the_console_script(home):
    script, command = run("predict.py", "--help", home=home), pregao("predict", "--help", home=home)
    assert script.stdout == command.stdout
    script, command = run("predict.py", "fromat=json", home=home), pregao("predict", "fromat=json", home=home)
    assert script.stderr == command.stderr
    assert script.returncode == command.returncode == 2
