"""Prometheus metrics: requests and their duration, cached forecasts, outcomes of trainings.

Names are `pregao_` + quantity + unit (seconds, bytes), `_total` for counters. The number of label values is limited,
so that clients cannot add many: routes are patterns, methods and outcomes are fixed lists, stocks need prices.
Metrics that are read at each scrape are in collectors.py.
"""

from datetime import datetime
from functools import lru_cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from pregao.training.job import Job

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120, 600)
TRAINING_BUCKETS = (5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 10800)

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
"""Other methods, which clients may invent, are counted together."""

OUTCOMES = ("promoted", "kept", "refused", "failed", "cancelled")
"""How a training may end; `kept`: the new model is registered, and the previous one is still served."""

LIVE = {
    "mape": "Mean absolute error of past forecasts, relative to the actual closes",
    "naive_mape": "Mean absolute error of last close, on the same forecasts",
    "skill_mape": "Part of last close's error that past forecasts saved",
    "coverage_90": "Part of the actual closes inside the 90 % band of past forecasts",
}


class Monitoring:
    """The counters of one HTTP process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = ("method", "route", "status")
        self.requests = Counter("pregao_requests", "Answered requests", labels, registry=self.registry)
        self.seconds = Histogram(
            "pregao_request_seconds", "Time to the whole answer", labels, buckets=BUCKETS, registry=self.registry
        )
        self.remembered = Counter(
            "pregao_forecasts_remembered", "Forecasts that were returned from memory", registry=self.registry
        )
        self.computed = Counter("pregao_forecasts_computed", "Forecasts that a model made", registry=self.registry)
        self.training = Gauge(
            "pregao_training_running", "1 while a training of this server runs", registry=self.registry
        )
        self.training_seconds = Histogram(
            "pregao_training_seconds",
            "From the start of a training's process to its end, by how it ended",
            ("outcome",),
            buckets=TRAINING_BUCKETS,
            registry=self.registry,
        )
        for known in OUTCOMES:  # an alert misses the first event of a series that did not exist before
            self.training_seconds.labels(known)
        self.drift = Gauge(
            "pregao_drift_score",
            "Distance of recent returns from the training part's; a warning above 1",
            ("stock",),
            registry=self.registry,
        )
        self.waiting = Gauge(
            "pregao_forecasts_waiting", "Forecasts that are not in the log yet", registry=self.registry
        )
        self._live = {
            name: Gauge(f"pregao_live_{name}_ratio", about, ("stock", "model"), registry=self.registry)
            for name, about in LIVE.items()
        }
        self._children = lru_cache(1024)(self._labelled)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a response."""
        requests, histogram = self._children(method, route, status)
        requests.inc()
        histogram.observe(seconds)

    def trained(self, job: Job) -> None:
        """Count a training that has ended."""
        assert job.finished is not None
        seconds = datetime.fromisoformat(job.finished) - datetime.fromisoformat(job.created)
        self.training_seconds.labels(outcome(job)).observe(seconds.total_seconds())

    def _labelled(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        labels = (method if method in METHODS else "other", route, status)
        return self.requests.labels(*labels), self.seconds.labels(*labels)

    def live(self, entry: dict[str, Any]) -> None:
        """Show an entry of GET /accuracy; the last version of a model replaces earlier ones."""
        for name, gauge in self._live.items():
            if entry[name] is not None:
                gauge.labels(entry["stock"], entry["model"]).set(entry[name] / 100)

    def text(self) -> bytes:
        """The metrics in Prometheus' exposition format."""
        return generate_latest(self.registry)


def outcome(job: Job) -> str:
    """The one of OUTCOMES with which a training ended."""
    if job.result is not None:
        return "promoted" if job.result["promoted"] else "kept"
    return "refused" if job.refusal is not None else job.state
