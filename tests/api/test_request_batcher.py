import asyncio
import inspect

import pytest
from fastapi import HTTPException
from litserve import LitServer

from pregao.api.forecast_api import ForecastAPI
from pregao.api.request_batcher import MAX_CALLS, TRIES, RequestBatcher
from pregao.api.server import INFER, _endpoint
from pregao.errors import ForecastFailed
from tests.api.conftest import worker


def forecasts(ask, number, deadline=30.0, processes=1):
    """The results of this many requests that arrive together; exceptions included."""

    async def run():
        batcher = RequestBatcher(ask, processes, deadline)
        return await asyncio.gather(*(batcher("model", "rows", n) for n in range(number)), return_exceptions=True)

    return asyncio.run(run())


def test_requests_that_arrive_during_a_call_are_sent_together_in_the_next_one():
    sizes = []

    async def ask(batch):
        sizes.append(len(batch))
        await asyncio.sleep(0.01)
        return [number for folder, method, (number,) in batch]

    assert forecasts(ask, 40) == list(range(40))
    assert sizes == [1, 1, MAX_CALLS, 6]


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
    assert isinstance(found, ForecastFailed) if answers_at > TRIES else found == ["rows"]


def test_an_error_reaches_every_request_of_the_batch_and_the_next_batch_is_sent():
    async def ask(batch):
        await asyncio.sleep(0.01)
        if any(number == 1 for *_, (number,) in batch):
            raise HTTPException(500)  # what LitServe raises, whatever went wrong
        return [["rows"]] * len(batch)

    first, second, third = forecasts(ask, 3)
    assert isinstance(second, ForecastFailed)
    assert first == third == ["rows"]


def test_a_call_whose_model_files_are_damaged_does_not_hurt_the_others(shared, tmp_path):
    window = (50.0,) * 20
    good, bad = worker.predict([(str(shared), "rows_after", (window,)), (str(tmp_path), "rows_after", (window,))])
    assert (len(good), bad) == (10, None)


def test_the_endpoint_of_litserve_takes_one_argument_and_its_http_process_is_named_as_we_expect():
    """Neither is promised by LitServe: server.py needs both."""
    server = LitServer(ForecastAPI(api_path=INFER), accelerator="cpu")
    [parameter] = inspect.signature(_endpoint(server.app)).parameters
    assert parameter == "request"
    assert 'name=f"LitServer-{' in inspect.getsource(LitServer)
