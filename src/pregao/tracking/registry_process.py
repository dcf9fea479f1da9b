"""A short-lived process with MLflow and PyTorch, for servers that import neither.

python -m pregao.tracking.registry_process synchronise
python -m pregao.tracking.registry_process export VALE3 3
python -m pregao.tracking.registry_process rollback VALE3

The last line of its output is JSON: `{"version": …}`, or the class and the sentence of a refusal.
"""

import json
import sys
from collections.abc import Callable

from pregao.errors import answer_of, refusal
from pregao.prices.symbols import Symbol
from pregao.tracking import registry


def synchronise() -> None:
    """Register the shipped models, export all champions, and write served.json."""
    registry.synchronise()


def export(stock: str, version: str) -> int:
    """Export a version to ONNX; returns it."""
    registry.exported(Symbol.parse(stock), int(version))
    return int(version)


def rollback(stock: str) -> int:
    """Serve the previous version of a stock's model again; returns it."""
    return registry.rollback(Symbol.parse(stock)).version


TASKS: dict[str, Callable[..., int | None]] = {"synchronise": synchronise, "export": export, "rollback": rollback}


def main(name: str, *arguments: str) -> None:
    """Run a task, and print its result or its refusal."""
    try:
        answer: dict[str, object] = {"version": TASKS[name](*arguments)}
    except Exception as error:
        known = refusal(error)
        if known is None:
            raise
        answer = answer_of(known)
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
