"""The models that answer: `served.json` in mlruns, which every change of a champion on this machine replaces.

Servers and predict.py read this file; they need neither MLflow nor PyTorch. Each entry names a folder with an ONNX
model, which never changes: another version has another folder.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pregao.errors import InvalidSymbol
from pregao.files import atomic_write, locked
from pregao.models.card import CARD
from pregao.prices.symbols import Symbol
from pregao.settings import settings

NOT_REGISTERED = 0
"""The version of a shipped model before its registration, which takes seconds on a new home."""


@dataclass(frozen=True)
class Entry:
    """A version that answers, and the folder of its ONNX model."""

    version: int
    run_id: str
    folder: Path


@dataclass(frozen=True)
class ServedModels:
    """The content of served.json: entries by ticker, and sentences on champions that cannot be served."""

    entries: dict[str, Entry]
    problems: dict[str, str]


def served_file() -> Path:
    """Return the path of served.json."""
    return settings().mlruns / "served.json"


def export_folder(ticker: str, version: int, run_id: str) -> Path:
    """Return the folder of a version's ONNX model, if its registered files have none."""
    return settings().mlruns / "served" / f"{ticker}-{version}-{run_id}"


def shipped_stocks() -> list[str]:
    """Return the tickers with a model in the package."""
    found = []
    for card in settings().models.glob(f"*/{CARD}"):
        with suppress(InvalidSymbol):
            found.append(Symbol.parse(card.parent.name).ticker)
    return sorted(found)


def read() -> ServedModels | None:
    """Return the content of served.json; None if it does not exist or is damaged."""
    try:
        text = json.loads(served_file().read_text(encoding="utf-8"))
        entries = {
            ticker: Entry(int(one["version"]), str(one["run_id"]), settings().mlruns / one["folder"])
            for ticker, one in text["models"].items()
        }
        return ServedModels(entries, {str(ticker): str(sentence) for ticker, sentence in text["problems"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def shipped() -> ServedModels:
    """Return the shipped models, for a home without served.json."""
    entries = {ticker: Entry(NOT_REGISTERED, "", settings().models / ticker) for ticker in shipped_stocks()}
    return ServedModels(entries, {})


def publish(ticker: str, entry: Entry) -> None:
    """Let this version answer from now on."""
    with locked(settings().mlruns / ".served.lock"):
        found = read() or ServedModels({}, {})
        problems = {stock: sentence for stock, sentence in found.problems.items() if stock != ticker}
        _write(found.entries | {ticker: entry}, problems)


def replace_all(models: ServedModels) -> None:
    """Let exactly these versions answer from now on; nothing is written if they do so already."""
    with locked(settings().mlruns / ".served.lock"):
        if read() != models:
            _write(models.entries, models.problems)


def _write(entries: Mapping[str, Entry], problems: Mapping[str, str]) -> None:
    # Relative paths: the home may be moved.
    models = {
        ticker: {
            "version": entry.version,
            "run_id": entry.run_id,
            "folder": os.path.relpath(entry.folder, settings().mlruns),
        }
        for ticker, entry in sorted(entries.items())
    }
    with atomic_write(served_file()) as file:
        file.write_text(json.dumps({"models": models, "problems": dict(problems)}, indent=1), encoding="utf-8")
