"""A model for other programs: one folder with the ONNX model, its card, and a README that says how to use it."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from pregao.data.volatility import NAMES
from pregao.models.card import MARKET, ModelCard
from pregao.models.onnx import INPUTS, ONNX, OUTPUT
from pregao.quantiles import LEVELS, MEDIAN

README = "README.md"

TEXT = """# {stock}: the next {horizon} closes from the last {lookback}

Trained {trained_at} on closes up to {data_end} (`price` is {price}). `model.json` is the card: data, test metrics
of the model and of the baselines (`metrics`), and the SHA-256 of the other files (`files`).

| input of `model.onnx` | type | |
|---|---|---|
| `closes` | float64 [n, {lookback}] | the last closes, oldest first, in the stock's currency |
| `measures` | float32 [n, {columns}] | daily volatilities as fractions, NaN where unknown; the first must be known |
| `stock` | int64 [n] | place in `stocks` of the card, -1 for another stock |

The output `{output}` is float64 [n, {horizon}, {levels}]: closes at the levels {names}. The 90 % band is the first and
the last; {width}.

Measures: {measures}. The better they are known, the better the bands: `pregao.data.volatility` computes them.

```python
import json, numpy as np, onnxruntime

card = json.load(open("model.json"))
session = onnxruntime.InferenceSession("model.onnx")
closes = np.array([[54.1, 53.9, 54.4, 54.0, 53.2, 53.5, 52.8, 53.1, 53.9, 54.6,
                    54.2, 55.0, 55.3, 54.9, 55.6, 55.1, 54.8, 55.4, 55.9, 55.5]])
measures = np.full((1, {columns}), np.nan, np.float32)
measures[0, 0] = np.diff(np.log(closes)).std()
stock = np.array([card["stocks"].index({example!r})])
values = {{"closes": closes, "measures": measures, "stock": stock}}
quantiles = session.run(["{output}"], values)[0]
print(quantiles[0, :, {median}])  # the median of each day
```
"""


def write_portable(source: Path, target: Path) -> None:
    """Copy a model's ONNX version, and add the README.

    Args:
        source: a folder with an ONNX model.
        target: a folder that does not exist yet.

    Raises:
        CorruptModel: a file of the source is missing or damaged.
    """
    card = ModelCard.load(source)
    content, market = card.read(source, ONNX), card.read_market(source)
    target.mkdir(parents=True)
    (target / ONNX).write_bytes(content)
    if market is not None:
        shutil.copyfile(source / MARKET, target / MARKET)
    card.save(target)
    (target / README).write_text(readme(card), encoding="utf-8")


def zipped(source: Path, name: str) -> bytes:
    """The content of `write_portable` as a zip of one folder of this name."""
    with TemporaryDirectory() as folder:
        write_portable(source, Path(folder) / name)
        file = shutil.make_archive(f"{folder}/archive", "zip", folder, name)
        return Path(file).read_bytes()


def readme(card: ModelCard) -> str:
    """The text of the README."""
    assert INPUTS == ("closes", "measures", "stock")
    names = NAMES[card.inputs]
    width = (
        "their distance from the median is multiplied by the online width (`calibration.online_widths` in Pregão)"
        if card.follows_outcomes
        else "the bands need no further factor"
    )
    return TEXT.format(
        stock=card.stock,
        horizon=card.horizon,
        lookback=card.lookback,
        trained_at=card.trained_at[:10],
        data_end=card.data_end,
        price=card.price,
        columns=len(names),
        output=OUTPUT,
        levels=len(LEVELS),
        names=", ".join(f"{level:g}" for level in LEVELS),
        width=width,
        measures=", ".join(f"`{name}`" for name in names),
        example=card.stocks[0],
        median=MEDIAN,
    )
