"""The metrics of the process that sends webhooks."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class WebhookMetrics:
    """The metrics of one sender, on a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.deliveries = Counter(
            "meterstream_webhook_deliveries_total",
            "Attempts to deliver a notice: delivered, retried or given_up.",
            ["result"],
            registry=self.registry,
        )
