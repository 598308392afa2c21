"""The series that a query may name: ours from the reference, and those of Prometheus itself."""

from __future__ import annotations

from typing import Final

from meterstream_services.metrics_page import metrics

EVERYWHERE: Final = frozenset({"job", "instance"})
"""Labels that Prometheus puts on every series."""
_ITS_OWN: Final = (
    "up",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
    "process_start_time_seconds",
)


def known_series() -> dict[str, frozenset[str]]:
    """Every series by name, with its labels."""
    ours = {
        name: frozenset({*metric.labels, *(["le"] if name.endswith("_bucket") else [])})
        for name, metric in metrics().items()
    }
    return ours | dict.fromkeys(_ITS_OWN, frozenset[str]())
