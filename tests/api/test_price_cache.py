import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pregao.api import price_cache
from pregao.api.price_cache import PriceCache
from pregao.config import SourceChoices
from pregao.errors import InvalidChoice, PricesUnavailable
from pregao.prices.downloader import Prices
from tests.conftest import random_walk

CARD = SimpleNamespace(price="adjusted", lookback=20, validation_start="2024-01-02")


@pytest.fixture
def source(monkeypatch, vale3):
    """A source that counts its questions; `answer` is what it gives or raises."""
    state = SimpleNamespace(asked=0, answer=Prices(vale3, random_walk(60), "csv", False, ()))

    def latest_prices(downloader, symbol, card):
        state.asked += 1
        time.sleep(0.05)
        if isinstance(state.answer, Exception):
            raise state.answer
        return state.answer

    monkeypatch.setattr(price_cache, "latest_prices", latest_prices)
    return state


def ask(symbol, *changes, retry=0.0, clients=1):
    """The answers before and after each change of the source."""

    async def run():
        cache = PriceCache(SourceChoices(name="sample", path=None), retry)
        answers = []
        for change in (lambda: None, *changes):
            change()
            answers = await asyncio.gather(*(cache.latest(symbol, CARD) for _ in range(clients)))
        cache.close()
        return answers, cache.newest_closes()

    return asyncio.run(run())


def test_clients_that_ask_at_the_same_time_share_one_download(source, vale3):
    answers, newest = ask(vale3, retry=60, clients=20)
    assert source.asked == 1
    assert len({id(answer.prices.table) for answer in answers}) == 1
    assert newest == {"VALE3": source.answer.as_of}


def test_prices_that_are_behind_are_kept_for_the_time_of_a_retry(source, vale3):
    ask(vale3, lambda: None, retry=60)
    assert source.asked == 1
    ask(vale3, lambda: None, retry=0)
    assert source.asked == 3


def test_a_source_that_refuses_leaves_the_previous_prices_marked_as_stale(source, vale3):
    def refuse():
        source.answer = PricesUnavailable("VALE3", ["yahoo: /home/me/x is gone"], "Try again.")

    table = source.answer.table
    [answer], _ = ask(vale3, refuse)
    assert answer.prices.table is table
    assert answer.prices.stale
    assert "yahoo: x is gone" in answer.prices.source_as_dict["reasons"][0]


def test_a_source_that_refuses_the_first_question_is_a_refusal_until_the_next_try(source, vale3):
    source.answer = PricesUnavailable("VALE3", [], "Try again.")
    [answer], newest = ask(vale3, lambda: None, retry=60)
    assert source.asked == 1
    with pytest.raises(PricesUnavailable):
        _ = answer.prices
    assert newest == {}


def test_a_slow_source_is_not_waited_for_where_stale_prices_are_kept(source, vale3):
    source.answer = replace(source.answer, stale=True)
    started = time.monotonic()
    [answer], _ = ask(vale3, lambda: None)
    assert answer.prices.stale
    assert time.monotonic() - started < 2


def test_a_source_that_is_not_allowed_is_refused_at_the_start():
    with pytest.raises(InvalidChoice):
        PriceCache(SourceChoices(name="nothing", path=None), 1)
