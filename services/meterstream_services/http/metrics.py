"""The HTTP service's Prometheus metrics, declared once, and the middleware that counts requests.

Labels are bounded: routes as they are written in the code, methods and status codes; never a
tenant, an account or a path that somebody made up.
"""

from __future__ import annotations

import time
from importlib import metadata
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from meterstream_services.clients.unimeter.counters import UnimeterMetrics
from meterstream_services.gateway.metrics import DoorMetrics
from meterstream_services.http.account_metrics import AccountMetrics
from meterstream_services.http.missing import MissingGauge

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LATENCY_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LIMITS: Final = (
    "connections_max",
    "connections_per_address_max",
    "requests_per_connection_max",
    "pipelined_max",
    "head_bytes_max",
    "headers_max",
    "head_seconds",
    "body_bytes_per_second_min",
    "body_seconds_max",
    "answer_seconds",
    "body_bytes_max",
    "query_bytes_max",
    "known_hosts",
    "foreign_origin",
    "malformed",
)
"""What stops a client; see `meterstream_services.http.front_limits` and `.limits`."""


class HttpMetrics:
    """The metrics of one application, on a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "meterstream_http_requests_total",
            "Requests answered, by route, method and status.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "meterstream_http_request_duration_seconds",
            "From a request's head to the end of its answer.",
            ["route"],
            buckets=_LATENCY_SECONDS,
            registry=self.registry,
        )
        self.running = Gauge(
            "meterstream_http_requests_in_progress",
            "Requests that are being answered.",
            registry=self.registry,
        )
        self.connections = Gauge(
            "meterstream_http_connections",
            "Open connections.",
            registry=self.registry,
        )
        self.limited = Counter(
            "meterstream_http_limited_total",
            "Connections and requests that a limit of the front stopped, by limit.",
            ["limit"],
            registry=self.registry,
        )
        self._limits = {name: self.limited.labels(name) for name in LIMITS}
        self.climeter_refused = Counter(
            "meterstream_climeter_events_refused_total",
            "Events of CLIMeter's batches that cannot be counted; its client reads no answer.",
            registry=self.registry,
        )
        self.accounts_failures = Counter(
            "meterstream_accounts_failures_total",
            "Answers about usage that went out without accounts, which could not be read.",
            registry=self.registry,
        )
        self.accounts = AccountMetrics(self.registry)
        self.missing = MissingGauge(self.registry)
        self.gateway = DoorMetrics(self.registry)
        self.unimeter = UnimeterMetrics(self.registry)
        _tell_build(self.registry)

    def limit(self, name: str) -> Counter:
        """The counter of one of `LIMITS`."""
        return self._limits[name]


def _tell_build(registry: CollectorRegistry) -> None:
    build = Gauge(
        "meterstream_build_info",
        "Always 1; the label tells the version.",
        ["version"],
        registry=registry,
    )
    build.labels(version=metadata.version("meterstream")).set(1)


class RequestCounts:
    """Counts and times requests. Every request waits for it: it looks no label up twice."""

    def __init__(self, metrics: HttpMetrics) -> None:
        self.running = 0
        """How many are being answered."""
        self._metrics = metrics
        self._requests: dict[tuple[str, str, int], Counter] = {}
        self._seconds: dict[str, Histogram] = {}
        metrics.running.set_function(lambda: self.running)

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """A request was answered, which took so long."""
        route: str = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        labels = route, method, status
        counter = self._requests.get(labels)
        if counter is None:
            counter = self._metrics.requests.labels(route, method, str(status))
            self._requests[labels] = counter
        counter.inc()
        histogram = self._seconds.get(route)
        if histogram is None:
            histogram = self._seconds[route] = self._metrics.seconds.labels(route)
        histogram.observe(seconds)


class MetricsMiddleware:
    """Counts and times every request that comes through it."""

    def __init__(self, app: ASGIApp, *, counts: RequestCounts) -> None:
        self._app = app
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or one event of the application's life."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        begun = time.perf_counter()

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._counts.running += 1
        try:
            await self._app(scope, receive, counted)
        finally:
            self._counts.running -= 1
            self._counts.answered(scope, status, time.perf_counter() - begun)
