"""Every metric of a worker, declared once: name, type, unit, labels, help.

Labels are bounded: partitions, results and reasons; never a tenant, a subject or an id. All
metrics of all processes stand in ``docs/metrics.md``, which `meterstream_services.metrics_page`
writes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from meterstream_aggregator.refusals import Reason
from meterstream_consumers.folding import Folded

_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3600)


class WorkerMetrics:
    """The metrics of one worker, on a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        counter = partial(Counter, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self.events = counter(
            "meterstream_events_processed_total",
            "Events folded, by what became of them: counted, duplicate or refused.",
            ["result"],
        )
        self.dead_letters = counter(
            "meterstream_dlq_total", "Records that became dead letters, by reason.", ["reason"]
        )
        self.late = counter(
            "meterstream_late_contributions_total",
            "Events that came after their window's close, once per meter that counts them.",
        )
        self.batch_seconds = histogram(
            "meterstream_batch_duration_seconds",
            "Decoding, folding and committing a batch.",
            buckets=_LATENCY,
        )
        self.batch_events = histogram(
            "meterstream_batch_events",
            "Records in a batch.",
            buckets=(1, 10, 100, 1_000, 5_000, 10_000, 25_000, 50_000),
        )
        self.commit_seconds = histogram(
            "meterstream_db_commit_duration_seconds", "The store's transaction.", buckets=_LATENCY
        )
        self.latency_seconds = histogram(
            "meterstream_end_to_end_latency_seconds",
            "From an event's append to the log to its commit, for the newest event of a batch.",
            buckets=_LATENCY,
        )
        self._lags_told: set[tuple[str, str]] = set()
        self._declare_membership()
        self._begin()

    def note(self, folded: Folded, seconds: float, now: float) -> None:
        """What one commit did; it took ``seconds`` and was done at ``now``, as Unix time."""
        self.events.labels(result="counted").inc(folded.counted)
        self.events.labels(result="duplicate").inc(folded.duplicates)
        self.events.labels(result="refused").inc(folded.refused)
        self.batch_seconds.observe(seconds)
        self.batch_events.observe(folded.records)
        self.latency_seconds.observe(max(now - folded.appended / 1_000_000, 0.0))
        self.last_commit.set(now)
        if folded.changes is None:
            return
        for letter in folded.changes.dead_letters:
            self.dead_letters.labels(reason=letter.refusal.reason.value).inc()
        for delta in folded.changes.usage:
            if delta.arrival:
                self.late.inc(int(np.abs(delta.events).sum()))

    def tell_lag(self, topic: str, lags: Mapping[int, tuple[int, float]]) -> None:
        """Lag of each partition that is owned now, in records and seconds; others have none here.

        A partition that went to another worker must not keep its last figure at this one.
        """
        for partition, (records, seconds) in lags.items():
            self.lag_events.labels(topic, str(partition)).set(records)
            self.lag_seconds.labels(topic, str(partition)).set(seconds)
        told = {(topic, str(partition)) for partition in lags}
        for gone in self._lags_told - told:
            self.lag_events.remove(*gone)
            self.lag_seconds.remove(*gone)
        self._lags_told = told

    def watch(self, *, ready: Callable[[], bool], disk: Path | None) -> None:
        """Tell at each scrape whether the worker is ready, and what its store's disk has left.

        ``disk`` is the directory of a store that is a file, None for any other.
        """
        self.ready.set_function(lambda: float(ready()))
        if disk is None:
            return
        free = Gauge(
            "meterstream_store_free_bytes",
            "Bytes left on the disk of a store that is a file.",
            registry=self.registry,
        )
        free.set_function(partial(_free_bytes, disk))

    def _begin(self) -> None:
        """Every label value that is known beforehand, at 0, so that rates see the first event."""
        for result in ("counted", "duplicate", "refused"):
            self.events.labels(result=result)
        for reason in Reason:
            self.dead_letters.labels(reason=reason.value)
        for kind in ("assigned", "revoked", "lost"):
            self.rebalances.labels(kind=kind)

    def _declare_membership(self) -> None:
        """What the worker owns, how far behind it is, and how it is doing."""
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        self.lag_events = gauge(
            "meterstream_consumer_lag_events",
            "Records in the log that are not folded yet.",
            ["topic", "partition"],
        )
        self.lag_seconds = gauge(
            "meterstream_consumer_lag_seconds",
            "Age of the newest folded record while there is lag, else 0.",
            ["topic", "partition"],
        )
        self.assigned = gauge("meterstream_assigned_partitions", "Partitions this worker owns.")
        self.paused = gauge(
            "meterstream_paused_partitions",
            "Partitions of this worker that it does not read just now.",
        )
        self.ready = gauge(
            "meterstream_ready", "1 while the worker is ready, else 0; /readyz says why not."
        )
        self.offset_gap = counter(
            "meterstream_offset_gap_events_total",
            "Records that the log had deleted before they were folded.",
        )
        self.rebalances = counter(
            "meterstream_rebalances_total",
            "Changes of the assignment: assigned, revoked or lost.",
            ["kind"],
        )
        self._declare_troubles()

    def _declare_troubles(self) -> None:
        """What kept the worker from going on, and what waits to leave it."""
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        self.fenced = counter(
            "meterstream_fenced_total", "Batches dropped because a newer owner had the partition."
        )
        self.store_retries = counter(
            "meterstream_store_retries_total",
            "Times the store could not be used and was tried again.",
        )
        self.last_commit = gauge(
            "meterstream_last_commit_timestamp_seconds",
            "When the last batch was committed, as Unix time.",
        )
        self.outbox_sent = counter(
            "meterstream_outbox_sent_total",
            "Messages of the outbox that their topic has taken.",
            ["topic"],
        )
        self.outbox_waiting = gauge(
            "meterstream_outbox_waiting_messages",
            "Messages of the outbox under way to their topics, at most 500 at a time.",
        )
        self.ticks = counter(
            "meterstream_ticks_total", "Ticks that idle partitions of this worker have taken."
        )
        self.refused_lately = gauge(
            "meterstream_deadletters_lately",
            "Dead letters among the last 10,000 records of a partition; a flood stops the worker.",
            ["partition"],
        )
        self.floods = counter(
            "meterstream_deadletter_floods_total", "Floods of dead letters that stopped the worker."
        )
        self.build = gauge(
            "meterstream_build_info",
            "Always 1; the labels tell the version and the catalogue in force.",
            ["version", "catalogue"],
        )


def _free_bytes(directory: Path) -> float:
    """Not a number while the directory cannot be asked: an alert on too little stays quiet then."""
    try:
        return float(shutil.disk_usage(directory).free)
    except OSError:
        return float("nan")
