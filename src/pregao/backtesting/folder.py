"""The folder of a backtest: what it was begun with, and each part that is done, so that it can be gone on with."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from pregao.backtesting.scores import COLUMNS
from pregao.errors import InvalidChoice, first_line
from pregao.files import atomic_write
from pregao.models.choices import current

logger = logging.getLogger(__name__)

_REMEDY = "leave hydra.run.dir out to begin a new one."


@dataclass(frozen=True)
class BacktestFolder:
    """Files of one backtest."""

    path: Path

    def claim(self, choices: Mapping[str, Any], end: date) -> date:
        """Make the folder this backtest's, or find that it is already.

        Args:
            choices: what decides the backtest.
            end: the last day of a backtest that begins now.

        Returns:
            The last day, which stays what it was at the beginning.

        Raises:
            InvalidChoice: it is a backtest with other choices, or damaged.
        """
        begun = self._begun()
        if not begun:
            (self.path / "parts").mkdir(parents=True, exist_ok=True)
            self._begin({"choices": choices, "end": str(end)})
            return end
        before = begun["choices"] | {"model": current(begun["choices"].get("model", {}))}
        other = [name for name in choices if before.get(name) != choices[name]]
        if other:
            raise InvalidChoice(
                f"{self.path} holds a backtest with other choices ({', '.join(other)}). Give those again to go on with "
                f"it, or {_REMEDY}"
            )
        return date.fromisoformat(begun["end"])

    def hold_to(self, prices: Mapping[str, pd.DataFrame]) -> None:
        """Refuse to go on with other prices: parts would be judged by closes that others never saw."""
        begun, now = self._begun(), _fingerprint(prices)
        former = begun.get("prices")
        if former is None:
            self._begin(begun | {"prices": now})
        elif former != now:
            raise InvalidChoice(
                f"{self.path} holds a backtest of other prices: the source has changed since. Go on with the prices "
                f"that it was begun with, or {_REMEDY}"
            )

    def read(self, number: int, model: str) -> tuple[pd.DataFrame, list[str]] | None:
        """A model's forecasts of a period and what failed; None where they are not there, or damaged."""
        file = self._part(number, model)
        if not file.exists():
            return None
        try:
            table = pd.read_parquet(file)[COLUMNS]
            return table, list(json.loads(file.with_suffix(".json").read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError) as error:  # pyarrow's own are of these kinds
            logger.warning("%s is damaged (%s) and made again.", file, first_line(error, 100))
            return None

    def write(self, number: int, model: str, table: pd.DataFrame, failures: list[str]) -> None:
        """Write a part whole or not at all; its name says that it is done."""
        file = self._part(number, model)
        file.with_suffix(".json").write_text(json.dumps(failures), encoding="utf-8")
        with atomic_write(file) as temporary:
            table.to_parquet(temporary, index=False)

    def can_be_gone_on_with(self) -> bool:
        """Whether a part is done."""
        return any((self.path / "parts").glob("*.parquet"))

    def _part(self, number: int, model: str) -> Path:
        return self.path / "parts" / f"{number:03d} {model}.parquet"

    def _begun(self) -> dict[str, Any]:
        file = self.path / "backtest.json"
        try:
            begun: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return begun | {"choices": dict(begun["choices"]), "end": str(date.fromisoformat(begun["end"]))}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, KeyError):
            raise InvalidChoice(f"{file} is damaged, so that nobody knows whose parts lie here; {_REMEDY}") from None

    def _begin(self, begun: Mapping[str, Any]) -> None:
        with atomic_write(self.path / "backtest.json") as file:
            file.write_text(json.dumps(begun, indent=2) + "\n", encoding="utf-8")


def _fingerprint(prices: Mapping[str, pd.DataFrame]) -> str:
    digest = sha256()
    for stock, table in sorted(prices.items()):
        seen = table[[name for name in ("date", "open", "high", "low", "close") if name in table]]
        digest.update(stock.encode() + pd.util.hash_pandas_object(seen, index=False).to_numpy().tobytes())
    return digest.hexdigest()
