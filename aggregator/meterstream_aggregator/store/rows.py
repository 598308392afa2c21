"""Database rows to values and back: what the SQLite writer and reader share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import repeat
from typing import Any, Final

from meterstream_aggregator.catalogue import LENGTH_MAX
from meterstream_aggregator.changes import Changes, DeadLetter
from meterstream_aggregator.dedup import Numbers, ProducerKey, unpack
from meterstream_aggregator.sessions import Session, SessionKey, Start, attributes_text
from meterstream_aggregator.store.told import ProducerRow
from meterstream_aggregator.subjects import Subject, SubjectKey, dump

_JSON: Final = json.JSONEncoder(separators=(",", ":"))

SESSION_FACTS: Final = 'start, "end", last_sign, last_append, subject, attributes, claims'
"""The columns that `session_of_row` takes, in order."""


def numbers_of_row(row: tuple[Any, ...]) -> Numbers:
    """From (upto, irregular, closed, counted, duplicates, refused, last_append)."""
    numbers = unpack(row[0], row[1])
    numbers.closed = bool(row[2])
    numbers.counted, numbers.duplicates, numbers.refusals, numbers.last_append = row[3:7]
    return numbers


def producer_row(key: ProducerKey, numbers: Numbers, lane: int | None = None) -> ProducerRow:
    """What is told of a producer; of one lane alone, if it is named."""
    return ProducerRow(
        producer=key.producer,
        partition=key.partition,
        seen=numbers.seen(),
        counted=numbers.counted,
        duplicates=numbers.duplicates,
        refused=numbers.refusals,
        missing=tuple([hole for hole in numbers.missing() if lane in {None, hole[0]}]),
        lanes=numbers.lanes(lane),
        last_append=numbers.last_append,
        closed=numbers.closed,
    )


def session_of_row(row: tuple[Any, ...]) -> Session:
    """From the columns of `SESSION_FACTS`."""
    start, end, last_sign, last_append, subject, attributes, claims = row
    if claims is not None:
        starts, ends = json.loads(claims)
        return Session(
            tuple(Start(at, who, tuple((n, v) for n, v in pairs)) for at, who, pairs in starts),
            tuple(ends),
            last_sign,
            last_append,
        )
    pairs = tuple(sorted(json.loads(attributes).items())) if attributes else ()
    return Session(
        (Start(start, subject or "", pairs),) if start is not None else (),
        (end,) if end is not None else (),
        last_sign,
        last_append,
    )


def row_of_session(key: SessionKey, session: Session, deadline: int | None) -> tuple[Any, ...]:
    """A row of the table ``session``. Equal sessions give equal rows, whatever reads them."""
    starts, ends, last_sign, last_append = session
    end: int | None = None
    claims: str | None = None
    if ends or len(starts) > 1:  # else there is one start, or nothing but heartbeats
        end = session.end_within(LENGTH_MAX)
        if len(starts) > 1 or ends != (end,):
            claims = _JSON.encode([starts, ends])
    if not starts:
        return (*key, None, end, last_sign, last_append, deadline, None, None, claims)
    start, subject, pairs = starts[0]
    attributes = attributes_text(pairs)
    return (
        *key,
        start,
        end,
        last_sign,
        last_append,
        deadline,
        subject or None,
        attributes,
        claims,
    )


def session_rows(changes: Changes) -> Iterator[tuple[Any, ...]]:
    """The rows of the table ``session`` that a commit puts in place of what is there."""
    for key, (session, deadline) in changes.sessions.items():
        yield row_of_session(key, session, deadline)
    for columns in changes.session_columns:
        yield from zip(*columns, repeat(None), strict=False)


def sessions_of(
    changes: Changes,
) -> Iterator[tuple[SessionKey, tuple[Session, int | None]]]:
    """All sessions that a commit puts in place of what is there, as objects."""
    yield from changes.sessions.items()
    for columns in changes.session_columns:
        for row in zip(*columns, strict=True):
            facts = (*row[4:8], *row[9:11], None)
            yield SessionKey(*row[:4]), (session_of_row(facts), row[8])


def row_of_subject(key: SubjectKey, subject: Subject, deadline: int | None) -> tuple[Any, ...]:
    """A row of the table ``subject``. Equal subjects give equal rows."""
    return (*key, dump(subject), subject.last_append, deadline)


def row_of_dead_letter(letter: DeadLetter) -> tuple[Any, ...]:
    """A row of the table ``dead_letter``."""
    return (
        letter.partition,
        letter.offset,
        letter.append_time,
        letter.refusal.reason.value,
        letter.refusal.detail,
        letter.tenant,
        letter.type,
        letter.producer,
        letter.lane,
        letter.sequence,
    )


def dump_headers(headers: tuple[tuple[str, bytes], ...]) -> str:
    """Headers as JSON; their bytes as Latin-1 text, which keeps every byte."""
    return json.dumps([[name, value.decode("latin-1")] for name, value in headers])


def undump_headers(text: str) -> tuple[tuple[str, bytes], ...]:
    """What `dump_headers` wrote."""
    return tuple((name, value.encode("latin-1")) for name, value in json.loads(text))


def statements(script: str) -> Iterator[str]:
    """The statements of a SQL file whose statements end with a semicolon at a line's end."""
    for statement in script.split(";\n"):
        if statement.strip():
            yield statement
