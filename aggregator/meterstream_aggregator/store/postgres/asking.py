"""What a worker asks of PostgreSQL before it folds: one question for a whole batch.

What is wanted goes in as columns; each answer has the place in them, counted from 1, then the
facts. It is asked before events are judged, so a name may be anything that a stranger sent.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any, Final

from meterstream_aggregator.changes import CallerKey, KeyState
from meterstream_aggregator.dedup import Numbers, ProducerKey, RefusedNumber
from meterstream_aggregator.sessions import Session, SessionKey
from meterstream_aggregator.state import SeriesOwner
from meterstream_aggregator.store import rows
from meterstream_aggregator.store.postgres.arrays import asked
from meterstream_aggregator.store.postgres.connection import Connection
from meterstream_aggregator.subjects import Subject, SubjectKey, undump

_SESSION_FACTS: Final = (
    'known.start, known."end", known.last_sign, known.last_append, known.subject,'
    " known.attributes, known.claims"
)
_NUMBERS: Final = """
    SELECT new.place, known.upto, known.irregular, known.closed, known.counted, known.duplicates,
        known.refused, known.last_append
    FROM unnest(%s::bigint[], %s::text[]) WITH ORDINALITY AS new (partition, producer, place)
    JOIN producer AS known
    ON known.producer = new.producer AND known.partition = new.partition
"""
_REFUSED_NUMBERS: Final = """
    SELECT new.place
    FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bigint[])
        WITH ORDINALITY AS new (partition, producer, lane, sequence, place)
    JOIN refused_number AS known
    ON known.producer = new.producer AND known.partition = new.partition
        AND known.lane = new.lane AND known.sequence = new.sequence
"""
_CALLER_KEYS: Final = """
    SELECT known.partition, known.tenant, known.key, known.content, known.append_time, known.state,
        known."time"
    FROM unnest(%s::text[], %s::text[]) AS new (tenant, key) JOIN caller_key AS known
    ON known.partition = %s AND known.tenant = new.tenant AND known.key = new.key
"""
_OF_SESSIONS: Final = (
    "unnest(%s::bigint[], %s::text[], %s::text[], {}) WITH ORDINALITY"
    " AS new (partition, tenant, type, name, place)"
)
_SESSIONS: Final = f"""
    SELECT new.place, {_SESSION_FACTS}
    FROM {_OF_SESSIONS.format("%s::text[]")} JOIN session AS known
    ON known.tenant = new.tenant AND known.type = new.type AND known.session = new.name
        AND known.partition = new.partition
"""  # noqa: S608 - names of our own
_DUE_SESSIONS: Final = (
    f"SELECT known.tenant, known.type, known.session, {_SESSION_FACTS} FROM session AS known"  # noqa: S608 - names of our own
    " WHERE known.partition = %s AND known.deadline <= %s"
)
_SUBJECTS: Final = f"""
    SELECT new.place, known.facts FROM {_OF_SESSIONS.format("%s::bytea[]")} JOIN subject AS known
    ON known.tenant = new.tenant AND known.type = new.type AND known.subject = new.name
        AND known.partition = new.partition
"""  # noqa: S608 - names of our own
_DUE_SUBJECTS: Final = (
    "SELECT tenant, type, subject, facts FROM subject WHERE partition = %s AND deadline <= %s"
)
_GROUPS: Final = "SELECT DISTINCT groups FROM series WHERE meter = %s AND version = %s LIMIT %s"
_SERIES: Final = """
    SELECT new.place, known.groups
    FROM unnest(%s::bigint[], %s::text[], %s::text[])
        WITH ORDINALITY AS new (partition, tenant, version, place)
    JOIN series AS known
    ON known.version = new.version AND known.tenant = new.tenant
        AND known.partition = new.partition
"""
_REFUSED_OFFSETS: Final = (
    'SELECT "offset" FROM dead_letter WHERE partition = %s AND "offset" >= %s ORDER BY "offset"'
)


def numbers(connection: Connection, wanted: Iterable[ProducerKey]) -> dict[ProducerKey, Numbers]:
    """The seen numbers of those producers that are known."""
    keys = list(wanted)
    if not keys:
        return {}
    found = connection.execute(_NUMBERS, asked("it", keys))
    return {keys[row[0] - 1]: rows.numbers_of_row(row[1:]) for row in found}


def refused_numbers(
    connection: Connection, wanted: Collection[RefusedNumber]
) -> set[RefusedNumber]:
    """Those of these numbers that were seen and not counted."""
    keys = list(wanted)
    if not keys:
        return set()
    return {
        keys[place - 1] for (place,) in connection.execute(_REFUSED_NUMBERS, asked("itii", keys))
    }


def refused_offsets(connection: Connection, partition: int, first: int) -> list[int]:
    """Where a partition's dead letters lie from offset ``first`` on, rising."""
    return [offset for (offset,) in connection.execute(_REFUSED_OFFSETS, (partition, first))]


def caller_keys(
    connection: Connection, partition: int, wanted: Collection[tuple[str, str]]
) -> dict[tuple[str, str], CallerKey]:
    """What is known, by (tenant, key)."""
    keys = list(wanted)
    if not keys:
        return {}
    found = connection.execute(_CALLER_KEYS, (*asked("tt", keys), partition))
    return {
        (tenant, key): CallerKey(partition, tenant, key, content, at, KeyState(state), time)
        for _, tenant, key, content, at, state, time in found
    }


def known_sessions(
    connection: Connection, wanted: Collection[SessionKey]
) -> dict[SessionKey, Session]:
    """Those of these sessions that are known."""
    keys = list(wanted)
    if not keys:
        return {}
    found = connection.execute(_SESSIONS, asked("ittt", keys))
    return {keys[row[0] - 1]: session_of_row(row[1:]) for row in found}


def due_sessions(
    connection: Connection, partition: int, appended: int
) -> dict[SessionKey, Session]:
    """Sessions of a partition whose next deadline is at or before ``appended``."""
    found = connection.execute(_DUE_SESSIONS, (partition, appended))
    return {SessionKey(partition, *row[:3]): session_of_row(row[3:]) for row in found}


def session_of_row(row: tuple[Any, ...]) -> Session:
    """As `rows.session_of_row`, of a row whose subject is bytes."""
    subject = None if row[4] is None else row[4].decode()
    return rows.session_of_row((*row[:4], subject, *row[5:]))


def known_subjects(
    connection: Connection, wanted: Collection[SubjectKey]
) -> dict[SubjectKey, Subject]:
    """Those of these subjects that are known."""
    keys = list(wanted)
    if not keys:
        return {}
    named = ((*key[:3], key.subject.encode()) for key in keys)
    found = connection.execute(_SUBJECTS, asked("ittb", named))
    return {keys[place - 1]: undump(facts) for place, facts in found}


def due_subjects(
    connection: Connection, partition: int, appended: int
) -> dict[SubjectKey, Subject]:
    """Subjects of a partition whose next deadline is at or before ``appended``."""
    found = connection.execute(_DUE_SUBJECTS, (partition, appended))
    return {
        SubjectKey(partition, tenant, type_, subject.decode()): undump(facts)
        for tenant, type_, subject, facts in found
    }


def known_series(
    connection: Connection, wanted: Collection[SeriesOwner]
) -> dict[SeriesOwner, set[tuple[str, ...]]]:
    """The group values that have a series, by owner."""
    owners = list(wanted)
    found: dict[SeriesOwner, set[tuple[str, ...]]] = {owner: set() for owner in owners}
    if owners:
        for place, groups in connection.execute(_SERIES, asked("itt", owners)):
            found[owners[place - 1]].add(tuple(json.loads(groups)))
    return found


def groups_in_use(
    connection: Connection, meter: str, version: str, limit: int
) -> set[tuple[str, ...]] | None:
    """The group values of all series of a definition; None where there are more than limit."""
    found = connection.execute(_GROUPS, (meter, version, limit + 1)).fetchall()
    return None if len(found) > limit else {tuple(json.loads(groups)) for (groups,) in found}
