"""The console script: pregao COMMAND [key=value …]."""

import sys
from importlib import import_module

COMMANDS = ("dashboard", "prices")


def main() -> None:
    """Run the command that is named first."""
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name not in COMMANDS:
        sys.stderr.write(f"{name!r} is not a command. Allowed: {', '.join(COMMANDS)}.\n")
        sys.exit(2)
    if name == "prices" and len(sys.argv) > 1 and not sys.argv[1].startswith("-") and "=" not in sys.argv[1]:
        sys.argv[1] = f"stock={sys.argv[1]}"  # pregao prices VALE3: the stock may come without its key
    import_module(f"pregao.cli.{name}").main()


if __name__ == "__main__":
    main()
