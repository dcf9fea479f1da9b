import logging
import os

import joblib
import pytest

from pregao.data import parallel
from pregao.data.parallel import map_stocks
from pregao.errors import InvalidCloses

logger = logging.getLogger("pregao.tests")


def squared(number):
    logger.warning("number %d", number)
    return number**2, os.getpid()


def refused(number):
    raise InvalidCloses(f"{number} is refused")


def numbers(n):
    return [(number,) for number in range(n)]


@pytest.fixture
def processes(monkeypatch):
    """Two worker processes, whatever the machine."""
    monkeypatch.setattr(parallel, "STOCKS_PER_WORKER", 1)
    monkeypatch.setattr(joblib, "effective_n_jobs", lambda jobs: 2)


def test_few_stocks_start_no_process():
    assert map_stocks(squared, numbers(3)) == [(number**2, os.getpid()) for number in range(3)]


def test_results_of_processes_keep_the_order_and_their_log_is_written_here_once(processes, caplog):
    found = map_stocks(squared, numbers(6))
    assert [square for square, _ in found] == [0, 1, 4, 9, 16, 25]
    assert os.getpid() not in {process for _, process in found}
    assert caplog.messages == [f"number {number}" for number in range(6)]


def test_a_refusal_in_a_process_is_raised_here(processes):
    with pytest.raises(InvalidCloses, match="0 is refused"):
        map_stocks(refused, numbers(4))


def test_the_backend_is_the_users(processes, caplog):
    with joblib.parallel_config(backend="threading"):
        found = map_stocks(squared, numbers(4))
    assert {process for _, process in found} == {os.getpid()}
    assert sorted(caplog.messages) == [f"number {number}" for number in range(4)]
