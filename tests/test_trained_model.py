import json
import pickle

import numpy as np
import pytest
import torch

from pregao.errors import CorruptModel, InvalidCloses
from pregao.trained_model import CARD, MOST_CLOSES, WEIGHTS, ModelCard, TrainedModel, check_closes
from tests.test_network import trained

CHOICES = {
    "scaling": "window",
    "horizon": 10,
    "cell": "lstm",
    "hidden_size": 8,
    "num_layers": 2,
    "dropout": 0.1,
    "shrinkage": 0.25,
}
CLOSES = [50 + 0.5 * (i % 3) for i in range(25)]


@pytest.fixture
def model():
    card = ModelCard(
        "VALE3", 20, CHOICES, "adjusted", "2025-07-28T00:00:00+00:00", "2024-01-01", "2025-07-28", {"a": 1.5}
    )
    return TrainedModel(trained(), card)


def test_what_is_saved_is_what_is_loaded(model, tmp_path):
    model.save(tmp_path / "m")
    again = TrainedModel.load(tmp_path / "m")
    assert again.card == model.card
    assert again.forecast(CLOSES).equals(model.forecast(CLOSES))


def test_a_forecast_uses_the_last_closes_alone(model):
    table = model.forecast(CLOSES)
    assert list(table) == ["step", "close", "lower_80", "upper_80", "lower_90", "upper_90"]
    assert list(table["step"]) == list(range(1, 11))
    assert (table["lower_90"] < table["lower_80"]).all()
    assert (table["upper_80"] < table["upper_90"]).all()
    assert table.equals(model.forecast([1.0, *CLOSES]))


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
