import asyncio
import time
from dataclasses import replace
from datetime import date
from types import SimpleNamespace

import pytest

from pregao.api import price_cache
from pregao.api.price_cache import Latest, PriceCache
from pregao.config import SourceChoices
from pregao.errors import PricesUnavailable
from pregao.prices import calendar
from pregao.prices.downloader import Prices
from pregao.prices.symbols import Symbol
from tests.conftest import random_walk

CARD = SimpleNamespace(price="adjusted", lookback=20, validation_start="2024-01-02")


@pytest.fixture
def source(monkeypatch, vale3):
    """A source that counts its requests; `answer` is what it returns or raises."""
    state = SimpleNamespace(asked=0, answer=Prices(vale3, random_walk(60), "csv", False, ()))

    def latest_prices(downloader, symbol, card):
        state.asked += 1
        time.sleep(0.05)
        if isinstance(state.answer, Exception):
            raise state.answer
        return state.answer

    monkeypatch.setattr(price_cache, "latest_prices", latest_prices)
    return state


def ask(*changes, symbol, retry=0.0, clients=1, card=CARD):
    """The answers after the last change of the source, and the newest closes."""

    async def run():
        cache = PriceCache(SourceChoices(name="sample", path=None), retry)
        answers = await asyncio.gather(*(cache.latest(symbol, CARD) for _ in range(clients)))
        for change in changes:
            change()
            answers = [await cache.latest(symbol, card)]
        cache.close()
        return answers, cache.newest_closes()

    return asyncio.run(run())


def nothing():
    """Leave the source unchanged."""


def test_clients_that_ask_together_share_one_download(source, vale3):
    answers, newest = ask(symbol=vale3, retry=60, clients=20)
    assert source.asked == 1
    assert len({id(answer.prices.table) for answer in answers}) == 1
    assert newest == {"VALE3": source.answer.as_of}


def test_the_newest_close_of_a_stock_is_the_newest_on_any_price_basis(source, vale3):
    def shorten():
        source.answer = replace(source.answer, table=random_walk(60, last="2024-12-27"))

    raw = SimpleNamespace(**vars(CARD) | {"price": "close"})
    _, newest = ask(shorten, symbol=vale3, card=raw)
    assert newest == {"VALE3": date(2024, 12, 30)}


@pytest.mark.parametrize(("retry", "asked"), [(60, 1), (0, 2)])
def test_prices_behind_the_last_session_are_kept_until_the_next_try(source, vale3, retry, asked):
    ask(nothing, symbol=vale3, retry=retry)
    assert source.asked == asked


def test_prices_of_the_last_finished_session_are_kept_until_the_next_close(source, vale3):
    source.answer = replace(source.answer, table=random_walk(60, last=str(calendar.last_finished_session("BVMF"))))
    [answer], _ = ask(nothing, symbol=vale3)
    assert (source.asked, answer.until) == (1, calendar.next_close("BVMF").timestamp())


@pytest.mark.parametrize(("since", "until", "fresh"), [(-1, 1, True), (-2, -1, False), (1, 2, False)])
def test_an_answer_is_fresh_between_its_two_times(since, until, fresh):
    """A clock that was ahead, and has been set right, leaves a first time in the future."""
    now = time.time()
    assert Latest(PricesUnavailable("VALE3", [], ""), now + 100 * since, now + 100 * until).fresh == fresh


def test_a_source_that_refuses_leaves_the_previous_prices_marked_as_stale(source, vale3):
    def refuse():
        source.answer = PricesUnavailable("VALE3", ["yahoo: /home/me/x is gone"], "Try again.")

    table = source.answer.table
    [answer], _ = ask(refuse, symbol=vale3)
    assert answer.prices.table is table
    assert answer.prices.stale
    assert "yahoo: x is gone" in answer.prices.tried[0]


def test_a_refused_first_request_is_a_refusal_for_half_a_minute_at_most(source, vale3):
    source.answer = PricesUnavailable("VALE3", [], "Try again.")
    [answer], newest = ask(nothing, symbol=vale3, retry=3600)
    assert (source.asked, answer.until - answer.since, newest) == (1, 30, {})
    with pytest.raises(PricesUnavailable):
        _ = answer.prices


def test_where_stale_prices_are_in_memory_no_client_waits_for_the_source(source, vale3):
    def recover():
        source.answer = replace(source.answer, stale=False)

    source.answer = replace(source.answer, stale=True, tried=("yahoo: no network",))
    [answer], _ = ask(recover, symbol=vale3)
    assert answer.prices.stale


def test_refused_tickers_are_forgotten(source, monkeypatch):
    """Old refusals would be scanned on the event loop at each download, and take memory without bound."""

    async def run():
        cache = PriceCache(SourceChoices(name="sample", path=None), retry=3600)
        for number in (3, 4, 5, 6, 3, 6):
            await cache.latest(Symbol.parse(f"PETR{number}"), CARD)
        cache.close()

    monkeypatch.setattr(price_cache, "MOST_REFUSALS", 3)
    source.answer = PricesUnavailable("PETR3", [], "Try again.")
    asyncio.run(run())
    assert source.asked == 5, "of four refusals the oldest is forgotten"
