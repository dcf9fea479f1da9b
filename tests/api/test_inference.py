import asyncio
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pregao.api.inference import MAX_WINDOWS, TRIES, Inference
from pregao.models.forecaster import Window
from tests.api.conftest import worker

SERVED = SimpleNamespace(folder=Path("model"), model=SimpleNamespace(rows=lambda window: ["computed here"]))


def window(number):
    return Window([float(number)], [0.0], 1.0, "VALE3")


def forecasts(ask, number, deadline=30.0, processes=1):
    """The results of this many requests that arrive together; exceptions included."""

    async def run():
        inference = Inference(ask, processes, deadline)
        return await asyncio.gather(*(inference(SERVED, window(n)) for n in range(number)), return_exceptions=True)

    return asyncio.run(run())


def test_requests_that_arrive_during_a_call_are_sent_together_in_the_next_one():
    sizes = []

    async def ask(batch):
        sizes.append(len(batch))
        await asyncio.sleep(0.01)
        return [[closes[0]] for folder, (closes, *_) in batch]

    assert forecasts(ask, 40) == [[float(n)] for n in range(40)]
    assert sizes == [1, 1, MAX_WINDOWS, 6]


@pytest.mark.parametrize("answers_at", [TRIES, TRIES + 1])
def test_a_batch_whose_process_dies_is_sent_again_until_the_last_try_fails(answers_at):
    calls = []

    async def ask(batch):
        calls.append(batch)
        if len(calls) < answers_at:
            await asyncio.sleep(60)
        return [["rows"]]

    [found] = forecasts(ask, 1, deadline=0.15)
    assert len(calls) == TRIES
    assert isinstance(found, TimeoutError) if answers_at > TRIES else found == ["rows"]


def test_an_error_reaches_every_request_of_the_batch_and_the_next_batch_is_sent():
    async def ask(batch):
        await asyncio.sleep(0.01)
        if any(closes[0] == 1 for _, (closes, *_) in batch):
            raise RuntimeError("broken")
        return [["rows"]] * len(batch)

    first, second, third = forecasts(ask, 3)
    assert isinstance(second, RuntimeError)
    assert first == third == ["rows"]


def test_a_window_whose_model_files_are_gone_is_computed_in_this_process():
    async def ask(batch):
        return worker.predict(batch)

    assert forecasts(ask, 1) == [["computed here"]]


def test_the_inference_process_imports_no_pandas():
    code = "import sys; import pregao.api.inference_worker, pregao.models.trained; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
