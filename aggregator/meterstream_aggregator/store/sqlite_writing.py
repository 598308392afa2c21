"""How everything but usage is written: one function per part of `Changes`, inside a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from meterstream_aggregator.changes import Changes, KeyState, OutboxMessage, SessionColumns
from meterstream_aggregator.errors import Fenced
from meterstream_aggregator.state import KEY_HORIZON
from meterstream_aggregator.store import rows
from meterstream_aggregator.store.port import Advance
from meterstream_aggregator.store.sqlite_many import Insert, insert_rows
from meterstream_aggregator.store.sqlite_numbers import rows_of_numbers

_ADVANCE: Final = (
    "UPDATE position SET next_offset = ?, appended = ?, counted = counted + ?,"
    " duplicates = duplicates + ?, refused = refused + ?"
    " WHERE partition = ? AND epoch = ? AND next_offset IS ?"
)
_READING: Final = """
    INSERT OR REPLACE INTO reading SELECT ?1, ?2, ?3 WHERE ?3 IS NOT (
        SELECT version FROM reading WHERE partition = ?1 ORDER BY first_offset DESC LIMIT 1
    )
"""
_JOIN_SPANS: Final = (
    "ON CONFLICT DO UPDATE SET first = min(first, excluded.first),"
    " last = max(last, excluded.last), events = events + excluded.events"
)
_PLACE: Final = Insert("INSERT INTO place", "(?, ?, ?, ?, ?, ?)", _JOIN_SPANS)
_PRESENCE: Final = Insert(
    "INSERT INTO presence (partition, producer, segment, first, last, events)",
    "(?, ?, ?, ?, ?, ?)",
    _JOIN_SPANS,
)
_PRODUCER: Final = Insert(
    "INSERT OR REPLACE INTO producer", "(?, ?, ?, nullif(?, ''), ?, ?, ?, ?, ?)"
)
_NO_TIME: Final = -1
"""Stands for NULL where a time is bound: no time of ours is below 0."""
_TIME: Final = f"nullif(?, {_NO_TIME})"
_TEXT: Final = "nullif(?, '')"
_SESSION: Final = Insert(
    "INSERT OR REPLACE INTO session",
    f"(?, ?, ?, ?, {_TIME}, {_TIME}, ?, ?, {_TIME}, {_TEXT}, {_TEXT}, {_TEXT})",
)
_PLAIN_SESSION: Final = _SESSION._replace(
    row=f"(?, ?, ?, ?, ?, {_TIME}, ?, ?, {_TIME}, {_TEXT}, {_TEXT}, NULL)"
)


def advance_positions(
    db: sqlite3.Connection, advances: Sequence[Advance], catalogue_version: str
) -> None:
    """Move each partition from where it must be, and note what reads it from there on."""
    for advance in advances:
        moved = db.execute(
            _ADVANCE,
            (
                advance.next_offset,
                advance.appended,
                advance.counted,
                advance.duplicates,
                advance.refused,
                advance.partition,
                advance.epoch,
                advance.previous,
            ),
        )
        if moved.rowcount != 1:
            raise Fenced(advance.partition, advance.epoch, advance.previous or 0)
        db.execute(_READING, (advance.partition, advance.first, catalogue_version))


def write_numbers(db: sqlite3.Connection, changes: Changes) -> None:
    """Numbers of producers, whole, and which single numbers are refused."""
    insert_rows(db, _PRODUCER, rows_of_numbers(changes.numbers))
    db.executemany(
        "INSERT OR IGNORE INTO refused_number VALUES (?, ?, ?, ?)",
        [number for number, refused in changes.refused.items() if refused],
    )
    db.executemany(
        "DELETE FROM refused_number"
        " WHERE partition = ? AND producer = ? AND lane = ? AND sequence = ?",
        [number for number, refused in changes.refused.items() if not refused],
    )


def write_keys(db: sqlite3.Connection, changes: Changes, advances: Sequence[Advance]) -> None:
    """Callers' keys; then those are forgotten that the log's time has left behind.

    A VOID that still waits is kept: that it never found its event is to be seen.
    """
    db.executemany(
        "INSERT OR REPLACE INTO caller_key VALUES (?, ?, ?, ?, ?, ?, ?)",
        sorted(changes.keys.values()),  # in the table's order: an eighth cheaper
    )
    db.executemany(
        "DELETE FROM caller_key WHERE partition = ? AND append_time < ? AND state <> ?",
        [
            (advance.partition, advance.appended - KEY_HORIZON, KeyState.AWAITED)
            for advance in advances
        ],
    )


def write_sessions(db: sqlite3.Connection, changes: Changes) -> None:
    """Sessions and subjects, whole."""
    told = [
        rows.row_of_session(key, session, deadline)
        for key, (session, deadline) in changes.sessions.items()
    ]
    insert_rows(
        db, _SESSION, [(*row[:4], *map(_bound, row[4:9]), *map(_told, row[9:])) for row in told]
    )
    for columns in changes.session_columns:
        insert_rows(db, _PLAIN_SESSION, list(zip(*_plain(columns), strict=True)))
    db.executemany(
        "INSERT OR REPLACE INTO subject VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            rows.row_of_subject(key, subject, deadline)
            for key, (subject, deadline) in changes.subjects.items()
        ),
    )


def _plain(columns: SessionColumns) -> SessionColumns:
    """The same without None: see `sqlite_many`."""
    return columns._replace(
        end=[_NO_TIME if time is None else time for time in columns.end],
        deadline=[_NO_TIME if time is None else time for time in columns.deadline],
        subject=[text or "" for text in columns.subject],
        attributes=[text or "" for text in columns.attributes],
    )


def _bound(time: int | None) -> int:
    return _NO_TIME if time is None else time


def _told(text: str | None) -> str:
    return text or ""


def write_log_index(db: sqlite3.Connection, changes: Changes) -> None:
    """Places and presences, joined to what is there."""
    insert_rows(db, _PLACE, [(*place, *span) for place, span in changes.places.items()])
    insert_rows(db, _PRESENCE, [(*where, *span) for where, span in changes.presences.items()])


def write_letters(db: sqlite3.Connection, changes: Changes) -> None:
    """Dead letters, and the messages that leave after the commit."""
    db.executemany(
        "INSERT OR REPLACE INTO dead_letter VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (rows.row_of_dead_letter(letter) for letter in changes.dead_letters),
    )
    write_messages(db, changes.outbox)


def write_messages(db: sqlite3.Connection, messages: Iterable[OutboxMessage]) -> None:
    """Messages that leave after the commit."""
    db.executemany(
        "INSERT INTO outbox (partition, topic, key, value, headers) VALUES (?, ?, ?, ?, ?)",
        [(*message[:4], rows.dump_headers(message.headers)) for message in messages],
    )
