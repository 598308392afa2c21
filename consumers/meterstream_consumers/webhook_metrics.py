"""The metrics of the process that sends webhooks."""

from __future__ import annotations

from importlib import metadata

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector


class WebhookMetrics:
    """The metrics of one sender, on a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.deliveries = Counter(
            "meterstream_webhook_deliveries_total",
            "Attempts to deliver a notice: delivered, retried or given_up.",
            ["result"],
            registry=self.registry,
        )
        # Every result from the first scrape on, so that rates see the first that is given up.
        for result in ("delivered", "retried", "given_up"):
            self.deliveries.labels(result=result)
        build = Gauge(
            "meterstream_build_info",
            "Always 1; the label tells the version.",
            ["version"],
            registry=self.registry,
        )
        build.labels(version=metadata.version("meterstream")).set(1)
