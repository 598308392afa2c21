"""After the sending: the wait until all events are counted, and the rows of those refused.

The API may be away for a while, as when its process is started again: that is a wait like any.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from meterstream_schemas.placement import lane_of
from meterstream_services.client import ApiRefused, ApiUnreachable
from meterstream_services.importer import mapping as mapped
from meterstream_services.importer.errors import NotCounted
from meterstream_services.importer.reading import Row, RowFile
from meterstream_services.importer.report import REFUSALS_KEPT_MAX, Job, Refusal, Report, Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from meterstream_services.client import Json, Parameters

_POLL_SECONDS: Final = 0.2
_SILENCE_SECONDS: Final = 10.0


class Asker(Protocol):
    """The call of `meterstream_services.client.Api` that an import makes."""

    def get(self, path: str, parameters: Parameters = ()) -> Json:
        """The JSON of an answer."""
        ...


class _Patience:
    """How long nothing has moved, in seconds of waiting."""

    def __init__(self, watcher: Watcher, *, seconds: float) -> None:
        self._watcher = watcher
        self._seconds = seconds
        self._silent = self._said = 0.0

    def spend(self, *, moved: bool, seen: int, events: int, why: str) -> None:
        """Wait one poll longer. Raises `NotCounted` when the patience is at its end."""
        self._silent = 0.0 if moved else self._silent + _POLL_SECONDS
        self._said = 0.0 if moved else self._said
        if self._silent >= self._seconds:
            raise NotCounted(
                f"{seen} of {events} events are counted and nothing moved for {self._seconds:g} s "
                f"({why}); all are in Kafka and will be counted once a worker runs, and importing "
                "the file again is safe"
            )
        if self._silent - self._said >= _SILENCE_SECONDS:
            self._said = self._silent
            self._watcher.say(
                f"waiting: {seen} of {events} events counted, none for {self._silent:.0f} s; {why}"
            )


def await_counts(
    job: Job,
    report: Report,
    api: Asker,
    watcher: Watcher,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Fill in what the worker made of a report's events. Blocks until all are seen.

    Raises `NotCounted` after ``patience_seconds`` without progress.
    """
    patience = _Patience(watcher, seconds=job.patience_seconds)
    seen = -1
    while True:
        why = "is the worker running? (`meterstream status` says)"
        before, moved = seen, False
        try:
            seen = _reconcile(api, report)
            moved = seen != before
        except (ApiUnreachable, ApiRefused) as problem:
            if isinstance(problem, ApiRefused) and problem.status < 500:
                raise
            why = str(problem)
        if seen >= report.events - report.undelivered:
            break
        patience.spend(moved=moved, seen=max(0, seen), events=report.events, why=why)
        watcher.counting(seen=max(0, seen), events=report.events)
        sleep(_POLL_SECONDS)
    watcher.counting(seen=seen, events=report.events)
    if report.events_refused:
        _name_refused(job, report, api)


def _reconcile(api: Asker, report: Report) -> int:
    """Note how far the counting is; the events seen."""
    answer = api.get("/v1/reconcile", [("producer", report.producer)])
    totals: Counter[str] = Counter(seen=0, counted=0, refused=0)
    for entry in answer["producers"]:
        totals.update({name: int(entry[name]) for name in ("seen", "counted", "refused")})
    report.counted, report.events_refused = totals["counted"], totals["refused"]
    # Not the worker's own count of duplicates: that has repeated sendings in it as well.
    report.duplicates = max(0, totals["seen"] - totals["counted"] - totals["refused"])
    return totals["seen"]


class Numbered(NamedTuple):
    """An event as the SDK numbered it, and the row it comes from."""

    row: Row
    lane: int
    sequence: int


def numbered(
    rows: RowFile, mapping: mapped.Mapping, events_of_rows: bytearray
) -> Iterator[Numbered]:
    """Every event that was recorded from ``rows``, by counting the lanes as in step 1."""
    last: Counter[int] = Counter()
    plan = mapped.bind(mapping, rows)
    for row, events in zip(rows, events_of_rows, strict=False):
        if not events:
            continue
        lane = lane_of(plan(row).tenant)
        for _ in range(events):
            last[lane] += 1
            yield Numbered(row, lane, last[lane])


def _name_refused(job: Job, report: Report, api: Asker) -> None:
    room = REFUSALS_KEPT_MAX - len(report.refusals)
    if room <= 0:
        return
    answer = api.get("/v1/deadletters", [("producer", report.producer), ("limit", str(room))])
    letters = {
        (int(letter["lane"]), int(letter["sequence"])): letter for letter in answer["deadletters"]
    }
    with RowFile(job.path, layout=job.layout, delimiter=job.delimiter) as rows:
        for row, lane, sequence in numbered(rows, job.mapping, report.events_of_rows):
            letter = letters.pop((lane, sequence), None)
            if letter is not None:
                report.refusals.append(_refusal(letter, row, rows, job.mapping))
            if not letters:
                break
    report.refusals.extend(
        Refusal(None, None, "", "", f"{letter['reason']}: {letter['detail']}")
        for letter in letters.values()
    )


def _refusal(
    letter: Mapping[str, Any], row: Row, rows: RowFile, mapping: mapped.Mapping
) -> Refusal:
    """The worker's words, led back to the cell: its details begin with the field's name."""
    reason = f"{letter['reason']}: {letter['detail']}"
    field = str(letter["detail"]).partition(":")[0]
    source = mapped.source_of(mapping, field)
    if source is None or source.column is None:
        return Refusal(row.number, row.line, "", "", reason)
    value = rows.cell(source.column)(row.cells) or ""
    return Refusal(row.number, row.line, source.column, value[:80], reason)
