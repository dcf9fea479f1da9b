"""Work that is independent by stock, on all cores."""

import logging
import os
from collections.abc import Callable, Sequence
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

STOCKS_PER_WORKER = 8
"""At least: a process takes two seconds to start, as long as a few stocks take to compute, and 130 MB."""


def parallel_map(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """The results in the order of the items, the same for any number of cores.

    joblib's backend runs the workers: processes of this machine, or what `joblib.parallel_config` names (Ray, Dask).
    With few items no worker starts.

    Args:
        function: of a module, so that another process can import it; what it logs is logged here.
        items: one per stock.
    """
    from joblib import Parallel, delayed, effective_n_jobs

    workers = min(len(items) // STOCKS_PER_WORKER, effective_n_jobs(-1))
    if workers < 2:
        return [function(item) for item in items]
    found = Parallel(n_jobs=workers)(delayed(_run)(function, item, os.getpid()) for item in items)
    for _, records in found:
        for record in records:
            logging.getLogger(record.name).handle(record)
    return [result for result, _ in found]


def _run(function: Callable[[Item], Result], item: Item, parent: int) -> tuple[Result, list[logging.LogRecord]]:
    """The result and what was logged, which another process cannot write to the parent's files."""
    if os.getpid() == parent:
        return function(item), []
    queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
    handler, logger = QueueHandler(queue), logging.getLogger("pregao")
    logger.addHandler(handler)
    try:
        result = function(item)
    finally:
        logger.removeHandler(handler)
    return result, [queue.get() for _ in range(queue.qsize())]
