"""From rows to recorded events, the first half of an import.

1. Every row is planned and recorded with a key that is the same in every import of the file, so
   recording is safe to repeat from the start after any interruption.
2. The SDK is flushed: every event has a delivery report with an offset.

`counting` is the second half:

3. The wait: `/v1/reconcile` for this import's producer, until every number spent is seen.
4. What the worker refused is fetched from the dead letters and led back to its rows by reading the
   file once more and counting the lanes as the SDK did.

Memory grows by a byte per row and by the occurrences that `identity` counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from meterstream_schemas.errors import InvalidEvent
from meterstream_services.importer import mapping as mapped
from meterstream_services.importer.errors import FileUnreadable, NotCounted, RowRefused
from meterstream_services.importer.mapping import END_SUFFIX, START_SUFFIX, SessionSpan, Usage
from meterstream_services.importer.reading import Row, RowFile
from meterstream_services.importer.report import REFUSALS_KEPT_MAX, Job, Refusal, Report, Watcher

if TYPE_CHECKING:
    from collections.abc import Mapping


_FLUSH_SECONDS: Final = 1.0
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
        source = mapped.source_of(mapping, problem.field)
        column = source.shown if source else problem.field
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
            why = recorder.status().last_error or "it has not answered"
            watcher.say(f"waiting {waited:.0f} s for the broker to take the last events: {why}")


def _refuse(report: Report, row: Row, problem: RowRefused) -> None:
    report.rows_refused += 1
    if len(report.refusals) < REFUSALS_KEPT_MAX:
        report.refusals.append(
            Refusal(row.number, row.line, problem.column, problem.value, problem.reason)
        )
