"""Every choice of conf/ composes and is accepted; a value that is not allowed is refused in a sentence."""

from datetime import date
from importlib import import_module

import bare_closes
import folds
import published
import pytest
import reference_split
import yaml
from hydra import compose, initialize_config_dir

from pregao.backtesting.scores import NETWORKS
from pregao.config import CONF, parse
from pregao.errors import InvalidChoice
from pregao.forecasting.widths import BASELINES
from pregao.prices.sources import SOURCES, Source, source_class
from pregao.prices.symbols import Symbol

STAGES = {
    "doctor": "maintenance",
    "export": "forecasting",
    "models": "tracking",
    "rollback": "tracking",
    "train": "training",
    "backtest": "backtesting",
    "tune": "tuning",
    "predict": "forecasting",
    "serve": "api",
}
"""The packages with the settings of commands of another name."""

PROGRAMS = {
    name: getattr(import_module(f"pregao.{STAGES.get(name, name)}.config"), f"{name.title()}Config")
    for name in sorted(path.stem for path in CONF.glob("*.yaml"))
}


def groups(program):
    """The groups that a program composes, with their options."""
    defaults = yaml.safe_load((CONF / f"{program}.yaml").read_text(encoding="utf-8"))["defaults"]
    keys = [key for entry in defaults if isinstance(entry, dict) for key in entry]
    names = [key for key in keys if not key.startswith(("override ", "hydra/"))]
    return {name: sorted(file.stem for file in (CONF / name).glob("*.yaml")) for name in names}


def parsed(program, *overrides):
    with initialize_config_dir(str(CONF), version_base=None):
        return parse(PROGRAMS[program], compose(program, list(overrides)))


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_defaults_and_every_option_of_every_group_are_accepted(program, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    needed = {"panel=ibovespa": ["stock=SHARED"] * (program == "train"), "model=foundation": [f"model.path={tmp_path}"]}
    parsed(program)
    for group, names in groups(program).items():
        for name in names:
            parsed(program, f"{group}={name}", *needed.get(f"{group}={name}", ()))


def test_every_group_belongs_to_a_program_and_every_source_has_a_class():
    folders = {path.name for path in CONF.iterdir() if path.is_dir()} - {"hydra"}
    assert folders == {group.split("/")[0] for program in PROGRAMS for group in groups(program)}
    assert sorted(groups("train")["source"]) == sorted(("auto", *SOURCES))
    assert all(issubclass(source_class(name), Source) for name in SOURCES)


def test_the_experiments_of_absolute_prices_are_not_served_and_ibovespa_has_many_stocks():
    reference, shared = parsed("train", "experiment=reference"), parsed("train", "experiment=ibovespa")
    published = parsed("train", "experiment=published")
    for one in reference, published:
        assert (one.promote, one.train.init, one.data.inputs, one.data.batch_size) == ("never", "none", "window", 32)
        assert (one.optimizer.learning_rate, one.optimizer.weight_decay, one.optimizer.schedule) == (
            *(5e-4, 1e-5),
            "constant",
        )
        assert (one.trainer.max_epochs, one.trainer.gradient_clip_val, one.model["loss"]) == (150, None, "mse")
        assert one.dates == (date(2020, 1, 1), date(2025, 7, 27))
    assert (reference.evaluation.split, reference.trainer.patience, reference.data.shuffle) == ("reference", None, True)
    assert published.evaluation.split == "published"
    assert not published.data.shuffle
    assert published.trainer.patience >= published.trainer.max_epochs
    assert shared.stock == "SHARED"
    assert len({Symbol.parse(stock).ticker for stock in shared.stocks}) == len(shared.stocks) > 20


def test_the_walk_forward_of_version_0_1_has_the_model_and_the_days_of_the_other_tables():
    before = parsed("train", "experiment=ibovespa_first_version")
    other = parsed("backtest", "experiment/backtest=walk_forward_first_version")
    assert (other.model, other.data, other.trainer) == (before.model, before.data, before.trainer)
    whole = parsed("backtest", "experiment/backtest=walk_forward")
    same = {"model", "data", "models"}
    assert whole.model_dump(exclude=same) == other.model_dump(exclude=same)
    assert set(whole.models) < {*NETWORKS, *BASELINES}


def test_every_row_of_a_table_is_an_experiment_of_conf():
    named = {*reference_split.SHARED.values(), "no_pooling", *published.EXPERIMENTS, *bare_closes.MODELS.values()}
    named |= {*folds.NETWORKS.values(), folds.PANEL}
    assert named == {*groups("train")["experiment"]} - {"quickstart"}
    without = parsed("train", "experiment=ibovespa_no_online_width").model
    assert without == parsed("train", "experiment=ibovespa_first_version").model | {"online_width": False}


REFUSED = """
    model.hidden_size=-4 model.hidden_size=999999 model.hidden_size=4.5 model.hidden_size=null model.hidden_size=[20,40]
    model.dropout=1.5 model.dropout=nan model.cell=transformer model.shrinkage=0 model.loss=mse +model.layers=3
    optimizer.learning_rate=nan optimizer.learning_rate=inf optimizer.learning_rate=0 optimizer.schedule=step
    seed=-1 seed=4294967296 promote=maybe data.lookback=1 data.horizon=0 data.price=open data.inputs=volume
    data.batch_size=0 evaluation=5 evaluation.train=70 evaluation.split=random trainer.max_epochs=0 trainer.patience=0
    trainer.threads=100000 +trainer.callbacks=foo +trainer.fast_dev_run=true ckpt_path='' source.path='' stocks=[]
    train.init=VALE3 train.learning_rate_factor=0 stocks=VALE3 +foo=bar start=null stock=null
"""


@pytest.mark.parametrize("given", REFUSED.split())
def test_a_value_that_is_not_allowed_is_refused_with_its_key(given):
    with pytest.raises(InvalidChoice) as refused:
        parsed("train", given)
    assert str(refused.value).startswith(given.removeprefix("+").split("=")[0])


SENTENCES = {
    "model.hidden_size=forty": "model.hidden_size='forty': should be a valid integer",
    "model.hidden_size=1e400": "model.hidden_size=inf: should be a finite number",
    "model._target_=os.system": "model: 'os.system' is not a model; allowed is a ForecastModel in pregao.models",
    "evaluation.train=0.85": "evaluation: train=0.85 and validation=0.15 leave no test part; allowed: a sum below 1",
    "+trainer.devices=2": "trainer: devices=2 needs strategy=ddp_fork",
    "trainer=ddp trainer.accelerator=gpu": "trainer: strategy=ddp_fork with accelerator=gpu: a forked process",
    "trainer=ddp data.batch_size=33": "data.batch_size=33 cannot be divided among trainer.devices=2",
    "stocks=[VALE3,PETR4]": "stocks=[…] belongs to stock=SHARED only: choose experiment=ibovespa",
    "experiment=ibovespa if_drifted=true": "if_drifted=true needs one stock; the shared model has many",
    "model=absolute +model.shrinkage=0.25": "model.shrinkage: there is no such setting",
    "model=absolute model.loss=pinball": "model.loss='pinball': should be 'mse'",
    "seed=-1 data.lookback=1": "seed=-1: should be greater than or equal to 0; data.lookback=1: should be",
    "seed=${nope}": "The configuration does not resolve: Interpolation key 'nope' not found",
}


@pytest.mark.parametrize("given", SENTENCES)
def test_a_refusal_names_every_key_its_value_and_what_is_allowed(given):
    with pytest.raises(InvalidChoice) as refused:
        parsed("train", *given.split(" "))
    assert str(refused.value).startswith(SENTENCES[given])
    assert str(refused.value).endswith("--help, or conf/.")


def test_a_date_that_hydra_reads_as_a_number_stays_a_text_and_a_further_argument_is_for_the_trainer():
    config = parsed("train", "start=20200101", "+trainer.profiler=simple")
    assert config.start == "20200101"
    assert config.trainer.trainer_arguments()["profiler"] == "simple"


def test_a_missing_setting_is_named():
    with pytest.raises(InvalidChoice, match=r"^seed: this setting is needed"):
        parsed("train", "~seed")
