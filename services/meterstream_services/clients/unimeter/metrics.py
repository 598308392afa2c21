"""Unimeter's metrics as the book keeps them, for the ports of one owner.

What METRIC_PUT defines is known to this process at once and to others within `FRESH_SECONDS`.
Metrics of the ports without a tenant are also written to a file, of which `meterstream up` makes
meters for the workers: only there a threshold is watched event by event.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from meterstream.compat.unimeter_catalogue import KIND, from_definition, to_definition
from meterstream.compat.unimeter_periods import CYCLE_DAY_MAX
from meterstream.compat.unimeter_values import (
    AggType,
    AlertThreshold,
    DimensionFilter,
    MetricSchema,
    PeriodType,
)
from meterstream_services.clients.book import Book, BookFull, BookUnavailable
from meterstream_services.clients.unimeter.meaning import Known
from meterstream_services.clients.unimeter.wire import BadFrame
from meterstream_services.clients.unimeter.wire_metrics import (
    FilterForm,
    MetricForm,
    ThresholdForm,
)

FRESH_SECONDS: Final = 2.0
METRICS_MAX: Final = 2_000
"""Metrics of one owner."""
THRESHOLDS_MAX: Final = 64
"""Of one metric: a figure has so many flags."""
_PAGE: Final = 1_000

_log: Final = logging.getLogger("meterstream.unimeter")


class Metrics:
    """The metrics of one owner. Safe from several threads; the calls that say so block."""

    def __init__(
        self,
        book: Book,
        owner: str,
        *,
        definitions: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._book: Final = book
        self._owner: Final = owner
        self._definitions: Final = definitions
        self._clock: Final = clock
        self._lock: Final = threading.Lock()
        self._told: Mapping[str, Any] | None = None
        self._known: Known = {}
        self._until = 0.0

    @property
    def present(self) -> Known | None:
        """The metrics, if what is known of them is fresh. Does not block.

        The same object as long as nothing changed.
        """
        return self._known if self._clock() < self._until else None

    def read(self) -> Known:
        """The metrics, fresh. Blocks. Raises `BookUnavailable` where they were never read."""
        with self._lock:
            if self.present is not None:
                return self._known
            told: Mapping[str, Any]
            try:
                told = self._all()
            except BookUnavailable:
                if self._told is None:
                    raise
                told = self._told
            self._learn(told)
            return self._known

    def put(self, form: MetricForm) -> None:
        """Define a metric, in place of one of its code. Blocks.

        Raises `BadFrame` for one that cannot be, `BookFull` and `BookUnavailable`.
        """
        schema = schema_of(form)
        known = self.read()
        if form.code not in known and len(known) >= METRICS_MAX:
            raise BookFull(f"there are {METRICS_MAX} metrics; delete one")
        self._change(form.code, to_definition(schema))

    def delete(self, code: str) -> None:
        """Forget a metric, if there is one. Blocks. Raises `BookUnavailable`."""
        self._change(code, None)

    def tell(self) -> None:
        """Write the file for the workers' catalogue, if it says something else. Blocks."""
        if self._definitions is None:
            return
        with self._lock:
            try:
                self._write(self._definitions, self._all())
            except (OSError, BookUnavailable) as problem:
                _log.warning("metrics were not written to %s: %s", self._definitions, problem)

    def _change(self, code: str, told: dict[str, Any] | None) -> None:
        self._book.change(self._owner, KIND, code, lambda _: told)
        with self._lock:
            self._learn(self._all())
        self.tell()

    def _all(self) -> dict[str, Any]:
        """What the book has, by code."""
        found: dict[str, Any] = {}
        after = ""
        while True:
            page = self._book.all(self._owner, KIND, after=after, limit=_PAGE)
            found.update({name: content for _, name, content in page})
            if len(page) < _PAGE:
                return found
            after = page[-1][1]

    def _learn(self, told: Mapping[str, Any]) -> None:
        if told != self._told:
            self._told = told
            self._known = {code: from_definition(code, one) for code, one in told.items()}
        self._until = self._clock() + FRESH_SECONDS

    def _write(self, path: Path, told: Mapping[str, Any]) -> None:
        """Replace the file as one step, so that nobody reads half of it."""
        content = json.dumps({KIND: told}, indent=1, sort_keys=True) + "\n"
        if path.exists() and path.read_text("utf-8") == content:
            return
        if not told and not path.exists():
            return
        partial = path.with_suffix(f".{os.getpid()}.partial")
        with partial.open("w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)


def schema_of(form: MetricForm) -> MetricSchema:
    """The metric that METRIC_PUT carries. Raises `BadFrame` for one that cannot be."""
    cycle_day = form.cycle_day or 1
    if not form.code:
        raise BadFrame("a metric without a code")
    if cycle_day > CYCLE_DAY_MAX:
        raise BadFrame(f"day {cycle_day} is not in every month")
    if len(form.thresholds) > THRESHOLDS_MAX:
        raise BadFrame(f"more than {THRESHOLDS_MAX} thresholds")
    try:
        aggregation, period = AggType(form.aggregation), PeriodType(form.period)
    except ValueError as problem:
        raise BadFrame(str(problem)) from problem
    return MetricSchema(
        code=form.code,
        agg_type=aggregation,
        recurring=form.recurring,
        field_name=form.field,
        period_type=period,
        billing_cycle_day=cycle_day,
        filters=[DimensionFilter(key, list(values)) for key, values in form.filters],
        thresholds=[AlertThreshold(*threshold) for threshold in form.thresholds],
    )


def form_of(schema: MetricSchema) -> MetricForm:
    """A metric as METRIC_LIST answers it."""
    return MetricForm(
        schema.code,
        schema.agg_type,
        schema.recurring,
        schema.field_name,
        tuple(FilterForm(each.key, tuple(each.values)) for each in schema.filters),
        tuple(ThresholdForm(each.code, each.value, each.recurring) for each in schema.thresholds),
        schema.period_type,
        schema.billing_cycle_day,
    )
