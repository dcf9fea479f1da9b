import json
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from pregao.data.volatility import SPAN, TYPICAL_VOLATILITY, volatilities
from pregao.errors import CorruptModel, InvalidCloses
from pregao.models.choices import TARGET
from pregao.models.trained import CARD, MOST_CLOSES, WEIGHTS, ModelCard, TrainedModel, Window, check_closes
from pregao.quantiles import LEVELS, MEDIAN
from tests.conftest import random_walk
from tests.models.test_recurrent import TARGETS, trained

CHOICES = {
    TARGET: TARGETS["window"],
    "horizon": 10,
    "cell": "lstm",
    "hidden_size": 8,
    "num_layers": 2,
    "dropout": 0.1,
    "shrinkage": 0.25,
    "inputs": "window",
}
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


def test_what_is_saved_is_what_is_loaded(model, tmp_path):
    model.save(tmp_path / "m")
    again = TrainedModel.load(tmp_path / "m")
    assert again.card == model.card
    assert again.forecast(CLOSES).equals(model.forecast(CLOSES))


def test_a_forecast_is_a_row_a_step_and_its_bands_lie_in_each_other(model):
    table = model.forecast(CLOSES)
    assert list(table) == ["step", "close", "lower_80", "upper_80", "lower_90", "upper_90"]
    assert list(table["step"]) == list(range(1, 11))
    assert (table["lower_90"] < table["lower_80"]).all()
    assert (table["lower_80"] < table["close"]).all()
    assert (table["close"] < table["upper_80"]).all()
    assert (table["upper_80"] < table["upper_90"]).all()


def closes_of(n):
    return random_walk(n)["close"].tolist()


def test_more_closes_than_a_window_tell_how_much_the_stock_moves(model):
    calm, wild = ([50.0, 50.0 * (1 + size)] * 100 + CLOSES for size in (0.001, 0.05))
    quiet, loud = model.forecast(calm), model.forecast(wild)
    assert (loud["upper_90"] / loud["lower_90"] > quiet["upper_90"] / quiet["lower_90"]).all()


def test_closes_beyond_the_span_change_nothing(model):
    closes = closes_of(SPAN + 201)
    assert model.forecast(closes).equals(model.forecast(closes[200:]))
    assert not model.forecast(closes).equals(model.forecast(closes[-200:]))


def test_bare_closes_begin_at_the_volatility_of_the_models_stocks():
    model = trained_model()
    model = replace(model, card=replace(model.card, typical_volatility=3 * TYPICAL_VOLATILITY))
    [long_run] = model.window(CLOSES).volatilities
    expected = volatilities({"close": CLOSES}, "window", 3 * TYPICAL_VOLATILITY)[-1, 0]
    assert long_run == pytest.approx(expected, rel=1e-6)
    assert long_run > 2 * TYPICAL_VOLATILITY


@pytest.mark.parametrize("inputs", ["window", "history", "ohlc"])
def test_a_window_of_closes_has_the_volatilities_that_a_history_has_there(inputs):
    model, closes = trained_model(inputs=inputs), closes_of(400)
    window = model.window(closes)
    known = model.volatilities({"close": closes})[-1].astype(np.float32)
    assert window.closes == closes[-20:]
    assert np.array_equal(np.array(window.volatilities, np.float32), known, equal_nan=True)
    assert np.isnan(known).sum() == (3 if inputs == "ohlc" else 0)


@pytest.mark.parametrize("inputs", ["history", "ohlc"])
def test_a_window_alone_gives_a_finite_forecast_whatever_the_model_would_like_to_see(inputs):
    table = trained_model(inputs=inputs).forecast(CLOSES[-20:])
    assert np.isfinite(table.to_numpy(float)).all()
    assert (table["lower_90"] < table["upper_90"]).all()


@pytest.mark.parametrize("closes", [[7.0] * 20, [7.0] * 2000], ids=["window", "history"])
def test_prices_that_never_move_have_a_finite_narrow_ordered_forecast(closes):
    table = trained_model(inputs="ohlc").forecast(closes)
    assert np.isfinite(table.to_numpy(float)).all()
    assert (table["lower_90"] > 0).all()
    for lower, upper in (
        ("lower_90", "lower_80"),
        ("lower_80", "close"),
        ("close", "upper_80"),
        ("upper_80", "upper_90"),
    ):
        assert (table[lower] < table[upper]).all()


def test_a_width_is_on_the_bands_and_leaves_the_point_where_it_is(model):
    window = model.window(CLOSES)
    narrow, wide = (pd.DataFrame(model.rows(Window(window.closes, window.volatilities, width))) for width in (1.0, 1.3))
    assert wide["close"].tolist() == narrow["close"].tolist()
    for band in ("lower_80", "upper_80", "lower_90", "upper_90"):
        expected = 1.3 * np.log(narrow[band] / narrow["close"])
        assert np.log(wide[band] / wide["close"]).to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-6)


def test_many_windows_are_forecast_as_one_is(model):
    windows = [model.window(closes_of(300)[: 300 - ago]) for ago in range(3)]
    quantiles = model.quantiles(
        np.array([w.closes for w in windows]), np.array([w.volatilities for w in windows]), [""] * 3
    )
    assert quantiles.shape == (3, 10, len(LEVELS))
    for window, found in zip(windows, quantiles, strict=True):
        assert [row["close"] for row in model.rows(window)] == pytest.approx(found[:, MEDIAN].tolist(), rel=1e-6)


@pytest.mark.parametrize("damage", ["missing", "text", "cut", "pickle", "other network", "card"])
def test_a_damaged_model_is_refused(model, tmp_path, damage):
    model.save(tmp_path)
    weights = tmp_path / WEIGHTS
    match damage:
        case "missing":
            weights.unlink()
        case "text":
            weights.write_text("not weights")
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "pickle":
            weights.write_bytes(pickle.dumps({"weights": 1}))
        case "other network":
            card = json.loads((tmp_path / CARD).read_text())
            card["network"]["hidden_size"] = 9
            (tmp_path / CARD).write_text(json.dumps(card))
        case "card":
            (tmp_path / CARD).write_text("{}")
    with pytest.raises(CorruptModel, match=r"cannot be loaded \(.*\).* train the stock anew"):
        TrainedModel.load(tmp_path)


def test_a_planted_pickle_is_never_run(model, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    model.save(tmp_path)
    torch.save({"head": Bomb()}, tmp_path / WEIGHTS)
    with pytest.raises(CorruptModel):
        TrainedModel.load(tmp_path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 0, -1.5, "50", None, True, [50], 10**400])
def test_a_close_that_is_no_price_is_named_by_its_position(bad):
    with pytest.raises(InvalidCloses, match=r"number 7 of 25 is .*must be a positive, finite price"):
        check_closes([*CLOSES[:6], bad, *CLOSES[7:]], 20)


def test_too_few_and_too_many_closes_are_told_the_limits():
    for n in (0, 19, MOST_CLOSES + 1):
        with pytest.raises(InvalidCloses, match=rf"{n} were given; between 20 and 10,000 are needed"):
            check_closes([1.0] * n, 20)


def test_numpy_numbers_are_numbers():
    assert check_closes(list(np.array(CLOSES)), 20) == CLOSES
