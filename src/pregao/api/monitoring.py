"""Prometheus: how many requests, how long they took, what the forecasts' memory spares."""

from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120, 600)


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
        self._children = lru_cache(1024)(self._labelled)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        requests, histogram = self._children(method, route, status)
        requests.inc()
        histogram.observe(seconds)

    def _labelled(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        return self.requests.labels(method, route, status), self.seconds.labels(method, route, status)

    def text(self) -> bytes:
        """Prometheus' exposition format."""
        return generate_latest(self.registry)
