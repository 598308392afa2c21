"""What the cache in front of the accounts did, for Prometheus; zeros where there is none."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from meterstream_services.accounts.cached import CachedDirectory, Counts


class AccountMetrics:
    """``meterstream_accounts_*`` of one application, read when Prometheus asks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counts = Counts()
        registry.register(self)

    def watch(self, directory: object) -> None:
        """Tell of this directory, if it is a cache."""
        if isinstance(directory, CachedDirectory):
            self._counts = directory.counts

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client's `Collector`."""
        counts = self._counts
        lookups = CounterMetricFamily(
            "meterstream_accounts_lookups",
            "Lookups of accounts: answered by the cache (hit), by asking (miss), or by what was "
            "known before, since asking failed (stale; these were misses first).",
            labels=["result"],
        )
        for result, number in (
            ("hit", counts.hits),
            ("miss", counts.misses),
            ("stale", counts.stale),
        ):
            lookups.add_metric([result], number)
        yield lookups
        yield CounterMetricFamily(
            "meterstream_accounts_errors",
            "Questions that the accounts' directory did not answer, or not in time.",
            value=counts.errors,
        )
        yield CounterMetricFamily(
            "meterstream_accounts_calls",
            "Questions that the accounts' directory was asked.",
            value=counts.calls,
        )
        yield CounterMetricFamily(
            "meterstream_accounts_call_seconds",
            "Seconds spent waiting for the accounts' directory.",
            value=counts.seconds,
        )
