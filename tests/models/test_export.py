"""Each model has an ONNX version with the same forecasts; damaged files are refused."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from pregao.data.market import Market
from pregao.errors import CorruptModel, NotExported
from pregao.models import export
from pregao.models.card import CARD, MARKET, ModelCard
from pregao.models.choices import build_model, with_data
from pregao.models.linear import LinearModel
from pregao.models.onnx import ONNX, OnnxModel
from pregao.models.trained import WEIGHTS, TrainedModel
from pregao.settings import REPOSITORY
from pregao.testing import random_walks
from tests.models.test_contract import NAMED, choices

STOCKS = ["ITUB4", "PETR4", "VALE3"]


def trained(network):
    """A model whose weights are not the initial ones, with a market."""
    torch.manual_seed(0)
    model = build_model(network).eval()
    model.initialise(random_walks(300))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    days = np.arange("2024-01-01", "2024-03-01", dtype="datetime64[D]").astype("datetime64[ns]")
    dates = dict.fromkeys(("train_end", "validation_start", "validation_end", "data_end"), "2024-01-01")
    card = ModelCard("VALE3", STOCKS, 20, network, "close", "2024-01-01T00:00:00+00:00", **dates, metrics={})
    return TrainedModel(model, card, Market(days, np.full(len(days), 4e-4), tuple(STOCKS)))


@pytest.fixture(scope="module")
def linear():
    return trained(with_data(choices("linear"), horizon=10, inputs="panel", lookback=20, stocks=3))


@pytest.fixture(scope="module")
def exported(linear, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "linear"
    export.export(linear, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_onnx_gives_the_forecasts_of_each_model(name, tmp_path):
    network = with_data(choices(name), horizon=10, inputs="panel", lookback=20, stocks=3)
    model = trained(network)
    found = export.export(model, tmp_path / name)  # compares windows of every kind
    assert found.card.follows_outcomes == model.network.follows_outcomes
    closes = (50 + np.sin(np.arange(60))).tolist()
    ours, theirs = (each.forecast(closes).to_numpy() for each in (model, found))
    np.testing.assert_allclose(theirs, ours, rtol=1e-6)


def test_the_folder_has_all_that_a_server_needs_and_no_paths_of_this_machine(linear, exported):
    assert sorted(file.name for file in exported.iterdir()) == [MARKET, CARD, ONNX]
    found = OnnxModel.load(exported)
    assert (found.card.stocks, found.market.stocks) == (STOCKS, tuple(STOCKS))
    window = linear.window([50.0 + day % 7 for day in range(300)])
    theirs = [list(row.values()) for row in found.rows(window)]
    np.testing.assert_allclose(theirs, [list(row.values()) for row in linear.rows(window)], rtol=1e-6)
    graph = (exported / ONNX).read_bytes()
    assert b".py" not in graph
    assert str(REPOSITORY).encode() not in graph


def test_a_forecast_does_not_depend_on_the_other_windows_of_a_call(exported):
    model, inputs = OnnxModel.load(exported), random_walks(8).inputs
    closes, measures = inputs.closes.numpy(), inputs.measures.numpy()
    together = model.quantiles(closes, measures, ["VALE3"] * 8)
    alone = [model.quantiles(closes[[n]], measures[[n]], ["VALE3"])[0] for n in range(8)]
    np.testing.assert_allclose(together, alone, rtol=1e-6)


@pytest.mark.parametrize("name", [ONNX, MARKET])
def test_a_changed_byte_is_refused(exported, tmp_path, name):
    for file in exported.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorruptModel, match=f"{name} does not have the SHA-256 of model.json"):
        OnnxModel.load(tmp_path)


def test_a_missing_file_and_other_weights_are_refused(linear, exported, tmp_path):
    linear.save(tmp_path / "model")
    with pytest.raises(CorruptModel, match=ONNX):
        OnnxModel.load(tmp_path / "model")
    (tmp_path / "model" / MARKET).unlink()
    with pytest.raises(CorruptModel, match=MARKET):
        TrainedModel.load(tmp_path / "model")
    linear.save(tmp_path / "other")
    weights = bytearray((tmp_path / "other" / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (tmp_path / "other" / WEIGHTS).write_bytes(weights)
    with pytest.raises(CorruptModel, match=WEIGHTS):
        TrainedModel.load(tmp_path / "other")


class Unexportable(LinearModel):
    def forward(self, inputs):
        return super().forward(inputs) if inputs.closes.sum() > 0 else inputs.closes[:, :, None]


class Different(LinearModel):
    """In the exporter's trace, forecasts differ by 0.1 per cent."""

    def forward(self, inputs):
        return super().forward(inputs) * (1.001 if torch.compiler.is_exporting() else 1.0)


@pytest.mark.parametrize(
    ("model", "reason"), [(Unexportable, "data-dependent"), (Different, "forecasts differ by 1.[0-9]e-03")]
)
def test_a_model_without_the_same_forecasts_in_onnx_is_refused_and_leaves_no_files(linear, tmp_path, model, reason):
    network = model(**{name: value for name, value in linear.card.network.items() if name != "_target_"})
    network.load_state_dict(linear.network.state_dict())
    with pytest.raises(NotExported, match=f"cannot be exported to ONNX .*{reason}"):
        export.export(TrainedModel(network, linear.card), tmp_path / "served" / "VALE3")
    assert list((tmp_path / "served").iterdir()) == []


def test_the_onnx_model_needs_neither_torch_nor_pandas_nor_mlflow(exported):
    code = (
        "import sys; from pathlib import Path; from pregao.models.onnx import OnnxModel;"
        f"rows = OnnxModel.load(Path({str(exported)!r})).rows; "
        "print(sorted({'torch', 'pandas', 'mlflow', 'scipy', 'pytorch_lightning'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
