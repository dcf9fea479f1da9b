"""The estimated cost of a training, and the bounds of its memory and time."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from pregao.config import SourceChoices
from pregao.errors import LimitReached, TrainingTooLarge
from pregao.training import limits
from pregao.training.compose import train_config
from pregao.training.config import LimitChoices
from pregao.training.job import Job, now
from pregao.training.model_choices import offered
from tests.conftest import small_config
from tests.training.conftest import run

NONE = LimitChoices(operations=None, memory=None, minutes=None)


def config_of(vale3, prices, **overrides):
    return train_config(vale3, "2015-01-01", "2024-12-30", SourceChoices(name="csv", path=prices), overrides)


def limited(**bounds):
    return NONE.model_copy(update=bounds)


@pytest.mark.parametrize("name", offered())
def test_the_cost_of_every_model_can_be_estimated_without_changing_random_numbers(vale3, tmp_path, name):
    config = config_of(vale3, tmp_path, model=name)
    torch.manual_seed(3)
    cost = limits.estimate(config, 800)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.rand(1) == drawn
    assert (cost.windows, cost.epochs) == (800, config.trainer.max_epochs)
    assert cost.operations == cost.parameters * 800 * config.trainer.max_epochs
    assert (cost.parameters > 0) == (name != "har")
    assert 600 <= cost.memory < 800


def test_the_largest_network_is_estimated_at_gigabytes_and_a_larger_batch_costs_nothing_beyond_the_windows(
    vale3, tmp_path
):
    large = {"model.hidden_size": 512, "model.num_layers": 8}
    estimates = [
        limits.estimate(config_of(vale3, tmp_path, **large, **{"data.batch_size": size}), 900)
        for size in (32, 900, 4096)
    ]
    assert estimates[0].parameters == pytest.approx(15.8e6, rel=0.01)
    assert estimates[0].memory < 1200 < 3000 < estimates[1].memory < 9000
    assert estimates[1] == estimates[2]


PEAK = """
import re, sys
from pathlib import Path
from pregao.training import limits
from pregao.models.choices import build_model
from tests.training.test_limits import *
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
config = small_config(".", "data.batch_size=512", *sys.argv[1:])
before = peak()
model = build_model(config.network(1))
for _ in range(2):
    model.loss(limits._any_windows(config, len(model.measures), 512)).backward()
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "gru", "tcn", "transformer", "ensemble"])
def test_the_estimated_memory_is_within_a_factor_of_three_of_the_measured(tmp_path, name):
    chosen = [f"model={name}", "model.hidden_size=256"]
    measured = float(subprocess.check_output([sys.executable, "-c", PEAK, *chosen], text=True).splitlines()[-1])
    estimated = limits.estimate(small_config(tmp_path, "data.batch_size=512", *chosen), 512).memory - 600
    assert estimated / 3 < measured < 3 * estimated + 100


def test_the_most_windows_of_a_range_are_those_of_a_stock_without_gaps(vale3, prices, home):
    config = config_of(vale3, prices)
    assert limits.most_windows(config) == pytest.approx(0.7 * 2450, rel=0.02)
    future = config.model_copy(update={"start": "1900-01-01", "end": "2999-01-01"})
    assert 0.7 * 6500 < limits.most_windows(future) < 0.7 * 9000


def test_a_training_above_a_bound_is_refused_with_the_figure_and_leaves_nothing(vale3, prices, home):
    config = config_of(vale3, prices)
    for bound, figure in (
        ({"operations": 1e6}, r"parameters × 800 windows × 10 epochs = .*at most 1e\+06 .*limits\.operations"),
        ({"memory": 100}, r"about 6\d\d MB of memory.*at most 100 MB are allowed \(limits\.memory\)"),
    ):
        with pytest.raises(TrainingTooLarge, match=figure):
            limits.refuse_too_large(config.model_copy(update={"limits": limited(**bound)}), 800)
    limits.refuse_too_large(config.model_copy(update={"limits": NONE}), 800)
    limits.refuse_too_large(config, 10**12)
    with pytest.raises(TrainingTooLarge, match="windows"):
        run(home / "outputs/VALE3/1", prices, "limits=server", "limits.operations=1000")
    assert not list(home.glob("mlruns/artifacts/*"))


ALLOCATE = """
import sys
from pregao.errors import LimitReached
from pregao.training.limits import enforced
from pregao.training.config import LimitChoices
import numpy, torch
try:
    with enforced(LimitChoices(operations=None, memory=1000, minutes=None)):
        eval(sys.argv[1])
except LimitReached as error:
    print(error)
eval(sys.argv[1])
print("afterwards without a limit")
"""


@pytest.mark.parametrize("made", ["numpy.ones(200_000_000)", "torch.ones(400_000_000)", "bytes(1_600_000_000)"])
def test_more_memory_than_allowed_ends_the_block_with_a_sentence(made):
    printed = subprocess.check_output([sys.executable, "-c", ALLOCATE, made], text=True).splitlines()
    assert "needed more than 1,000 MB of memory (limits.memory)" in printed[0]
    assert printed[-1] == "afterwards without a limit"


def test_more_time_than_allowed_ends_the_block_also_when_a_library_catches_the_first_signal(monkeypatch):
    monkeypatch.setattr(limits, "SECONDS_BETWEEN_SIGNALS", 0.2)

    def caught():
        try:
            forever()
        except Exception:
            forever()

    def forever():
        while True:
            np.zeros(10).sum()

    with (
        pytest.raises(LimitReached, match=r"more than 0\.002 minutes \(limits\.minutes\)"),
        limits.enforced(limited(minutes=0.002)),
    ):
        caught()
    with limits.enforced(None), limits.enforced(NONE):
        pass


def test_another_error_in_the_block_is_raised_unchanged():
    with pytest.raises(ValueError, match="oops"), limits.enforced(limited(memory=4000, minutes=1)):
        raise ValueError("oops")


HUNGRY = """
import sys
from pathlib import Path
import numpy
from pregao.training.worker import Worker
worker = Worker(Path(sys.argv[1]))
worker._pipeline = lambda *_: numpy.ones(10**9)
worker.run()
"""


def test_a_job_that_needs_more_memory_than_allowed_ends_with_the_sentence(home, vale3, prices):
    folder = home / "outputs/jobs" / ("0" * 32)
    folder.mkdir(parents=True)
    config = config_of(vale3, prices).model_copy(update={"limits": limited(memory=1000)})
    (folder / "config.json").write_text(config.model_dump_json())
    Job(folder.name, "VALE3", "queued", now()).write(folder)
    with subprocess.Popen([sys.executable, "-c", HUNGRY, folder], stdin=subprocess.PIPE) as process:
        process.wait(60)
    found = json.loads((folder / "job.json").read_text())
    assert (found["state"], found["refusal"]) == ("failed", "LimitReached")
    assert "more than 1,000 MB of memory (limits.memory)" in found["error"]
    assert not (home / "outputs/VALE3").exists()
