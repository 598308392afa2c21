"""Short words for logs worked by hand: events of tenant a, in one partition."""

from __future__ import annotations

from typing import Any

from meterstream_schemas.events import EventKind, MeterEvent
from tests.oracle.counting import Answer, LogRecord, count

SINCE = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def event(kind: str, type: str, time: int, **changes: object) -> MeterEvent:  # noqa: A002 - as in events
    """An event, ``time`` in microseconds since metering began; of nobody, one piece."""
    plain = MeterEvent(
        kind=EventKind[kind], tenant="a", type=type, time=SINCE + time, quantity=1, scale=0,
        session=None, subject=None, attributes={}, producer="", lane=0, sequence=0, key=None,
    )  # fmt: skip
    fields: dict[str, Any] = {**plain._asdict(), **changes}
    return MeterEvent(**fields)


def told(catalogue: str, *log: tuple[int, MeterEvent]) -> Answer:
    """The answer to events that were appended so long after metering began."""
    records = [LogRecord(0, n, SINCE + at, each) for n, (at, each) in enumerate(log)]
    return count(f"metering_since: 2026-01-01T00:00:00Z\nmeters: [{catalogue}]", records)


def rows(answer: Answer) -> dict[tuple[str, str, int, int], tuple[int, object]]:
    """(events, value) by meter, groups, window and arrival; times since metering began."""
    return {
        (
            part.line.meter,
            "|".join(part.line.group),
            part.window_start - SINCE,
            part.arrival - SINCE if part.arrival else 0,
        ): row
        for part, row in answer.ledger.rows().items()
    }
