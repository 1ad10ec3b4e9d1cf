"""Counts and times for Prometheus. No name, no text, no hash and no address of anybody is a label or a value."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from r2gengpt.serving.generator import Generator

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120, 300)


class Metrics:
    """What a server counts, in a registry of its own."""

    def __init__(self, generator: Generator) -> None:
        self.registry = CollectorRegistry()
        name = "r2gengpt_requests"
        self.requests = Counter(name, "answered requests", ("route", "code"), registry=self.registry)
        self.seconds = Histogram(
            "r2gengpt_request_seconds", "seconds of a request", ("route",), buckets=SECONDS, registry=self.registry
        )
        self.tokens = Counter("r2gengpt_tokens", "tokens written for answered requests", registry=self.registry)
        for name, words, read in (
            ("r2gengpt_queue_depth", "studies that wait", lambda: generator.line.waiting),
            ("r2gengpt_running", "studies being written", lambda: generator.running),
            ("r2gengpt_places_taken", "requests in work or waiting", lambda: generator.line.taken),
            ("r2gengpt_ready", "1 where requests are taken", lambda: int(generator.ready)),
        ):
            Gauge(name, words, registry=self.registry).set_function(read)

    def count(self, route: str, code: int, seconds: float) -> None:
        """A request was answered; `route` is the path's pattern, never what a client wrote."""
        self.requests.labels(route, str(code)).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
