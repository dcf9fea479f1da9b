"""Every bad input that we know is one sentence and exit code 2, and leaves nothing behind."""

import json
import os
import subprocess
import sys

import pytest

from pregao.config import CONF
from pregao.errors import NotNeeded
from tests.cli.conftest import closes, left, quick, sentence, small
from tests.conftest import environment, random_walk

MODELS = " ".join(sorted(file.stem for file in (CONF / "model").glob("*.yaml")))

REFUSED = [  # with *, after the choices of a small run on real files
    ("train", "model.hiden_size=40", "model.hiden_size: there is no such setting. Did you mean model.hidden_size? "),
    ("train", "sorce=csv", "sorce: there is no such setting. Did you mean source? Allowed at the top: source, model"),
    ("train", "model=lstmm", f"In 'train': Could not find 'model/lstmm' Available options in 'model': {MODELS}."),
    ("train", "model=foundation", "model.path=None: no folder is given. model=foundation needs the folder of a "),
    ("train", "model=foundation model.path=/", "model.path='/': / has no config.json and no *.safetensors. "),
    ("train", "data=5", "Config group override must be a string or a list. Got int."),
    ("train", "+trainer.max_epochs=3", "Could not append to config. An item is already at 'trainer.max_epochs'."),
    ("train", "stock", "'stock' cannot be read ("),
    ("train", "ckpt_path=", "ckpt_path='': should be a path, or null for none"),
    ("train", "start=2024-06-01 end=2024-01-31", "start=2024-06-01 is after end=2024-01-31."),
    *(("train", f"stock={stock}", "stock=") for stock in ("''", "../../../escaped", "/etc/passwd", "[VALE3,PETR4]")),
    ("train", "source=yahoo source.path=/tmp", "source.path=/tmp is not "),
    ("train", "source=sample", "VALE3: sample knows no such stock"),
    ("train", "stock=SHARED", "stocks=[…] belongs to stock=SHARED only"),
    ("train", "sweep=optuna", "sweep=optuna is the search space of tune.py"),
    ("train", "-m", "The sweep is empty: no setting has several values."),
    ("train", "-m seed=1,2 sweep.metric=final_mape", "sweep.metric='final_mape': should be 'val_pinball', "),
    ("train*", "start=2024-11-22", "PETR4: 25 sessions from 2024-11-22 to 2024-12-30, and at least 95 are needed"),
    ("train*", "start=2024-10-02", "PETR4: 60 sessions from 2024-10-02 to 2024-12-30, and at least 95 are needed"),
    ("train*", "stock=SHARED stocks=[XPTO3,XPTO4]", "XPTO4: csv knows no such stock"),
    ("train*", "stock=SHARED stocks=[PETR4,../x]", "stock='../x' is "),
    ("train*", "ckpt_path=/nowhere/a.ckpt", "ckpt_path=/nowhere/a.ckpt: the file /nowhere/a.ckpt does not exist"),
    ("backtest*", "models=[]", "models=[]: "),
    ("backtest*", "first_cutoff=2024-12-20", "first_cutoff=2024-12-20: the prices end"),
    ("backtest*", "first_cutoff=2015-01-05", "first_cutoff=2015-01-05: the prices begin"),
    ("tune", "trainer=ddp", "trainer.devices=2: pruning works in one process only"),
    ("predict", "format=xml", "format='xml': should be 'table' or 'json'"),
    ("predict", "stock=SHARED", "SHARED: "),
    ("predict", closes("nan"), "closes: number 20 of 20 is nan; every close must be a positive, finite price."),
    ("predict", "closes=[1.5,2.5,3.5]", "closes: 3 were given; between 20 and 10,000 are needed"),
    ("predict", "version=9", "PETR4: version 9 does not exist; registered are 1. Choose one of them, or leave out "),
    ("predict", f"version=9 {closes()}", "PETR4: version 9 does not exist"),
    ("predict", "version=0", "version=0: should be greater than or equal to 1"),
    ("rollback", "stock=PETR4", "PETR4: version 1 is served, and it replaced no earlier version of PETR4."),
    ("rollback", "stock=../x", "stock='../x' is not a ticker."),
    ("models", "stock=XPTO3", "XPTO3: no trained model; there are models for PETR4"),
    ("serve", "port=80", "port=80: should be greater than or equal to 1024"),
]


@pytest.mark.parametrize(("name", "given", "said"), REFUSED, ids=lambda value: value[:40])
def test_a_choice_that_is_not_allowed_is_refused(refused, prices, name, given, said):
    choices = {"train*": small(prices), "backtest*": quick(prices), "predict": ("stock=PETR4",)}
    assert refused(name.strip("*"), *choices.get(name, ()), *given.split()).startswith(said)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            "lstm",
            "the panel model (model=har, or model.start=panel): 39 training windows were found, and at least 40 are",
        ),
        (
            "ensemble model.members=[har]",
            "model.members=[har]: no member can be fitted. the panel model (model=har, or",
        ),
    ],
)
def test_a_history_that_is_too_short_for_the_panel_model_is_refused(command, champion, prices, model, said):
    before = left(champion)
    assert sentence(command("train", *small(prices), "start=2024-08-12", *f"model={model}".split())).startswith(said)
    assert left(champion) == before


def test_a_refusal_in_a_folder_of_the_user_deletes_nothing_in_it(command, home, tmp_path):
    own = tmp_path / "thesis"
    own.mkdir()
    (own / "chapter1.txt").write_text("years of work", encoding="utf-8")
    os.utime(own / "chapter1.txt", (0, 0))
    sentence(command("train", f"hydra.run.dir={own}", "seed=-1"))
    assert (own / "chapter1.txt").read_text(encoding="utf-8") == "years of work"


def test_a_home_that_is_a_file_is_refused(command, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("PREGAO_HOME", str(tmp_path / "file"))
    said = sentence(command("train"))
    assert "Not a directory" in said
    assert "PREGAO_HOME=/some/folder" in said


def test_another_sweep_in_the_folder_is_refused(command, home, tmp_path):
    (tmp_path / "multirun.yaml").write_text("hydra: {overrides: {task: ['seed=1,2']}}")
    said = sentence(command("train", "-m", "seed=2,3", f"hydra.sweep.dir={tmp_path}"))
    assert said.startswith(f"hydra.sweep.dir={tmp_path}: it has another sweep (seed=1,2)")


def test_a_dead_ray_cluster_is_refused(refused):
    pytest.importorskip("ray", reason="Ray is not installed here")
    said = refused("train", "-m", "seed=1,2", "hydra/launcher=ray", "+hydra.launcher.ray.init.address=127.0.0.1:9")
    assert said.startswith("hydra.launcher.ray.init.address=127.0.0.1:9: no Ray cluster answers there (")


def test_a_training_that_is_not_needed_ends_with_0_and_a_defect_with_a_trace(command, home, prices, monkeypatch):
    errors = [RuntimeError("a defect"), NotNeeded("PETR4", 0.5, "2024")]

    def run(self):
        raise errors.pop()

    monkeypatch.setattr("pregao.training.pipeline.Pipeline.run", run)
    assert "nothing was trained" in sentence(command("train", *small(prices)), code=0)
    assert left(home) == {}
    with pytest.raises(RuntimeError, match="a defect"):
        command("train", *small(prices))


def test_a_job_of_a_sweep_that_is_refused_names_its_settings(command, home, prices):
    random_walk(30).to_csv(prices / "VALE3.csv", index=False)
    done = command("train", "-m", *small(prices), "stock=VALE3,PETR9", "seed=3")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "So job 0 (stock=VALE3) failed, and 1 more failed" in done.stderr.splitlines()[-1]


IMPORTED = """
import json, sys
from importlib import import_module
for name, *arguments in json.loads(sys.argv[1]):
    sys.argv = [name, *arguments]
    try:
        import_module(f"pregao.cli.{name}").main()
    except SystemExit as stop:
        assert stop.code in (0, 2, None)
sys.stderr.write(json.dumps(sorted({"mlflow", "torch", "pytorch_lightning", "pandas", "litserve"} & set(sys.modules))))
"""


def test_help_and_a_mistake_import_nothing_that_takes_seconds(home):
    asked = [("train", "--help"), ("train", "model.hiden_size=40"), ("train", "seed=-1"), ("train", "-m")]
    asked += [("backtest", "seed=-1"), ("tune", "seed=-1"), ("predict", "format=xml"), ("serve", "port=80")]
    program = [sys.executable, "-c", IMPORTED, json.dumps(asked)]
    done = subprocess.run(program, env=environment(home), capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1] == "[]"
