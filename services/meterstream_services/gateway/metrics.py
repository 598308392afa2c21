"""The door's Prometheus metrics, declared once. Labels are rulings, never a tenant or a key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from meterstream.status import Status
from meterstream_services.gateway.port import Ruling

_SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Watched(Protocol):
    """What the gauges look at, once a scrape. `meterstream_services.gateway.door.LogDoor` is it."""

    @property
    def keys_remembered(self) -> int:
        """Keys that a repeat would be known by."""
        ...

    @property
    def waiting(self) -> int:
        """Events that calls wait for."""
        ...

    def status(self) -> Status:
        """How the meter is."""
        ...


class DoorMetrics:
    """The metrics of one door, on the registry of its application."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = registry or CollectorRegistry()
        events = Counter(
            "meterstream_gateway_events_total",
            "Events offered, by what they were answered: accepted, duplicate, spooled, refused, "
            "conflict, unavailable.",
            ["ruling"],
            registry=registry,
        )
        self._events: Final = {ruling: events.labels(ruling.value) for ruling in Ruling}
        self.seconds: Final = Histogram(
            "meterstream_gateway_answer_seconds",
            "From taking the events of a request until the log or the spool has them all.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.lost: Final = Counter(
            "meterstream_gateway_lost_events_total",
            "Events that the broker refused for good after they were answered as spooled or "
            "unavailable. Each is a missing number to the worker.",
            registry=registry,
        )
        records = Counter(
            "meterstream_gateway_records_total",
            "Records of the SDK passed on, by result: kept, refused, in_doubt.",
            ["result"],
            registry=registry,
        )
        self.records_kept: Final = records.labels("kept")
        self.records_refused: Final = records.labels("refused")
        self.records_in_doubt: Final = records.labels("in_doubt")
        self._gauges: Final = {
            name: Gauge(f"meterstream_gateway_{name}", told, registry=registry)
            for name, told in (
                ("waiting_events", "Events that requests wait for."),
                ("keys_remembered", "Keys by which a repeat is known without the worker."),
                ("spool_events", "Events in the spool that the log does not have yet."),
                ("spool_bytes", "Bytes of this process's spool."),
                ("spool_bytes_max", "Bytes that the spool may have."),
                ("spool_oldest_seconds", "Age of the oldest event that the log does not have."),
                ("failed_events", "Events that never reach the log: refused, or the disk broke."),
                ("adopted_events", "Events of dead processes that were sent from their spools."),
            )
        }

    def count(self, ruling: Ruling, events: int) -> None:
        """Events were answered."""
        self._events[ruling].inc(events)

    def watch(self, door: Watched) -> None:
        """Let the gauges show this door."""
        status = door.status
        shown: dict[str, Callable[[], float]] = {
            "waiting_events": lambda: door.waiting,
            "keys_remembered": lambda: door.keys_remembered,
            "spool_events": lambda: status().spooled,
            "spool_bytes": lambda: status().spool_bytes,
            "spool_bytes_max": lambda: status().spool_bytes_max,
            "spool_oldest_seconds": lambda: status().oldest_unacknowledged_seconds,
            "failed_events": lambda: status().failed,
            "adopted_events": lambda: status().adopted,
        }
        for name, show in shown.items():
            self._gauges[name].set_function(show)
