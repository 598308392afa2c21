"""Every metric of the server side, declared once: name, type, unit, labels, help.

Labels are bounded: partitions, results and reasons; never a tenant, a subject or an id.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from meterstream_consumers.folding import Folded

_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3600)


class WorkerMetrics:
    """The metrics of one worker, on a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
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
        self._declare_membership()

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
        self.rebalances = counter(
            "meterstream_rebalances_total",
            "Changes of the assignment: assigned, revoked or lost.",
            ["kind"],
        )
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
