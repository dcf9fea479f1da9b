"""The console script and the root scripts."""

import sys

import pytest

from pregao.cli import __main__ as console
from pregao.cli.__main__ import COMMANDS
from pregao.config import CONF
from pregao.settings import REPOSITORY


def test_every_configuration_of_conf_is_a_command():
    assert set(COMMANDS) == {path.stem for path in CONF.glob("*.yaml")}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "pregao COMMAND [key=value …]"),
        (["trian"], "'trian' is not a command. Did you mean train? Allowed: train, predict, "),
        (["../x"], "'../x' is not a command. Allowed: train, predict, "),
    ],
)
def test_without_a_valid_command_the_console_script_says_what_is_allowed(monkeypatch, capsys, given, said):
    monkeypatch.setattr(sys, "argv", ["pregao", *given])
    with pytest.raises(SystemExit, match="2"):
        console.main()
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_shows_examples_settings_and_exit_codes(command, home, name):
    done = command(name, "--help")
    assert done.returncode == 0, done.stderr
    script = f"python {name}.py" if (REPOSITORY / f"{name}.py").is_file() else f"pregao {name}"
    setting = "keep: 20" if name == "doctor" else "stock: VALE3"
    for text in (f"\n  {script}", "Choices (group=option)", setting, "Exit codes: 0 done"):
        assert text in done.stdout
    assert not (home / "outputs").exists()
