"""Run per-stock work on all cores."""

import logging
import os
from collections.abc import Callable, Sequence
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")

STOCKS_PER_WORKER = 8
"""Minimum: a worker process costs two seconds, the time of a few stocks, and 130 MB."""


def map_stocks(
    function: Callable[..., Result], arguments: Sequence[tuple[Any, ...]], keep_workers: bool = False
) -> list[Result]:
    """Call a function once per stock; the results keep the order, and do not depend on the number of cores.

    joblib runs the workers: local processes, or the backend of `joblib.parallel_config` (Ray, Dask). With few stocks no
    worker starts.

    Args:
        function: must be importable from a module; its log records are logged in this process.
        arguments: one tuple per call.
        keep_workers: for another call soon; idle workers otherwise hold 150 MB each for five minutes.
    """
    from joblib import Parallel, delayed, effective_n_jobs
    from joblib.externals.loky import get_reusable_executor

    workers = min(len(arguments) // STOCKS_PER_WORKER, effective_n_jobs(-1))
    if workers < 2:
        return [function(*each) for each in arguments]
    found = Parallel(n_jobs=workers)(delayed(_run)(os.getpid(), function, *each) for each in arguments)
    if not keep_workers:
        get_reusable_executor(reuse=True).shutdown(wait=True)
    for _, records in found:
        for record in records:
            logging.getLogger(record.name).handle(record)
    return [result for result, _ in found]


def _run(parent: int, function: Callable[..., Result], *arguments: object) -> tuple[Result, list[logging.LogRecord]]:
    """The result and the log records; a worker cannot write to the parent's log files."""
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
