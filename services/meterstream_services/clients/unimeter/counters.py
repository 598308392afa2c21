"""What Unimeter's ports did, for Prometheus: bounded labels, never an account or a tenant."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

ENDS: Final = ("closed", "displaced", "drained", "idle", "refused", "slow", "too_many", "unread")
"""Why a connection ended: by the client, for a new one, with this process, or at a bound."""


class UnimeterMetrics:
    """``meterstream_unimeter_*`` of one application."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.connections = Gauge(
            "meterstream_unimeter_connections",
            "Open connections on Unimeter's ports.",
            registry=registry,
        )
        self.answers = Counter(
            "meterstream_unimeter_answers_total",
            "Requests on Unimeter's ports, by op and by the status that they were answered with.",
            ["op", "status"],
            registry=registry,
        )
        self.refused = Counter(
            "meterstream_unimeter_events_refused_total",
            "Events of Unimeter's frames that can never be counted; its client reads no reason.",
            registry=registry,
        )
        self.too_fast = Counter(
            "meterstream_unimeter_events_too_fast_total",
            "Events of Unimeter's frames that were told to come again: beyond the rate of their "
            "port.",
            registry=registry,
        )
        self._ended = Counter(
            "meterstream_unimeter_connections_ended_total",
            "Connections on Unimeter's ports that ended, by why.",
            ["reason"],
            registry=registry,
        )
        self._by_reason = {reason: self._ended.labels(reason) for reason in ENDS}

    def ended(self, reason: str) -> None:
        """Count a connection that ended for one of `ENDS`."""
        self._by_reason[reason].inc()
