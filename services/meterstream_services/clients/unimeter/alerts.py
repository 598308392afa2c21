"""Thresholds that were reached, for one owner's ports: found, kept in order, told to subscribers.

Two sources, one log. What workers watch event by event (metrics whose own meter has counted since
before the period began) comes from their notices. Every other threshold is judged by the exact
figures whenever somebody looks: those of a port of a tenant, of 30-day periods, of unique and
latest values, and of metrics whose meter begins later. Each is there once a period and account.

The store is asked while somebody subscribes or lists: every `LOOK_SECONDS`, and never for more
than a tenth of the time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Final

from meterstream.compat.unimeter_catalogue import meter_name, threshold_name
from meterstream.compat.unimeter_values import MetricSchema
from meterstream_aggregator.catalogue import DAY, Catalogue
from meterstream_aggregator.store.port import StoreReader
from meterstream_aggregator.thresholds import identity
from meterstream_services.clients.unimeter.alert_log import AlertLog, Reached
from meterstream_services.clients.unimeter.figures import Questions, period_now
from meterstream_services.clients.unimeter.metrics import Metrics
from meterstream_services.http.parts import Parts

LOOK_SECONDS: Final = 1.0
_SHARE: Final = 10
"""A look is followed by a pause of so many times its length."""


class Alerts:
    """The alerts of one owner. Its methods block, and are safe from several threads."""

    def __init__(
        self, parts: Parts, metrics: Metrics, questions: Questions, log: AlertLog, *, watched: bool
    ) -> None:
        """``watched``: workers may have meters of these metrics."""
        self._parts: Final = parts
        self._metrics: Final = metrics
        self._questions: Final = questions
        self._watched: Final = watched
        self.log: Final = log
        self._lock: Final = Lock()
        self._next = 0.0

    def look(self) -> float:
        """Append what was reached, unless that was done just now; seconds until it is worth again.

        Raises `StoreUnavailable`, `BookUnavailable` and `BookFull`.
        """
        with self._lock:
            begin = time.monotonic()
            if begin >= self._next:
                schemas = [each for each in self._metrics.read().values() if each.thresholds]
                self.log.append(self._reached(schemas))
                took = time.monotonic() - begin
                self._next = time.monotonic() + max(LOOK_SECONDS, _SHARE * took)
            return max(self._next - time.monotonic(), 0.0)

    def _reached(self, schemas: list[MetricSchema]) -> list[Reached]:
        if not schemas:
            return []
        now = self._parts.now()
        told: list[Reached] = []
        watched: set[str] = set()
        if self._watched:
            with self._parts.store() as store:
                catalogue = store.catalogue()
                watched = _watched(catalogue, schemas, now)
                told += _noticed(store, catalogue, schemas, now)
        for schema in schemas:
            if schema.code not in watched:
                told += self._judged(schema, now)
        return told

    def _judged(self, schema: MetricSchema, now: int) -> Iterator[Reached]:
        start, end = period_now(schema, now)
        for account, value in self._questions.reaching(schema, start, end):
            for each in schema.thresholds:
                if value >= each.value > 0:
                    facts = account, schema.code, each.code, each.value, start, value
                    yield Reached(*facts, now * 1000)


def _watched(catalogue: Catalogue, schemas: Sequence[MetricSchema], now: int) -> set[str]:
    """The metrics of which workers saw all of the present period, and know every threshold."""
    begun: dict[str, int] = {}
    for meter in catalogue.meters:
        begun[meter.name] = min(meter.since, begun.get(meter.name, meter.since))
    known = {(each.name, at) for each in catalogue.thresholds for at in each.at}
    return {
        schema.code
        for schema in schemas
        if begun.get(meter_name(schema.code), now) <= period_now(schema, now)[0]
        and all(
            (threshold_name(schema.code, each.code), str(each.value)) in known
            for each in schema.thresholds
        )
    }


def _noticed(
    store: StoreReader, catalogue: Catalogue, schemas: Sequence[MetricSchema], now: int
) -> Iterator[Reached]:
    """What workers told of, of the periods that held any of the last day."""
    known = {
        threshold_name(schema.code, each.code): (schema, each)
        for schema in schemas
        for each in schema.thresholds
    }
    names = {
        identity(each): known[each.name] for each in catalogue.thresholds if each.name in known
    }
    if not names:
        return
    begins = {schema.code: period_now(schema, now - DAY)[0] for schema, _ in names.values()}
    for row in store.threshold_notices(list(names), min(begins.values())):
        schema, threshold = names[row.threshold]
        if not row.who.isdecimal() or row.start < begins[schema.code]:
            continue
        if row.at != str(threshold.value):
            continue
        at = (row.place.log_time or now) * 1000
        value = int(row.value.decimal())
        yield Reached(
            int(row.who), schema.code, threshold.code, threshold.value, row.start, value, at
        )
