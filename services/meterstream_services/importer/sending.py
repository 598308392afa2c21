"""One import, from the first row to the last count.

1. Every row is planned and recorded with a key that is the same in every import of the file, so
   recording is safe to repeat from the start after any interruption.
2. The SDK is flushed: every event has a delivery report with an offset.
3. The wait: `/v1/reconcile` for this import's producer, until every number spent is seen.
4. What the worker refused is fetched from the dead letters and led back to its rows by reading the
   file once more and counting the lanes as the SDK did.

Memory does not grow with the file, but for the occurrences that `identity` counts.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.placement import lane_of
from meterstream_services.importer import mapping as mapped
from meterstream_services.importer.errors import FileUnreadable, NotCounted, RowRefused
from meterstream_services.importer.mapping import END_SUFFIX, START_SUFFIX, SessionSpan, Usage
from meterstream_services.importer.reading import Layout, Row, RowFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from meterstream_services.client import Json, Parameters

REFUSALS_KEPT_MAX: Final = 1000
"""Refused rows that a report names one by one. All are counted."""
_FLUSH_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.2
_SILENCE_SECONDS: Final = 10.0


class Recorder(Protocol):
    """The calls of `meterstream.Meter` that an import makes."""

    @property
    def producer(self) -> str:
        """The incarnation's id."""
        ...

    def record(
        self,
        type: str,  # noqa: A002 - the SDK's name, and the field's
        *,
        tenant: str,
        quantity: str,
        time: int,
        subject: str | None,
        attributes: Mapping[str, str] | None,
        key: str | None,
    ) -> bool:
        """One usage event."""
        ...

    def session_start(
        self,
        type: str,  # noqa: A002 - the SDK's name, and the field's
        *,
        tenant: str,
        session: str,
        subject: str | None,
        attributes: Mapping[str, str] | None,
        time: int,
        key: str | None,
    ) -> bool:
        """The start of a session."""
        ...

    def session_end(
        self,
        type: str,  # noqa: A002 - the SDK's name, and the field's
        *,
        tenant: str,
        session: str,
        subject: str | None,
        attributes: Mapping[str, str] | None,
        time: int,
        key: str | None,
    ) -> bool:
        """The end of a session."""
        ...

    def flush(self, timeout: float) -> bool:
        """Whether everything recorded has its outcome within ``timeout`` seconds."""
        ...

    def status(self) -> Standing:
        """What became of the events so far."""
        ...


class Standing(Protocol):
    """What of `meterstream.Status` an import reads."""

    @property
    def failed(self) -> int:
        """Events that the broker refuses for good."""
        ...

    @property
    def last_error(self) -> str | None:
        """The latest trouble."""
        ...


class Asker(Protocol):
    """The call of `meterstream_services.client.Api` that an import makes."""

    def get(self, path: str, parameters: Parameters = ()) -> Json:
        """The JSON of an answer."""
        ...


class Watcher(Protocol):
    """Who is told how an import goes. Called from the importing thread."""

    def reading(self, *, rows: int, bytes_read: int, bytes_total: int) -> None:
        """So far into the file, in rows and in bytes of it."""
        ...

    def counting(self, *, seen: int, events: int) -> None:
        """So many of the events have reached the store."""
        ...

    def say(self, sentence: str) -> None:
        """A person should know this."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """What to import and how. ``patience_seconds``: the longest wait without any progress."""

    path: Path
    mapping: mapped.Mapping
    layout: Layout | None = None
    delimiter: str | None = None
    patience_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused row: where, which cell, why. ``column`` is empty when the row as a whole is."""

    row: int | None
    line: int | None
    column: str
    value: str
    reason: str


@dataclass(slots=True)
class Report:
    """What became of a file.

    ``rows`` were read; ``events`` were recorded (two for a session with an end); of these
    ``undelivered`` the broker refused for good; the rest is ``counted``, ``duplicates`` or refused
    by the worker, all None while nobody waited for it.
    ``rows_refused`` never became events. ``events_of_rows`` says for each row how many events it
    became, one byte a row.
    """

    producer: str
    rows: int = 0
    events: int = 0
    rows_refused: int = 0
    quantities_empty: int = 0
    counted: int | None = None
    duplicates: int | None = None
    events_refused: int | None = None
    undelivered: int = 0
    unfinished: str = ""
    events_of_rows: bytearray = field(default_factory=bytearray, repr=False)
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def refused(self) -> int:
        """Rows that became no event, and events that the worker refused."""
        return self.rows_refused + (self.events_refused or 0)

    @property
    def is_clean(self) -> bool:
        """Every row of the whole file became an event that was counted or known already."""
        return not self.refused and not self.unfinished


def import_file(job: Job, recorder: Recorder, watcher: Watcher) -> Report:
    """Steps 1 and 2: record every row and flush. Blocks as long as the broker makes it.

    Raises `MappingError` or `FileUnreadable` before anything was sent. A file that breaks off later
    gives a report with ``unfinished`` saying where; what was read is sent.
    """
    report = Report(recorder.producer)
    with RowFile(job.path, layout=job.layout, delimiter=job.delimiter) as rows:
        plan = mapped.bind(job.mapping, rows)
        try:
            for row in rows:
                report.rows = row.number
                events = _take(job.mapping, plan, row, recorder, report)
                report.events += events
                report.events_of_rows.append(events)
                if row.number % 1000 == 0:
                    watcher.reading(
                        rows=row.number, bytes_read=rows.bytes_read, bytes_total=rows.bytes_total
                    )
        except FileUnreadable as problem:
            report.unfinished = f"{problem} (after row {report.rows}; what was read is sent)"
        watcher.reading(rows=report.rows, bytes_read=rows.bytes_total, bytes_total=rows.bytes_total)
    _flush(job, recorder, watcher)
    standing = recorder.status()
    report.undelivered = standing.failed
    if report.undelivered:
        report.unfinished = (
            f"{report.undelivered} events were refused by the broker: {standing.last_error}"
        )
    return report


def await_counts(
    job: Job,
    report: Report,
    api: Asker,
    watcher: Watcher,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Steps 3 and 4: fill in what the worker made of the events. Blocks until all are seen.

    Raises `NotCounted` after ``patience_seconds`` without progress.
    """
    silent = warned = 0.0
    seen_before = -1
    while True:
        state = _reconciled(api, report.producer)
        watcher.counting(seen=state["seen"], events=report.events)
        report.counted, report.events_refused = state["counted"], state["refused"]
        # Not the worker's own count of duplicates: that has repeated sendings in it as well.
        report.duplicates = max(0, state["seen"] - state["counted"] - state["refused"])
        if state["seen"] >= report.events - report.undelivered:
            break
        silent = silent + _POLL_SECONDS if state["seen"] == seen_before else 0.0
        warned = warned if silent else 0.0
        seen_before = state["seen"]
        if silent >= job.patience_seconds:
            raise NotCounted(
                f"{state['seen']} of {report.events} events are counted and nothing moved for "
                f"{job.patience_seconds:g} s; all are in Kafka and will be counted once a worker "
                "runs, and importing the file again is safe"
            )
        if silent - warned >= _SILENCE_SECONDS:
            warned = silent
            watcher.say(
                f"waiting: {state['seen']} of {report.events} events counted, none for "
                f"{silent:.0f} s; is the worker running? (`meterstream status` says)"
            )
        sleep(_POLL_SECONDS)
    if report.events_refused:
        _name_refused(job, report, api)


def _take(
    mapping: mapped.Mapping, plan: mapped.Plan, row: Row, recorder: Recorder, report: Report
) -> int:
    try:
        planned = plan(row)
        events = _record(mapping, planned, recorder)
    except RowRefused as problem:
        _refuse(report, row, problem)
        return 0
    report.quantities_empty += isinstance(planned, Usage) and planned.quantity_was_empty
    return events


def _record(mapping: mapped.Mapping, planned: Usage | SessionSpan, recorder: Recorder) -> int:
    """Record a planned row and say how many events it became. Raises `RowRefused`."""
    try:
        if isinstance(planned, Usage):
            recorder.record(
                mapping.type,
                tenant=planned.tenant,
                quantity=planned.quantity,
                time=planned.time,
                subject=planned.subject,
                attributes=planned.attributes or None,
                key=planned.key,
            )
            return 1
        return _record_session(mapping, planned, recorder)
    except InvalidEvent as problem:
        column = mapped.column_of(mapping, problem.field)
        raise RowRefused(column, _value(planned, problem.field), problem.problem) from problem


def _value(planned: Usage | SessionSpan, field: str) -> str:
    if field.startswith("attributes."):
        return planned.attributes.get(field.removeprefix("attributes."), "")[:80]
    value = getattr(planned, field, "")
    return value[:80] if isinstance(value, str) else ""


def _record_session(mapping: mapped.Mapping, span: SessionSpan, recorder: Recorder) -> int:
    boundaries = [(recorder.session_start, span.start, START_SUFFIX)]
    if span.end is not None:
        boundaries.append((recorder.session_end, span.end, END_SUFFIX))
    for boundary, moment, suffix in boundaries:
        boundary(
            mapping.type,
            tenant=span.tenant,
            session=span.session,
            subject=span.subject,
            attributes=span.attributes or None,
            time=moment,
            key=span.key + suffix,
        )
    return len(boundaries)


def _flush(job: Job, recorder: Recorder, watcher: Watcher) -> None:
    waited = said = 0.0
    while not recorder.flush(_FLUSH_SECONDS):
        waited += _FLUSH_SECONDS
        if waited >= job.patience_seconds:
            raise NotCounted(
                f"the broker did not take all events within {job.patience_seconds:g} s; importing "
                "the file again is safe, what arrived counts once"
            )
        if waited - said >= _SILENCE_SECONDS:
            said = waited
            watcher.say(f"waiting for the broker to take the last events, {waited:.0f} s so far")


def _reconciled(api: Asker, producer: str) -> dict[str, int]:
    answer = api.get("/v1/reconcile", [("producer", producer)])
    totals: Counter[str] = Counter(seen=0, counted=0, refused=0)
    for entry in answer["producers"]:
        totals.update({name: int(entry[name]) for name in ("seen", "counted", "refused")})
    return dict(totals)


def _refuse(report: Report, row: Row, problem: RowRefused) -> None:
    report.rows_refused += 1
    if len(report.refusals) < REFUSALS_KEPT_MAX:
        report.refusals.append(
            Refusal(row.number, row.line, problem.column, problem.value, problem.reason)
        )


def _name_refused(job: Job, report: Report, api: Asker) -> None:
    room = REFUSALS_KEPT_MAX - len(report.refusals)
    if room <= 0:
        return
    answer = api.get(
        "/v1/deadletters", [("producer", report.producer), ("limit", str(min(room, 1000)))]
    )
    letters = {
        (int(letter["lane"]), int(letter["sequence"])): letter for letter in answer["deadletters"]
    }
    for number, line, lane, sequence in numbered(job, report.events_of_rows):
        letter = letters.pop((lane, sequence), None)
        if letter is not None:
            report.refusals.append(_refused_by_worker(letter, number, line))
        if not letters:
            return
    report.refusals.extend(_refused_by_worker(letter, None, None) for letter in letters.values())


def numbered(job: Job, events_of_rows: bytearray) -> Iterator[tuple[int, int, int, int]]:
    """Row, line, lane and sequence of every event, as the SDK numbered them in step 1."""
    last: Counter[int] = Counter()
    with RowFile(job.path, layout=job.layout, delimiter=job.delimiter) as rows:
        plan = mapped.bind(job.mapping, rows)
        for row, events in zip(rows, events_of_rows, strict=False):
            if not events:
                continue
            lane = lane_of(plan(row).tenant)
            for _ in range(events):
                last[lane] += 1
                yield row.number, row.line, lane, last[lane]


def _refused_by_worker(letter: Mapping[str, Any], row: int | None, line: int | None) -> Refusal:
    return Refusal(row, line, "", str(letter["reason"]), str(letter["detail"]))
