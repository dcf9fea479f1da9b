"""The state of the HTTP process."""

import asyncio
import threading

from pregao.api import service
from pregao.api.service import Service
from pregao.tracking.run_table import Page


def test_requests_for_statistics_to_an_mlflow_that_hangs_keep_few_threads(monkeypatch):
    answered = threading.Event()
    monkeypatch.setattr(service, "statistics", lambda _: iter([str(answered.wait(60))]))
    tested = Service(None, None, None, None, None)

    async def ask():
        async with asyncio.timeout(0.05):  # the deadline of the request
            await tested.statistics(Page())

    async def ask_often():
        done = await asyncio.gather(*(ask() for _ in range(30)), return_exceptions=True)
        assert {type(error) for error in done} == {TimeoutError}
        threads = len(tested._statistics_threads._threads)
        answered.set()
        return threads, await tested.statistics(Page())

    assert asyncio.run(ask_often()) == (4, b"True")
