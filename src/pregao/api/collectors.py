"""Metrics that are read at each scrape: served models, newest closes, the processes of the server."""

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pregao.prices import calendar
from pregao.prices.symbols import Symbol

if TYPE_CHECKING:
    from pregao.api.forecasts import Forecasts

MAX_STOCKS = 500
"""The maximum number of stock labels; B3 has fewer liquid stocks. The last requested stocks are shown."""


class ServedStocks(Collector):
    """The served models, and the age of the newest closes."""

    def __init__(self, forecasts: "Forecasts") -> None:
        self.forecasts = forecasts

    def collect(self) -> Iterator[Metric]:
        """Timestamps, not ages: Prometheus subtracts them from the current time."""
        ready, problems = self.forecasts.ready, len(self.forecasts.registry.problems)
        yield GaugeMetricFamily("pregao_ready", "1 once the models are loaded", float(ready))
        yield GaugeMetricFamily("pregao_problems", "Problems that /health lists", problems)
        yield from self._models()
        yield from self._closes()

    def _models(self) -> Iterator[Metric]:
        version = _by_stock("pregao_model_version", "Version of the served model")
        trained = _by_stock("pregao_model_trained_timestamp_seconds", "When the served model was trained")
        for stock, served in islice(sorted(self.forecasts.registry.served.items()), MAX_STOCKS):
            version.add_metric([stock], served.version)
            trained.add_metric([stock], _seconds(served.model.card.trained_at))
        yield from (version, trained)

    def _closes(self) -> Iterator[Metric]:
        newest = _by_stock(
            "pregao_newest_close_timestamp_seconds",
            "Day (midnight, UTC) of the newest close that a forecast by stock was made from",
        )
        behind = _by_stock("pregao_newest_close_behind_sessions", "Finished sessions after the newest close")
        for ticker, day in islice(reversed(list(self.forecasts.prices.newest_closes().items())), MAX_STOCKS):
            market = Symbol.parse(ticker).calendar
            newest.add_metric([ticker], _seconds(day.isoformat()))
            missed = calendar.sessions(market, day, calendar.last_finished_session(market))
            behind.add_metric([ticker], max(0, len(missed) - 1))
        yield from (newest, behind)


class ServerProcesses(Collector):
    """Processor time and memory of the server and of its trainings.

    Args:
        server: the process that started all others.
    """

    def __init__(self, server: int) -> None:
        self.server = server

    def collect(self) -> Iterator[Metric]:
        """A process that ended is counted with its parent, so that sums never fall; the HTTP process starts trainings.

        The memory is the proportional set size: shared pages are counted once.
        """
        here = psutil.Process(os.getpid())
        trainings = here.children(recursive=True)
        servers = set(_family(psutil.Process(self.server))) - {here, *trainings}
        http, ended = _processor_seconds(here)
        cpu = CounterMetricFamily("pregao_cpu_seconds", "Processor time of all processes", labels=["part"])
        cpu.add_metric(["server"], http + sum(map(sum, map(_processor_seconds, servers))))
        cpu.add_metric(["training"], ended + sum(map(sum, map(_processor_seconds, trainings))))
        memory = GaugeMetricFamily("pregao_memory_bytes", "Proportional set size of all processes", labels=["part"])
        memory.add_metric(["server"], _bytes([here, *servers]))
        memory.add_metric(["training"], _bytes(trainings))
        yield from (cpu, memory)


def _by_stock(name: str, about: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, labels=["stock"])


def _seconds(moment: str) -> float:
    found = datetime.fromisoformat(moment)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _processor_seconds(process: psutil.Process) -> tuple[float, float]:
    """Seconds of the process and of its children that ended; zeros for a process that has just ended."""
    try:
        spent = process.cpu_times()
    except psutil.Error:
        return 0.0, 0.0
    return spent.user + spent.system, spent.children_user + spent.children_system


def _bytes(processes: Iterable[psutil.Process]) -> int:
    total = 0
    for process in processes:
        try:
            found = process.memory_full_info()
        except psutil.Error:
            continue
        total += getattr(found, "pss", found.uss)  # only Linux has pss
    return total
