"""Small networks, their data, and trainings of a second."""

import json

import pytorch_lightning as pl
import torch
from safetensors.torch import load_file

from pregao.config import parse
from pregao.models.absolute import AbsoluteModel
from pregao.models.recurrent import RecurrentModel
from pregao.training.config import TrainConfig, TrainerChoices
from pregao.training.fit import Training
from pregao.training.module import ForecastModule
from pregao.training.pipeline import Pipeline
from tests.conftest import random_walk, small_config, windows_of

CHOICES = {"cell": "lstm", "hidden_size": 8, "num_layers": 2, "dropout": 0.1}


def untrained(loss="pinball", **choices):
    """A model with the initial weights of a seed."""
    torch.manual_seed(1)
    common = {"horizon": 10, "inputs": "window"} | CHOICES | choices
    return RecurrentModel(**common, shrinkage=0.25) if loss == "pinball" else AbsoluteModel(**common)


def learner(loss="pinball", learning_rate=5e-4, schedule="constant", weight_decay=1e-5, seed=1, history="", **choices):
    return ForecastModule(untrained(loss, **choices), learning_rate, weight_decay, schedule, seed, history)


def data(table=None):
    history = {"VALE3": random_walk() if table is None else table}
    found = windows_of(lambda: history)
    found.setup()
    return found


def trainer(**choices):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(accelerator="cpu", enable_checkpointing=False, **quiet, **choices)


def choices(**changed):
    return TrainerChoices(**{"threads": 1, "max_epochs": 4, "patience": None, "accelerator": "cpu"} | changed)


def train(folder, module=None, ckpt_path=None, callbacks=(), report=None, **changed):
    module = module or learner()
    training = Training(module, choices(**changed), folder, ckpt_path, callbacks)
    return module, training.fit(data(), report)


def weights(module):
    return torch.cat([p.detach().cpu().ravel() for p in module.model.parameters()])


def new(folder):
    folder.mkdir(parents=True)
    return folder


def run(folder, prices, *overrides, **given):
    """A training of VALE3 in a new folder."""
    return Pipeline(small_config(prices, *overrides, **given), new(folder)).run()


def saved_weights(result):
    return load_file(result.folder / "model/model.safetensors")


def composed(home, prices, *overrides, **given):
    """A pipeline before its training, the data of it, and its warm start or None."""
    pipeline = Pipeline(small_config(prices, *overrides, **given), home)
    return pipeline, *pipeline.data(pipeline.download())


def same(one, two):
    """Whether two state dicts have the same bits."""
    return all((one[name] == two[name]).all() for name in one)


def card_of(result):
    return json.loads((result.folder / "model/model.json").read_text())


def config_of(result):
    return parse(TrainConfig, json.loads((result.folder / "config.json").read_text()))
