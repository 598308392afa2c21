"""Every metric of the server side, declared once: name, type, unit, labels, help.

Labels are bounded: partitions, results and reasons; never a tenant, a subject or an id.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3600)


class WorkerMetrics:
    """The metrics of one worker, on a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter(
            "meterstream_events_processed_total",
            "Events folded, by what became of them: counted, duplicate or refused.",
            ["result"],
            registry=self.registry,
        )
        self.dead_letters = Counter(
            "meterstream_dlq_total",
            "Records that became dead letters, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.batch_seconds = Histogram(
            "meterstream_batch_duration_seconds",
            "From the first record of a batch to its commit.",
            buckets=_LATENCY,
            registry=self.registry,
        )
        self.batch_events = Histogram(
            "meterstream_batch_events",
            "Records in a batch.",
            buckets=(1, 10, 100, 1_000, 5_000, 10_000, 25_000, 50_000),
            registry=self.registry,
        )
        self.commit_seconds = Histogram(
            "meterstream_db_commit_duration_seconds",
            "The store's transaction.",
            buckets=_LATENCY,
            registry=self.registry,
        )
        self.latency_seconds = Histogram(
            "meterstream_end_to_end_latency_seconds",
            "From an event's append to the log to its commit, for the newest event of a batch.",
            buckets=_LATENCY,
            registry=self.registry,
        )
        self.lag_events = Gauge(
            "meterstream_consumer_lag_events",
            "Records in the log that are not folded yet.",
            ["topic", "partition"],
            registry=self.registry,
        )
        self.lag_seconds = Gauge(
            "meterstream_consumer_lag_seconds",
            "Age of the newest folded record while there is lag, else 0.",
            ["topic", "partition"],
            registry=self.registry,
        )
        self.assigned = Gauge(
            "meterstream_assigned_partitions",
            "Partitions this worker owns.",
            registry=self.registry,
        )
        self.rebalances = Counter(
            "meterstream_rebalances_total",
            "Changes of the assignment: assigned, revoked or lost.",
            ["kind"],
            registry=self.registry,
        )
        self.fenced = Counter(
            "meterstream_fenced_total",
            "Batches dropped because a newer owner had the partition.",
            registry=self.registry,
        )
        self.store_retries = Counter(
            "meterstream_store_retries_total",
            "Times the store could not be used and was tried again.",
            registry=self.registry,
        )
        self.last_commit = Gauge(
            "meterstream_last_commit_timestamp_seconds",
            "When the last batch was committed, as Unix time.",
            registry=self.registry,
        )
        self.outbox_sent = Counter(
            "meterstream_outbox_sent_total",
            "Messages of the outbox that their topic has taken.",
            ["topic"],
            registry=self.registry,
        )
        self.build = Gauge(
            "meterstream_build_info",
            "Always 1; the labels tell the version and the catalogue in force.",
            ["version", "catalogue"],
            registry=self.registry,
        )
