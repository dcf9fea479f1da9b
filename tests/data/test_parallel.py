import logging
import os

import joblib
import pytest

from pregao.data import parallel
from pregao.data.parallel import map_stocks
from pregao.errors import InvalidCloses

logger = logging.getLogger("pregao.tests")


def squared(number):
    if number < 0:
        raise InvalidCloses(f"{number} is refused")
    logger.warning("number %d", number)
    return number**2, os.getpid()


@pytest.fixture
def two_workers(monkeypatch):
    monkeypatch.setattr(parallel, "STOCKS_PER_WORKER", 1)
    monkeypatch.setattr(joblib, "effective_n_jobs", lambda jobs: 2)


def test_few_stocks_start_no_process():
    assert map_stocks(squared, [(2,), (3,)]) == [(4, os.getpid()), (9, os.getpid())]


def test_processes_keep_the_order_the_log_and_the_errors(two_workers, caplog):
    found = map_stocks(squared, [(number,) for number in range(4)])
    assert [square for square, _ in found] == [0, 1, 4, 9]
    assert os.getpid() not in {process for _, process in found}
    assert caplog.messages == [f"number {number}" for number in range(4)]
    with pytest.raises(InvalidCloses, match="-1 is refused"):
        map_stocks(squared, [(0,), (-1,)])
