"""What a worker asks of SQLite before it folds: one question for a whole batch.

What is wanted goes in as one JSON array, which costs half of what a question for each would. Each
answers with the place in that array, then the facts. SQLite ends a text of JSON at a NUL: where one
that counts may hold it, there is a question for each.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable
from typing import Any, Final

from meterstream_aggregator.changes import CallerKey, KeyState
from meterstream_aggregator.dedup import Numbers, ProducerKey, RefusedNumber
from meterstream_aggregator.sessions import Session, SessionKey
from meterstream_aggregator.state import SeriesOwner
from meterstream_aggregator.store import rows
from meterstream_aggregator.store.sqlite_many import ask_rows
from meterstream_aggregator.subjects import Subject, SubjectKey, undump

_NUMBERS: Final = (
    "SELECT upto, irregular, closed, counted, duplicates, refused, last_append"
    " FROM producer WHERE producer = ? AND partition = ?"
)
_REFUSED_NUMBERS: Final = """
    SELECT wanted.key FROM json_each(?1) AS wanted CROSS JOIN refused_number AS known
    WHERE known.partition = wanted.value ->> 0 AND known.producer = wanted.value ->> 1
      AND known.lane = wanted.value ->> 2 AND known.sequence = wanted.value ->> 3
"""
_CALLER_KEYS: Final = """
    SELECT known.partition, known.tenant, known.key, known.content, known.append_time, known.state,
           known.time
    FROM json_each(?1) AS wanted CROSS JOIN caller_key AS known
    WHERE known.partition = ?2
      AND known.tenant = wanted.value ->> 0 AND known.key = wanted.value ->> 1
"""
_SESSIONS: Final = f"""
    WITH wanted (place, partition, tenant, type, session) AS ({{wanted}})
    SELECT wanted.place, {rows.SESSION_FACTS}
    FROM wanted CROSS JOIN session AS known
    WHERE known.partition = wanted.partition AND known.tenant = wanted.tenant
      AND known.type = wanted.type AND known.session = wanted.session
"""  # noqa: S608 - column names of our own
_DUE_SESSIONS: Final = (
    f"SELECT tenant, type, session, {rows.SESSION_FACTS} FROM session"  # noqa: S608 - column names of our own
    " WHERE partition = ? AND deadline <= ?"
)
_SUBJECT: Final = (
    "SELECT facts FROM subject WHERE partition = ? AND tenant = ? AND type = ? AND subject = ?"
)
_DUE_SUBJECTS: Final = (
    "SELECT tenant, type, subject, facts FROM subject WHERE partition = ? AND deadline <= ?"
)
_GROUPS: Final = "SELECT DISTINCT groups FROM series WHERE version = ? LIMIT ?"
"""The version is of one meter; asking for its name too would look up every row of the index."""
_SERIES: Final = """
    SELECT wanted.key, known.groups FROM json_each(?1) AS wanted CROSS JOIN series AS known
    WHERE known.partition = wanted.value ->> 0 AND known.tenant = wanted.value ->> 1
      AND known.version = wanted.value ->> 2
"""


def numbers(db: sqlite3.Connection, wanted: Iterable[ProducerKey]) -> dict[ProducerKey, Numbers]:
    """The seen numbers of those producers that are known."""
    found: dict[ProducerKey, Numbers] = {}
    for key in wanted:
        row = db.execute(_NUMBERS, (key.producer, key.partition)).fetchone()
        if row is not None:
            found[key] = rows.numbers_of_row(row)
    return found


def refused_numbers(
    db: sqlite3.Connection, wanted: Collection[RefusedNumber]
) -> set[RefusedNumber]:
    """Those of these numbers that were seen and not counted."""
    asked = list(wanted)
    return {asked[row[0]] for row in db.execute(_REFUSED_NUMBERS, (json.dumps(asked),))}


def caller_keys(
    db: sqlite3.Connection, partition: int, wanted: Collection[tuple[str, str]]
) -> dict[tuple[str, str], CallerKey]:
    """What is known, by (tenant, key). Neither holds a NUL: such events are refused."""
    found = db.execute(_CALLER_KEYS, (json.dumps(list(wanted)), partition))
    return {(row[1], row[2]): caller_key_of_row(row) for row in found}


def caller_key_of_row(row: tuple[Any, ...]) -> CallerKey:
    """From the columns of the table ``caller_key``."""
    return CallerKey(row[0], row[1], row[2], row[3], row[4], KeyState(row[5]), row[6])


def known_sessions(
    db: sqlite3.Connection, wanted: Collection[SessionKey]
) -> dict[SessionKey, Session]:
    """Those of these sessions that are known."""
    keys = list(wanted)
    found = ask_rows(db, _SESSIONS, keys)
    return {keys[row[0]]: rows.session_of_row(row[1:]) for row in found}


def due_sessions(
    db: sqlite3.Connection, partition: int, appended: int
) -> dict[SessionKey, Session]:
    """Sessions of a partition whose next deadline is at or before ``appended``."""
    found = db.execute(_DUE_SESSIONS, (partition, appended))
    return {SessionKey(partition, *row[:3]): rows.session_of_row(row[3:]) for row in found}


def known_subjects(
    db: sqlite3.Connection, wanted: Collection[SubjectKey]
) -> dict[SubjectKey, Subject]:
    """Those of these subjects that are known. Asked one by one: a subject may hold a NUL."""
    found: dict[SubjectKey, Subject] = {}
    for key in wanted:
        row = db.execute(_SUBJECT, key).fetchone()
        if row is not None:
            found[key] = undump(row[0])
    return found


def due_subjects(
    db: sqlite3.Connection, partition: int, appended: int
) -> dict[SubjectKey, Subject]:
    """Subjects of a partition whose next deadline is at or before ``appended``."""
    found = db.execute(_DUE_SUBJECTS, (partition, appended))
    return {SubjectKey(partition, *row[:3]): undump(row[3]) for row in found}


def known_series(
    db: sqlite3.Connection, wanted: Collection[SeriesOwner]
) -> dict[SeriesOwner, set[tuple[str, ...]]]:
    """The group values that have a series, by owner."""
    owners = list(wanted)
    found: dict[SeriesOwner, set[tuple[str, ...]]] = {owner: set() for owner in owners}
    for at, groups in db.execute(_SERIES, (json.dumps(owners),)):
        found[owners[at]].add(tuple(json.loads(groups)))
    return found


def groups_in_use(db: sqlite3.Connection, version: str, limit: int) -> set[tuple[str, ...]] | None:
    """The group values of all series of a definition; None where there are more than limit."""
    found = db.execute(_GROUPS, (version, limit + 1)).fetchall()
    return None if len(found) > limit else {tuple(json.loads(groups)) for (groups,) in found}
