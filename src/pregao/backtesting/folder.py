"""The folder of a backtest: its settings and finished parts, so that it can be resumed."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from pregao.backtesting.scores import COLUMNS
from pregao.errors import InvalidChoice, first_line
from pregao.files import atomic_write
from pregao.models.choices import with_new_choices
from pregao.tracking.code import Code

logger = logging.getLogger(__name__)

_REMEDY = "leave hydra.run.dir out to start a new one."


@dataclass(frozen=True)
class BacktestFolder:
    """The files of one backtest."""

    path: Path

    def claim(self, choices: Mapping[str, Any], end: date) -> date:
        """Write the settings to a new folder, or compare them with those of an existing one.

        Args:
            choices: the settings of the backtest.
            end: the last day of a new backtest.

        Returns:
            The last day; a resumed backtest keeps its first value.

        Raises:
            InvalidChoice: the folder has other settings, or is damaged.
        """
        state = self._read_state()
        if not state:
            (self.path / "parts").mkdir(parents=True, exist_ok=True)
            self._write_state({"choices": choices, "end": str(end)})
            return end
        before = state["choices"] | {"model": with_new_choices(state["choices"].get("model", {}))}
        other = [name for name in choices if name in before and before[name] != choices[name]]  # older ones have fewer
        if other:
            raise InvalidChoice(
                f"{self.path} has a backtest with other settings ({', '.join(other)}). Give the same to resume it, or "
                f"{_REMEDY}"
            )
        return date.fromisoformat(state["end"])

    def check_prices(self, prices: Mapping[str, pd.DataFrame]) -> None:
        """Refuse to resume with other prices, because all parts must use the same closes."""
        state, now = self._read_state(), _fingerprint(prices)
        known = state.get("prices")
        if known is None:
            self._write_state(state | {"prices": now})
        elif known != now:
            raise InvalidChoice(
                f"{self.path} has a backtest of other prices: the source has changed. Resume with the same prices, or "
                f"{_REMEDY}"
            )

    def record_code(self, code: Code) -> None:
        """Write the code that computes the parts; a resumed backtest may have parts of several commits."""
        state, now = self._read_state(), asdict(code)
        before = state.get("code", [])
        if now in before:
            return
        if before:
            other = Code(**before[-1])
            logger.warning("%s has parts that other code computed (%s); this is %s.", self.path, other, code)
        self._write_state(state | {"code": [*before, now]})

    def read(self, number: int, model: str) -> tuple[pd.DataFrame, list[str]] | None:
        """A model's forecasts in a period and the failures; None if the part is missing or damaged."""
        file = self._part(number, model)
        if not file.exists():
            return None
        try:
            table = pd.read_parquet(file)[COLUMNS]
            return table, list(json.loads(file.with_suffix(".json").read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are subclasses of these
            logger.warning("%s is damaged (%s) and is computed again.", file, first_line(error, 100))
            return None

    def write(self, number: int, model: str, table: pd.DataFrame, failures: list[str]) -> None:
        """Write a part. Its .parquet file is written last, so a part with this file is complete."""
        file = self._part(number, model)
        file.with_suffix(".json").write_text(json.dumps(failures), encoding="utf-8")
        with atomic_write(file) as temporary:
            table.to_parquet(temporary, index=False)

    def has_parts(self) -> bool:
        """Whether a part is finished."""
        return any((self.path / "parts").glob("*.parquet"))

    def _part(self, number: int, model: str) -> Path:
        return self.path / "parts" / f"{number:03d} {model}.parquet"

    def _read_state(self) -> dict[str, Any]:
        file = self.path / "backtest.json"
        try:
            state: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return state | {"choices": dict(state["choices"]), "end": str(date.fromisoformat(state["end"]))}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, KeyError):
            raise InvalidChoice(f"{file} is damaged, so the settings of its parts are unknown; {_REMEDY}") from None

    def _write_state(self, state: Mapping[str, Any]) -> None:
        with atomic_write(self.path / "backtest.json") as file:
            file.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")


def _fingerprint(prices: Mapping[str, pd.DataFrame]) -> str:
    digest = sha256()
    for stock, table in sorted(prices.items()):
        seen = table[[name for name in ("date", "open", "high", "low", "close") if name in table]]
        digest.update(stock.encode() + pd.util.hash_pandas_object(seen, index=False).to_numpy().tobytes())
    return digest.hexdigest()
