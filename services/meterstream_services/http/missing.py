"""The gauge of missing numbers, read from the store when Prometheus asks, at most so often.

What is missing is a fact of the store, not of this process: no worker could tell it for partitions
that it does not own.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from meterstream_aggregator.errors import StoreError
from meterstream_aggregator.store.port import StoreReader
from meterstream_aggregator.store.told import ProducerRow

FRESH_SECONDS: Final = 10.0
"""How long what was read is told again."""


class MissingGauge:
    """``meterstream_missing_numbers`` of one application. For any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauge = Gauge(
            "meterstream_missing_numbers",
            "Numbers that producers spent and that never arrived, by partition.",
            ["partition"],
            registry=registry,
        )
        self._lock = threading.Lock()
        self._until = 0.0

    def refresh(self, store: Callable[[], AbstractContextManager[StoreReader]]) -> None:
        """Read anew unless it was read a moment ago. A store that is away tells nothing."""
        with self._lock:
            if time.monotonic() < self._until:
                return
            try:
                with store() as reader:
                    found = Counter({row.partition: 0 for row in reader.positions()})
                    for row in reader.producers():
                        found[row.partition] += missing_numbers(row)
            except StoreError:
                self._gauge.clear()
                return
            self._gauge.clear()
            for partition, numbers in found.items():
                self._gauge.labels(str(partition)).set(numbers)
            self._until = time.monotonic() + FRESH_SECONDS


def missing_numbers(row: ProducerRow) -> int:
    """How many numbers of a producer are missing in a partition."""
    return sum(end - start + 1 for _, start, end, _ in row.missing)
