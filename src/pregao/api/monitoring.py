"""Prometheus: how many requests, how long they took, what the forecasts' memory spares."""

from functools import lru_cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120, 600)


LIVE = {
    "mape": "Mean absolute error of past forecasts, relative to what came",
    "naive_mape": "The same of last close, on the same forecasts",
    "skill_mape": "Part of last close's error that past forecasts saved",
    "coverage_90": "Part of what came that lay inside the 90 % band of past forecasts",
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
            "pregao_forecasts_remembered", "Forecasts that were answered from memory", registry=self.registry
        )
        self.computed = Counter("pregao_forecasts_computed", "Forecasts that a model made", registry=self.registry)
        self.training = Gauge("pregao_training_runs", "1 while a training runs", registry=self.registry)
        self.version = Gauge("pregao_model_version", "Version of the served model", ("stock",), registry=self.registry)
        self.drift = Gauge(
            "pregao_drift_score",
            "Distance of recent returns from the training part's; a warning above 1",
            ("stock",),
            registry=self.registry,
        )
        self.waiting = Gauge(
            "pregao_forecasts_waiting", "Forecasts that no database has taken yet", registry=self.registry
        )
        self._live = {
            name: Gauge(f"pregao_live_{name}_ratio", about, ("stock", "model"), registry=self.registry)
            for name, about in LIVE.items()
        }
        self._children = lru_cache(1024)(self._labelled)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        requests, histogram = self._children(method, route, status)
        requests.inc()
        histogram.observe(seconds)

    def _labelled(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        return self.requests.labels(method, route, status), self.seconds.labels(method, route, status)

    def live(self, entry: dict[str, Any]) -> None:
        """Show how past forecasts did: an entry of GET /accuracy; of a model's versions the last one that is told."""
        for name, gauge in self._live.items():
            if entry[name] is not None:
                gauge.labels(entry["stock"], entry["model"]).set(entry[name] / 100)

    def text(self) -> bytes:
        """Prometheus' exposition format."""
        return generate_latest(self.registry)
