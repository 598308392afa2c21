"""What the cache in front of the accounts did, for Prometheus; zeros where there is none."""

from __future__ import annotations

import threading

from prometheus_client import CollectorRegistry, Counter

from meterstream_services.accounts.cached import CachedDirectory, Counts


class AccountMetrics:
    """``meterstream_accounts_*`` of one application, brought up to date by `refresh`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lookups = Counter(
            "meterstream_accounts_lookups_total",
            "Lookups of accounts, by how they were answered: hit, from the cache; miss, by asking; "
            "stale, from what was known, since asking failed (a miss before).",
            ["result"],
            registry=registry,
        )
        self._errors = Counter(
            "meterstream_accounts_errors_total",
            "Questions that the accounts' directory did not answer, or not in time.",
            registry=registry,
        )
        self._calls = Counter(
            "meterstream_accounts_calls_total",
            "Questions that the accounts' directory was asked through the cache.",
            registry=registry,
        )
        self._seconds = Counter(
            "meterstream_accounts_call_seconds_total",
            "Time spent waiting for the accounts' directory.",
            registry=registry,
        )
        self._lock = threading.Lock()
        self._counts = Counts()
        self._told = Counts()

    def watch(self, directory: object) -> None:
        """Tell of this directory, if it is a cache."""
        if isinstance(directory, CachedDirectory):
            self._counts = directory.counts

    def refresh(self) -> None:
        """Add what came since the last time. For any thread."""
        with self._lock:
            now, told = self._counts, self._told
            new = Counts(now.hits, now.misses, now.stale, now.errors, now.calls, now.seconds)
            self._lookups.labels("hit").inc(new.hits - told.hits)
            self._lookups.labels("miss").inc(new.misses - told.misses)
            self._lookups.labels("stale").inc(new.stale - told.stale)
            self._errors.inc(new.errors - told.errors)
            self._calls.inc(new.calls - told.calls)
            self._seconds.inc(new.seconds - told.seconds)
            self._told = new
