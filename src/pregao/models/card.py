"""The description of a trained model, as JSON in the folder of its files, with their checksums."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pregao.data.market import LEAST_STOCKS, Market
from pregao.data.volatility import TYPICAL_VOLATILITY
from pregao.errors import CorruptModel, first_line

if TYPE_CHECKING:  # an inference process saves pandas' 50 MB
    from pregao.prices.table import PriceBasis

CARD, MARKET = "model.json", "market.csv"

CHECKED = (".csv", ".onnx", ".safetensors")
"""Suffixes of the files whose checksums are on the card."""


LOOKBACK, HORIZON = 20, 10
"""Window sizes of POST /predict: clients send 20 closes and get 10 prices."""


def not_for_predict(lookback: int, horizon: int) -> str | None:
    """Why POST /predict cannot use a model of these sizes, as the end of a sentence; None if it can."""
    if (lookback, horizon) == (LOOKBACK, HORIZON):
        return None
    return (
        f"/predict answers with {HORIZON} prices after {LOOKBACK} closes, and this model forecasts {horizon} after "
        f"{lookback} (data.horizon, data.lookback)"
    )


@dataclass(frozen=True)
class ModelCard:
    """Description of a trained model.

    Attributes:
        stock: the ticker; SHARED for a model of many stocks.
        stocks: the stocks that it was trained on.
        lookback: closes per window.
        network: the model's `_target_` and its constructor's arguments.
        price: basis of its prices, `adjusted` or `close`.
        trained_at: ISO 8601, UTC.
        train_end: the last date of the training part.
        validation_start: the first date of the validation part; the online width starts there.
        validation_end: the last date of the validation part, which selects the epoch and calibrates the bands.
        data_end: the last date of its data, test part included.
        metrics: of the test windows, with the baselines'.
        returns: by stock, `drift.summary` of its closes before `validation_start`.
        typical_volatility: root mean square daily log return of its stocks before `validation_start`; replaces
            the unknown past of a short history.
        panel: the stocks of its market factor; empty for one stock alone and on older cards.
        follows_outcomes: of an exported model, whether its bands use the online width.
        files: SHA-256 of its weights and its market, by file name; empty on older cards.
    """

    stock: str
    stocks: list[str]
    lookback: int
    network: dict[str, Any]
    price: "PriceBasis"
    trained_at: str
    train_end: str
    validation_start: str
    validation_end: str
    data_end: str
    metrics: dict[str, float | None]
    returns: dict[str, dict[str, Any] | None] = field(default_factory=dict)  # older cards have none
    typical_volatility: float = TYPICAL_VOLATILITY
    panel: list[str] = field(default_factory=list)
    follows_outcomes: bool = True
    files: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def horizon(self) -> int:
        """Sessions ahead."""
        return int(self.network["horizon"])

    @property
    def inputs(self) -> str:
        """The measures, a key of `volatility.NAMES`."""
        return str(self.network["inputs"])

    @property
    def market_stocks(self) -> list[str]:
        """The stocks of its market factor; of an older card, those of a shared model."""
        return self.panel or (self.stocks if len(self.stocks) >= LEAST_STOCKS else [])

    def save(self, folder: Path) -> None:
        """Write `model.json` with the checksums of weights and market, which the folder has already."""
        found = sorted(path for path in folder.iterdir() if path.suffix in CHECKED)
        files = {path.name: _checksum(path.read_bytes()) for path in found}
        text = json.dumps(asdict(replace(self, files=files)), indent=2, allow_nan=False)
        (folder / CARD).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "ModelCard":
        """Read what `save` wrote.

        Raises:
            CorruptModel: the file is missing or damaged.
        """
        with damage_refused(folder):
            return cls(**json.loads((folder / CARD).read_text(encoding="utf-8")))

    def read(self, folder: Path, name: str) -> bytes:
        """The content of a file of the folder, which has the checksum of the card; older cards have no checksums.

        Raises:
            CorruptModel: the file is missing or damaged.
        """
        with damage_refused(folder):
            content = (folder / name).read_bytes()
            if self.files.get(name, _checksum(content)) != _checksum(content):
                raise ValueError(f"{name} does not have the SHA-256 of {CARD}")
            return content

    def read_market(self, folder: Path) -> Market | None:
        """The market factor of its panel; None without one.

        Raises:
            CorruptModel: the file is damaged.
        """
        if MARKET not in self.files and not (folder / MARKET).exists():
            return None
        with damage_refused(folder):
            return Market.parse(self.read(folder, MARKET).decode("utf-8"), self.market_stocks)


@contextmanager
def damage_refused(folder: Path) -> Iterator[None]:
    """Raise CorruptModel for what a missing or damaged file of a model's folder raises."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise CorruptModel(folder, f"{type(error).__name__}: {first_line(error)}") from error


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
