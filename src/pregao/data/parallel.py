"""Work that is independent by stock, on all cores."""

import logging
import os
from collections.abc import Callable, Sequence
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")

STOCKS_PER_WORKER = 8
"""At least: a process takes two seconds to start, as long as a few stocks take to compute, and 130 MB."""


def map_stocks(function: Callable[..., Result], arguments: Sequence[tuple[Any, ...]]) -> list[Result]:
    """Call a function once per stock; the results in the stocks' order, the same for any number of cores.

    joblib's backend runs the workers: processes of this machine, or what `joblib.parallel_config` names (Ray, Dask).
    With few stocks no worker starts.

    Args:
        function: of a module, so that another process can import it; what it logs is logged here.
        arguments: of each call.
    """
    from joblib import Parallel, delayed, effective_n_jobs

    workers = min(len(arguments) // STOCKS_PER_WORKER, effective_n_jobs(-1))
    if workers < 2:
        return [function(*each) for each in arguments]
    found = Parallel(n_jobs=workers)(delayed(_run)(os.getpid(), function, *each) for each in arguments)
    for _, records in found:
        for record in records:
            logging.getLogger(record.name).handle(record)
    return [result for result, _ in found]


def _run(parent: int, function: Callable[..., Result], *arguments: object) -> tuple[Result, list[logging.LogRecord]]:
    """The result and what was logged, which another process cannot write to the parent's files."""
    if os.getpid() == parent:
        return function(*arguments), []
    queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
    handler, logger = QueueHandler(queue), logging.getLogger("pregao")
    logger.addHandler(handler)
    try:
        result = function(*arguments)
    finally:
        logger.removeHandler(handler)
    return result, [queue.get() for _ in range(queue.qsize())]
