"""The console script: pregao COMMAND [key=value …]."""

import sys
from difflib import get_close_matches
from importlib import import_module

COMMANDS = {
    "train": "train, evaluate and register a model of a stock",
    "predict": "forecast the next 10 closes of a stock",
    "backtest": "score the model and the baselines on past forecasts",
    "tune": "search for better settings with Optuna",
    "serve": "the HTTP API",
    "dashboard": "the pages in the browser",
    "prices": "report on the prices of a stock",
    "models": "the versions of a stock's model",
    "doctor": "look for damage and old runs in the home",
    "rollback": "serve the version that was served before",
    "export": "a model for other programs, as ONNX",
}
"""The commands; each is a module of this package."""

HELP = """pregao COMMAND [key=value …]

{commands}

  pregao train stock=PETR4 start=2018-01-01
  pregao predict stock=PETR4

Settings, choices and exit codes of a command: pregao COMMAND --help.
"""


def main() -> None:
    """Run the command in the first argument."""
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name in COMMANDS:
        if name == "prices" and len(sys.argv) > 1 and not sys.argv[1].startswith("-") and "=" not in sys.argv[1]:
            sys.argv[1] = f"stock={sys.argv[1]}"  # pregao prices VALE3: the key of the stock may be left out
        if name == "doctor" and sys.argv[1:2] == ["prune"]:
            sys.argv[1] = "prune=true"
        import_module(f"pregao.cli.{name}").main()
    elif name in ("-h", "--help"):
        sys.stdout.write(_help())
    else:
        sys.stderr.write(_unknown(name) if name else _help())
        sys.exit(2)


def _help() -> str:
    return HELP.format(commands="\n".join(f"  {name:<11}{summary}" for name, summary in COMMANDS.items()))


def _unknown(name: str) -> str:
    near = get_close_matches(name, COMMANDS, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{name[:40]!r} is not a command.{hint} Allowed: {', '.join(COMMANDS)}. More: pregao --help.\n"


if __name__ == "__main__":
    main()
