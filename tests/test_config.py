"""Every choice of conf/ composes and is accepted; what is not allowed is refused in a sentence."""

from importlib import import_module
from itertools import product

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import open_dict

from pregao.config import CONF, parse
from pregao.data.volatility import NAMES
from pregao.errors import InvalidChoice
from pregao.models.absolute import AbsoluteModel
from pregao.models.choices import build_model, with_data
from pregao.prices.sources import SOURCES, Source, source_class
from pregao.prices.symbols import Symbol
from pregao.training.config import TrainConfig

STAGES = {"train": "training", "backtest": "backtesting", "tune": "tuning", "predict": "forecasting", "serve": "api"}
"""The package that holds the settings of a command, where the command is not called as the package is."""

PROGRAMS = {
    name: getattr(import_module(f"pregao.{STAGES.get(name, name)}.config"), f"{name.title()}Config")
    for name in sorted(path.stem for path in CONF.glob("*.yaml"))
}


def groups(program):
    """The groups that a program composes, with their options, as they lie in conf/."""
    defaults = yaml.safe_load((CONF / f"{program}.yaml").read_text(encoding="utf-8"))["defaults"]
    keys = [key for entry in defaults if isinstance(entry, dict) for key in entry]
    names = [key for key in keys if not key.startswith(("override ", "hydra/"))]
    return {name: sorted(file.stem for file in (CONF / name).glob("*.yaml")) for name in names}


def composed(program, *overrides):
    with initialize_config_dir(str(CONF), version_base=None):
        return compose(program, list(overrides))


def parsed(program, *overrides):
    return parse(PROGRAMS[program], composed(program, *overrides))


OPTIONS = [(program, f"{group}={name}") for program in PROGRAMS for group, ns in groups(program).items() for name in ns]


WITH = {("train", "panel=ibovespa"): ["stock=SHARED"]}
"""What an option asks for beside it."""


@pytest.mark.parametrize(("program", "option"), OPTIONS, ids=lambda value: value)
def test_every_option_of_every_group_composes(program, option):
    parsed(program, option, *WITH.get((program, option), []))


@pytest.mark.parametrize(
    ("experiment", "source"),
    [*product(groups("train")["experiment"], groups("train")["source"])],
    ids=lambda value: value,
)
def test_a_source_goes_with_every_experiment(experiment, source):
    assert parsed("train", f"experiment={experiment}", f"source={source}").source.name == source


def test_every_source_of_conf_is_a_file_with_its_class():
    assert sorted(groups("train")["source"]) == sorted(("auto", *SOURCES))
    for name in SOURCES:
        assert issubclass(source_class(name), Source)
        assert parsed("train", f"source={name}").source.name == name


def test_every_group_of_conf_belongs_to_a_program():
    folders = {path.name for path in CONF.iterdir() if path.is_dir()} - {"hydra"}
    assert folders == set().union(*map(groups, PROGRAMS))


@pytest.mark.parametrize("program", ["backtest", "tune"])
def test_windows_and_optimizer_are_the_same_for_every_training(program):
    train, other = parsed("train"), parsed(program)
    assert (other.data, other.optimizer) == (train.data, train.optimizer)


@pytest.mark.parametrize("program", PROGRAMS)
def test_only_a_command_that_trains_makes_a_run_folder(program):
    with initialize_config_dir(str(CONF), version_base=None):
        hydra = compose(program, return_hydra_config=True).hydra
    trains = program in {"train", "tune", "backtest"}
    assert (hydra.output_subdir is not None, hydra.run.dir != ".") == (trains, trains)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_defaults_are_complete(program):
    parsed(program)


def test_an_experiment_yields_to_the_command_line():
    assert parsed("train", "experiment=reference", "trainer.max_epochs=3").trainer.max_epochs == 3
    assert parsed("train", "experiment=quickstart", "stock=NASDAQ").stock == "NASDAQ"


def test_the_reference_experiment_is_never_served():
    assert parsed("train", "experiment=reference").promote == "never"


def test_further_arguments_trainer_arguments_are_kept():
    trainer = parsed("train", "+trainer.profiler=simple").trainer
    assert trainer.trainer_arguments()["profiler"] == "simple"


@pytest.mark.parametrize(("model", "loss"), [("lstm", "pinball"), ("absolute", "mse")])
def test_each_scaling_has_its_loss(model, loss):
    assert parsed("train", f"model={model}").model["loss"] == loss


def test_a_network_is_built_from_what_is_chosen_and_nothing_else():
    model = build_model(with_data(parsed("train", "model.hidden_size=4").model, horizon=5, inputs="history"))
    assert (model.horizon, model.measures, model.encoder.cell.hidden_size) == (5, NAMES["history"], 4)
    absolute = build_model(with_data(parsed("train", "model=absolute").model, horizon=5, inputs="window"))
    assert isinstance(absolute, AbsoluteModel)


def test_the_ibovespa_experiment_is_the_shared_model_of_many_stocks():
    chosen = parsed("train", "experiment=ibovespa")
    assert chosen.stock == "SHARED"
    assert len(set(chosen.stocks)) == len(chosen.stocks) > 20
    assert {Symbol.parse(stock).ticker for stock in chosen.stocks} == set(chosen.stocks)
    assert parsed("train", "experiment=ibovespa", "stocks=[VALE3,PETR4]").stocks == ["VALE3", "PETR4"]


REFUSED = {
    "model.hidden_size=-4": "model.hidden_size=-4: should be greater than 0",
    "model.hidden_size=999999": "model.hidden_size=999999: should be less than or equal to 512",
    "model.hidden_size=4.5": "model.hidden_size=4.5: should be a valid integer",
    "model.hidden_size=forty": "model.hidden_size='forty': should be a valid integer",
    "model.hidden_size=1e400": "model.hidden_size=inf: should be a finite number",
    "model.hidden_size=null": "model.hidden_size=None: should be a valid integer",
    "model.hidden_size=[20,40]": "model.hidden_size=[20, 40]: should be a valid integer",
    "model.dropout=1.5": "model.dropout=1.5: should be less than 1",
    "model.dropout=nan": "model.dropout=nan: should be a finite number",
    "model.cell=transformer": "model.cell='transformer': should be 'lstm' or 'gru'",
    "model.shrinkage=0": "model.shrinkage=0: should be greater than 0",
    "model.shrinkage=null": "model.shrinkage=None: should be a valid number",
    "model.loss=mse": "model.loss='mse': should be 'pinball'",
    "model._target_=os.system": "model: 'os.system' is not a model; allowed is a ForecastModel in pregao.models",
    "+model.layers=3": "model.layers: there is no such setting",
    "optimizer.learning_rate=nan": "optimizer.learning_rate=nan: should be a finite number",
    "optimizer.learning_rate=inf": "optimizer.learning_rate=inf: should be a finite number",
    "optimizer.learning_rate=0": "optimizer.learning_rate=0: should be greater than 0",
    "optimizer.schedule=step": "optimizer.schedule='step': should be 'cosine' or 'constant'",
    "seed=-1": "seed=-1: should be greater than or equal to 0",
    "seed=4294967296": "seed=4294967296: should be less than 4294967296",
    "promote=maybe": "promote='maybe': should be 'auto', 'always' or 'never'",
    "data.lookback=1": "data.lookback=1: should be greater than or equal to 2",
    "data.horizon=0": "data.horizon=0: should be greater than 0",
    "data.price=open": "data.price='open': should be 'adjusted' or 'close'",
    "data.inputs=volume": "data.inputs='volume': should be 'window', 'history' or 'ohlc'",
    "data.batch_size=0": "data.batch_size=0: should be greater than 0",
    "evaluation=5": "evaluation=5: should be a valid dictionary",
    "trainer.max_epochs=0": "trainer.max_epochs=0: should be greater than 0",
    "trainer.patience=0": "trainer.patience=0: should be greater than 0",
    "trainer.threads=100000": "trainer.threads=100000: should be less than or equal to 256",
    "+trainer.callbacks=foo": "trainer.callbacks: there is no such setting",
    "+trainer.fast_dev_run=true": "trainer.fast_dev_run: there is no such setting",
    "evaluation.train=0.85": "evaluation: train=0.85 and validation=0.15 leave no test part; allowed: a sum below 1",
    "evaluation.train=70": "evaluation.train=70: should be less than or equal to 0.98",
    "evaluation.split=random": "evaluation.split='random': should be 'date' or 'reference'",
    "ckpt_path=''": "ckpt_path='': should be a path, or null for none",
    "source.path=''": "source.path='': should be a path, or null for none",
    "train.init=VALE3": "train.init='VALE3': should be 'auto', 'shared' or 'none'",
    "train.learning_rate_factor=0": "train.learning_rate_factor=0: should be greater than 0",
    "stocks=[VALE3,PETR4]": "stocks=[…] belongs to stock=SHARED only: choose experiment=ibovespa",
    "panel=ibovespa": "stocks=[…] belongs to stock=SHARED only: choose experiment=ibovespa",
    "stock=SHARED": "stocks=[…] belongs to stock=SHARED only: choose experiment=ibovespa",
    "stock=shared": "stocks=[…] belongs to stock=SHARED only: choose experiment=ibovespa",
    "stocks=[]": "stocks=[]: List should have at least 1 item",
    "stocks=VALE3": "stocks='VALE3': should be a valid list",
    "+foo=bar": "foo: there is no such setting",
    "start=null": "start=None: should be a text",
    "stock=null": "stock=None: should be a text",
}


@pytest.mark.parametrize("given", REFUSED)
def test_what_is_not_allowed_is_refused_with_key_value_and_what_is(given):
    with pytest.raises(InvalidChoice) as refused:
        parsed("train", given)
    sentence = str(refused.value)
    assert sentence.startswith(REFUSED[given])
    assert "pydantic" not in sentence
    assert "\n" not in sentence


def test_shrinkage_does_not_go_with_the_absolute_model():
    with pytest.raises(InvalidChoice, match=r"^model.shrinkage: there is no such setting"):
        parsed("train", "model=absolute", "+model.shrinkage=0.25")


def test_the_absolute_model_learns_no_quantiles():
    with pytest.raises(InvalidChoice, match=r"^model.loss='pinball': should be 'mse'"):
        parsed("train", "model=absolute", "model.loss=pinball")


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(
        InvalidChoice, match=r"^seed=-1: .*; data\.lookback=1: .*\. The choices and their meaning: --help"
    ):
        parsed("train", "seed=-1", "data.lookback=1")


@pytest.mark.parametrize(("given", "start"), [("start=20200101", "20200101"), ("start=2020", "2020")])
def test_a_date_that_hydra_takes_for_a_number_stays_the_text_that_was_typed(given, start):
    assert parsed("train", given).start == start


def test_a_setting_that_is_missing_is_named():
    cfg = composed("train")
    with open_dict(cfg):
        del cfg["seed"]
    with pytest.raises(InvalidChoice, match=r"^seed: this setting is needed"):
        parse(TrainConfig, cfg)


def test_a_reference_to_nothing_is_refused():
    with pytest.raises(InvalidChoice, match="The configuration does not resolve: Interpolation key 'nope' not found"):
        parsed("train", "seed=${nope}")


def test_a_long_value_is_shortened():
    with pytest.raises(InvalidChoice) as refused:
        parsed("train", f"promote={'x' * 5000}")
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("format=xml", "format='xml': should be 'table' or 'json'"),
        ("closes=abc", "closes='abc': should be a valid list"),
        ("closes={a: 1}", "closes: should be a valid list"),
    ],
)
def test_predict_refuses_what_it_does_not_know(given, sentence):
    with pytest.raises(InvalidChoice) as refused:
        parsed("predict", given)
    assert str(refused.value).startswith(sentence)
