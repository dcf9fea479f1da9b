"""model=foundation: the contract on random weights, no network, and what is refused."""

import json
import shutil
import socket
from statistics import NormalDist

import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file, save_file

from pregao.backtesting.backtest import Backtest
from pregao.backtesting.config import BacktestConfig
from pregao.config import CONF, parse
from pregao.data.batch import Inputs
from pregao.errors import InvalidChoice, NoModel
from pregao.models.foundation import FoundationModel, at_levels
from pregao.models.trained import TrainedModel
from pregao.prices.symbols import Symbol
from pregao.quantiles import LEVELS
from pregao.testing import check_model, random_walks
from pregao.tracking import registry
from pregao.training.config import TrainConfig
from pregao.training.pipeline import Pipeline
from tests.conftest import random_walk
from tests.models import random_chronos

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("chronos")
    builds = (random_chronos.bolt, random_chronos.chronos2, random_chronos.paths)
    return {build.__name__: random_chronos.saved(build, base / build.__name__) for build in builds}


@pytest.fixture
def copy(folders, tmp_path):
    """A folder that a test may damage."""
    return shutil.copytree(folders["bolt"], tmp_path / "copy")


@pytest.fixture
def no_network(monkeypatch):
    def refused(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refused)


def composed(kind, program, *overrides):
    with initialize_config_dir(str(CONF), version_base=None):
        return parse(kind, compose(program, ["model=foundation", *overrides]))


def model_of(folder):
    return FoundationModel(horizon=10, inputs="window", path=str(folder))


@pytest.mark.parametrize("kind", ["bolt", "chronos2"])
def test_a_model_with_quantiles_satisfies_the_contract(folders, kind, no_network):
    check_model(FoundationModel, path=str(folders[kind]))


def test_sample_paths_give_the_same_quantiles_in_any_batch_and_leave_the_global_seed_alone(folders, no_network):
    model, inputs = model_of(folders["paths"]), random_walks(4).inputs
    torch.manual_seed(1)
    quantiles = model(inputs)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))
    assert quantiles.shape == (4, 10, 7)
    assert (quantiles.diff(dim=-1) >= 0).all()
    assert len(quantiles.unique()) > 20
    assert torch.equal(model(Inputs(*(each[2:] for each in inputs))), quantiles[2:])


def test_the_model_sees_each_close_of_the_window(folders):
    inputs = random_walks(2).inputs
    model = model_of(folders["bolt"])
    before = model(inputs)
    for session in (0, 10):
        closes = inputs.closes.clone()
        closes[:, session] *= 1.05
        assert (model(inputs._replace(closes=closes)) != before).any()


def test_quantiles_at_other_levels_are_exact_for_a_normal_distribution():
    levels = random_chronos.TENTHS
    known, wanted = (torch.tensor([NormalDist(0.5, 2).inv_cdf(p) for p in each]) for each in (levels, LEVELS))
    assert torch.allclose(at_levels(known.expand(3, 10, -1), levels), wanted.expand(3, 10, -1), atol=1e-5)


def test_a_training_judges_it_registers_it_and_never_serves_it(folders, home, prices, no_network):
    chosen = [f"model.path={folders['bolt']}", "source=csv", f"source.path={prices}", "start=2015-01-01"]
    folder = home / "outputs/VALE3/1"
    folder.mkdir(parents=True)
    config = composed(TrainConfig, "train", *chosen, "end=2024-12-30", "promote=always")
    result = Pipeline(config, folder).run()
    assert (result.verdict.promoted, result.version) == (False, 1)
    assert result.verdict.reason == "its weights are not in the registry: this model serves only comparisons"
    with pytest.raises(NoModel):
        registry.champion(Symbol.parse("VALE3"))
    assert 80 < result.metrics["coverage_90"] <= 100
    assert {"last close", "EWMA"} < {*result.evaluation.scores}
    assert (folder / "model" / WEIGHTS).stat().st_size < 1000
    assert json.loads((folder / "config.json").read_text())["model"]["path"] == str(folders["bolt"])
    windows = result.evaluation.windows
    again = TrainedModel.load(folder / "model").quantiles(windows.inputs, windows.volatilities, windows.stocks)
    assert again.shape == result.evaluation.forecasts["model"].shape


def test_a_backtest_scores_it_beside_the_baselines(folders, home, prices, no_network):
    random_walk(seed=1).to_csv(prices / "PETR4.csv", index=False)
    chosen = ["stocks=[VALE3,PETR4]", "models=[shared,last close,EWMA]", "source=csv", f"source.path={prices}"]
    dates = ["start=2015-01-01", "first_cutoff=2024-07-01", "end=2024-12-30"]
    config = composed(BacktestConfig, "backtest", f"model.path={folders['chronos2']}", *chosen, *dates)
    folder = home / "outputs/backtest/1"
    folder.mkdir(parents=True)
    outcome = Backtest(config, folder).run()
    assert outcome.walk.failures == ()
    scores = outcome.walk.scores
    [shared] = scores[(scores["model"] == "shared") & (scores["stock"] == "all") & (scores["step"] == "all")].to_dict(
        "records"
    )
    assert 80 < shared["coverage_90"] <= 100
    assert pd.notna(shared["against_naive"])


def refused(folder):
    with pytest.raises(InvalidChoice) as found:
        composed(TrainConfig, "train", f"model.path={folder}")
    return str(found.value)


def test_without_a_folder_it_says_what_to_copy():
    with pytest.raises(InvalidChoice) as found:
        composed(TrainConfig, "train")
    assert str(found.value).startswith(
        "model.path=None: no folder is given. model=foundation needs the folder of a Chronos model, with config.json "
        "and model.safetensors. Nothing is downloaded: copy such a folder to this machine, and give model.path=DIR."
    )


def test_a_folder_without_weights_or_with_pickled_ones_is_refused(copy):
    (copy / WEIGHTS).rename(copy / "pytorch_model.bin")
    assert f"{copy} has no *.safetensors. model=foundation needs the folder" in refused(copy)
    assert "pickled weights are not read" in refused(copy)
    (copy / "config.json").unlink()
    assert f"{copy} has no config.json and no *.safetensors." in refused(copy)
    shutil.rmtree(copy)
    assert f"{copy} is not a folder." in refused(copy)


def test_the_missing_extra_is_named(folders, monkeypatch):
    monkeypatch.setattr("pregao.models.foundation.find_spec", lambda _: None)
    assert "chronos-forecasting is not installed. Install the extra: pip install '.[foundation]'" in refused(
        folders["bolt"]
    )


def damaged(folder):
    (folder / WEIGHTS).write_bytes(b"not weights")


def without_a_tensor(folder):
    state = load_file(folder / WEIGHTS)
    state.pop("output_patch_embedding.output_layer.weight")
    save_file(state, folder / WEIGHTS, {"format": "pt"})


def of_another_model(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["chronos_config"], config["chronos_pipeline_class"]
    (folder / "config.json").write_text(json.dumps(config))


def with_its_own_code(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "unheard_of", "auto_map": {"AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('this code ran')")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (damaged, "it cannot be read"),
        (without_a_tensor, "its weights lack 1 tensors, output_patch_embedding.output_layer.weight among them"),
        (of_another_model, "it cannot be read (ValueError: Not a Chronos config file)"),
        (with_its_own_code, "it cannot be read"),
    ],
)
def test_a_folder_that_is_not_a_whole_chronos_model_is_refused(copy, damage, sentence, no_network):
    damage(copy)
    with pytest.raises(InvalidChoice) as found:
        model_of(copy)
    assert str(found.value).startswith(f"model.path={copy}: {sentence}")
    assert str(found.value).endswith("with config.json and model.safetensors.")
