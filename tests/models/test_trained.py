import json
import re
from dataclasses import replace
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
import torch

from pregao.data.volatility import SPAN, TYPICAL_VOLATILITY
from pregao.errors import CorruptModel, InvalidCloses
from pregao.models.card import CARD, ModelCard
from pregao.models.choices import TARGET
from pregao.models.forecaster import MOST_CLOSES, Window, check_closes
from pregao.models.trained import WEIGHTS, TrainedModel
from pregao.quantiles import BANDS
from tests.conftest import random_walk
from tests.models.test_contract import PerStock
from tests.models.test_recurrent import TARGETS, trained

CHOICES = {TARGET: TARGETS["window"], "horizon": 10, "inputs": "window", "shrinkage": 0.25}
CHOICES |= {"cell": "lstm", "hidden_size": 8, "num_layers": 2, "dropout": 0.1}
CLOSES = [50 + 0.5 * (i % 3) for i in range(25)]


def trained_model(**choices):
    card = ModelCard(
        stock="VALE3",
        stocks=["VALE3"],
        lookback=20,
        network=CHOICES | choices,
        price="adjusted",
        trained_at="2025-07-28T00:00:00+00:00",
        train_end="2024-01-01",
        validation_start="2024-01-02",
        validation_end="2024-06-28",
        data_end="2025-07-28",
        metrics={"a": 1.5, "skill_mape": None},
    )
    return TrainedModel(trained(**choices), card)


@pytest.fixture
def model():
    return trained_model()


def closes_of(n):
    return random_walk(n)["close"].tolist()


def test_a_saved_model_loads_unchanged(model, tmp_path):
    model.save(tmp_path / "m")
    again = TrainedModel.load(tmp_path / "m")
    assert again.card == model.card
    assert again.forecast(CLOSES).equals(model.forecast(CLOSES))


@pytest.mark.parametrize("closes", [CLOSES[-20:], [7.0] * 20, [7.0] * 2000], ids=["one window", "halted", "long halt"])
def test_a_forecast_is_one_row_per_step_with_finite_ordered_bands(closes):
    table = trained_model(inputs="ohlc").forecast(closes)
    assert list(table) == ["step", "close", "lower_80", "upper_80", "lower_90", "upper_90"]
    assert list(table["step"]) == list(range(1, 11))
    assert np.isfinite(table.to_numpy(float)).all()
    assert (table["lower_90"] > 0).all()
    assert (np.diff(table[["lower_90", "lower_80", "close", "upper_80", "upper_90"]]) > 0).all()


@pytest.mark.parametrize("inputs", ["window", "history", "ohlc"])
def test_a_window_of_closes_has_the_volatilities_of_the_whole_history(inputs):
    model, closes = trained_model(inputs=inputs), closes_of(SPAN + 201)
    window = model.window(closes)
    known = model.volatilities({"close": closes})[-1].astype(np.float32)
    assert window.closes == closes[-20:]
    assert np.array_equal(np.array(window.volatilities, np.float32), known, equal_nan=True)
    assert np.isnan(known).sum() == (3 if inputs == "ohlc" else 0)
    assert not np.array_equal(model.window(closes[-200:]).volatilities, window.volatilities)


def test_the_online_width_multiplies_the_bands_and_not_the_point_forecast(model):
    window = model.window(CLOSES)
    narrow, wide = (pd.DataFrame(model.rows(Window(window.closes, window.volatilities, width))) for width in (1.0, 1.3))
    assert wide["close"].tolist() == narrow["close"].tolist()
    for band in BANDS:
        expected = 1.3 * np.log(narrow[band] / narrow["close"])
        assert np.log(wide[band] / wide["close"]).to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-6)


def test_a_forecast_uses_the_index_of_the_windows_stock(model):
    network = PerStock(10, "window", 2)
    network.factor.copy_(torch.tensor([1.0, 2.0, 3.0]))
    model = replace(model, network=network, card=replace(model.card, stocks=["VALE3", "PETR4"]))
    window = model.window(CLOSES)
    found = {}
    for stock in ("VALE3", "PETR4", "ITUB4", ""):
        first = model.rows(replace(window, stock=stock))[0]
        found[stock] = np.log(first["upper_90"] / first["close"])
    assert [found[stock] / found["VALE3"] for stock in found] == pytest.approx([1, 2, 3, 3], rel=1e-4)


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("code in the weights was executed",)


def pickled(weights):
    file = BytesIO()
    torch.save({"head": weights}, file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        (WEIGHTS, None),
        (WEIGHTS, lambda content: b"not weights"),
        (WEIGHTS, lambda content: content[:-100]),
        (CARD, lambda content: content.replace(b'"hidden_size": 8', b'"hidden_size": 9')),
        (CARD, lambda content: b"{}"),
        (WEIGHTS, lambda content: pickled(Bomb())),
    ],
    ids=["missing", "text", "cut", "other network", "empty card", "code"],
)
def test_a_damaged_model_is_refused(model, tmp_path, file, damage):
    model.save(tmp_path)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).unlink()
    if damage is not None:
        (tmp_path / file).write_bytes(damage(content))
    with pytest.raises(CorruptModel):
        TrainedModel.load(tmp_path)


def test_a_card_without_later_fields_loads_with_their_defaults(model, tmp_path):
    model.save(tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    del card["returns"], card["typical_volatility"]
    (tmp_path / CARD).write_text(json.dumps(card))
    assert TrainedModel.load(tmp_path).card == replace(model.card, returns={}, typical_volatility=TYPICAL_VOLATILITY)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 0, -1.5, "50", None, True, [50], 10**400])
def test_a_close_that_is_not_a_price_is_named_by_its_position(bad):
    with pytest.raises(InvalidCloses, match=r"number 7 of 25 is .*must be a positive, finite price"):
        check_closes([*CLOSES[:6], bad, *CLOSES[7:]], 20)


@pytest.mark.parametrize("value", [1e308, 1e5, 5e-324, 16.9])
@pytest.mark.parametrize("position", [1, 7, 25])
def test_a_close_far_from_its_neighbours_is_named_by_its_position_and_value(value, position):
    closes = [51.0] * 25
    closes[position - 1] = value
    with pytest.raises(InvalidCloses, match=rf"number {position} of 25 is {re.escape(f'{value:g}')}, .*is 51;"):
        check_closes(closes, 20)
    closes[position - 1] = 17.1
    assert check_closes(closes, 20) == closes


def test_the_number_of_closes_has_limits():
    for n in (0, 19, MOST_CLOSES + 1):
        with pytest.raises(InvalidCloses, match=rf"{n} were given; between 20 and 10,000 are needed"):
            check_closes([1.0] * n, 20)
    for n in (20, MOST_CLOSES):
        assert check_closes(list(np.ones(n)), 20) == [1.0] * n
