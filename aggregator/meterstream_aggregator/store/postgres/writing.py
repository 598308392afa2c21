"""How everything but usage is written: one function per part of `Changes`, inside a transaction.

Each part is one statement whose parameters are columns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from meterstream_aggregator.changes import Changes, KeyState, OutboxMessage
from meterstream_aggregator.dedup import pack
from meterstream_aggregator.errors import Fenced
from meterstream_aggregator.state import KEY_HORIZON
from meterstream_aggregator.store import rows
from meterstream_aggregator.store.port import Advance
from meterstream_aggregator.store.postgres.arrays import columns
from meterstream_aggregator.store.postgres.connection import Connection

_LOCK: Final = (
    "SELECT partition, epoch, next_offset FROM position WHERE partition = ANY(%s)"
    " ORDER BY partition FOR UPDATE"
)
_ADVANCE: Final = """
    UPDATE position AS known SET
        next_offset = new.next_offset, appended = new.appended,
        counted = known.counted + new.counted, duplicates = known.duplicates + new.duplicates,
        refused = known.refused + new.refused
    FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
        %s::bigint[], %s::bigint[], %s::bigint[])
        AS new (partition, epoch, previous, next_offset, appended, counted, duplicates, refused)
    WHERE known.partition = new.partition AND known.epoch = new.epoch
      AND known.next_offset IS NOT DISTINCT FROM new.previous
    RETURNING known.partition
"""
_READING: Final = """
    INSERT INTO reading (partition, first_offset, version)
    SELECT new.partition, new.first, new.version
    FROM (SELECT partition, first, %s::text COLLATE "C" AS version
          FROM unnest(%s::integer[], %s::bigint[]) AS given (partition, first)) AS new
    WHERE new.version IS DISTINCT FROM (
        SELECT known.version FROM reading AS known WHERE known.partition = new.partition
        ORDER BY known.first_offset DESC LIMIT 1
    )
    ON CONFLICT (partition, first_offset) DO UPDATE SET version = excluded.version
"""
_PRODUCERS: Final = """
    INSERT INTO producer (partition, producer, upto, irregular, closed, counted, duplicates,
        refused, last_append)
    SELECT partition, producer, upto, irregular, closed <> 0, counted, duplicates, refused,
        last_append
    FROM unnest(%s::bigint[], %s::text[], %s::bytea[], %s::text[], %s::bigint[], %s::bigint[],
        %s::bigint[], %s::bigint[], %s::bigint[])
        AS new (partition, producer, upto, irregular, closed, counted, duplicates, refused,
            last_append)
    ON CONFLICT (producer, partition) DO UPDATE SET
        upto = excluded.upto, irregular = excluded.irregular, closed = excluded.closed,
        counted = excluded.counted, duplicates = excluded.duplicates,
        refused = excluded.refused, last_append = excluded.last_append
"""
_OF_NUMBERS: Final = "unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bigint[])"
_REFUSED: Final = f"INSERT INTO refused_number SELECT * FROM {_OF_NUMBERS} ON CONFLICT DO NOTHING"  # noqa: S608 - names of our own
_NOT_REFUSED: Final = f"""
    DELETE FROM refused_number AS known
    USING {_OF_NUMBERS} AS gone (partition, producer, lane, sequence)
    WHERE known.producer = gone.producer AND known.partition = gone.partition
      AND known.lane = gone.lane AND known.sequence = gone.sequence
"""  # noqa: S608 - names of our own
_KEYS: Final = """
    INSERT INTO caller_key (partition, tenant, key, content, append_time, state, "time")
    SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::bytea[], %s::bigint[],
        %s::bigint[], %s::bigint[])
    ON CONFLICT (partition, tenant, key) DO UPDATE SET
        content = excluded.content, append_time = excluded.append_time, state = excluded.state,
        "time" = excluded."time"
"""
_OLD_KEYS: Final = """
    DELETE FROM caller_key AS known USING unnest(%s::bigint[], %s::bigint[]) AS old (partition, at)
    WHERE known.partition = old.partition AND known.append_time < old.at AND known.state <> %s
"""
_SESSIONS: Final = """
    INSERT INTO session (partition, tenant, type, session, start, "end", last_sign, last_append,
        deadline, subject, attributes, claims)
    SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::bigint[],
        %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bytea[], %s::text[],
        %s::text[])
    ON CONFLICT (tenant, type, session, partition) DO UPDATE SET
        start = excluded.start, "end" = excluded."end", last_sign = excluded.last_sign,
        last_append = excluded.last_append, deadline = excluded.deadline,
        subject = excluded.subject, attributes = excluded.attributes, claims = excluded.claims
"""
_SUBJECTS: Final = """
    INSERT INTO subject (partition, tenant, type, subject, facts, last_append, deadline)
    SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::bytea[], %s::text[],
        %s::bigint[], %s::bigint[])
    ON CONFLICT (tenant, type, subject, partition) DO UPDATE SET
        facts = excluded.facts, last_append = excluded.last_append, deadline = excluded.deadline
"""
_JOIN_SPANS: Final = """DO UPDATE SET
    first = least(known.first, excluded.first), last = greatest(known.last, excluded.last),
    events = known.events + excluded.events
"""
_PLACES: Final = f"""
    INSERT INTO place AS known (partition, hour, segment, first, last, events)
    SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
        %s::bigint[])
    ON CONFLICT (partition, hour, segment) {_JOIN_SPANS}
"""  # noqa: S608 - names of our own
_PRESENCES: Final = f"""
    INSERT INTO presence AS known (partition, producer, segment, first, last, events)
    SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[],
        %s::bigint[])
    ON CONFLICT (partition, segment, producer) {_JOIN_SPANS}
"""  # noqa: S608 - names of our own
_LETTERS: Final = """
    INSERT INTO dead_letter (partition, "offset", append_time, reason, detail, tenant, type,
        producer, lane, sequence)
    SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::bytea[],
        %s::bytea[], %s::bytea[], %s::bytea[], %s::bigint[], %s::bigint[])
    ON CONFLICT (partition, "offset") DO UPDATE SET
        append_time = excluded.append_time, reason = excluded.reason, detail = excluded.detail,
        tenant = excluded.tenant, type = excluded.type, producer = excluded.producer,
        lane = excluded.lane, sequence = excluded.sequence
"""
_MESSAGES: Final = """
    INSERT INTO outbox (partition, topic, key, value, headers)
    SELECT partition, topic, key, value, headers
    FROM unnest(%s::bigint[], %s::text[], %s::bytea[], %s::bytea[], %s::text[])
        WITH ORDINALITY AS new (partition, topic, key, value, headers, place)
    ORDER BY place
"""


def advance_positions(
    connection: Connection, advances: Sequence[Advance], catalogue_version: str
) -> None:
    """Move each partition from where it must be, and note what reads it from there on.

    Rows are locked in the order of partitions, and stay locked to the transaction's end. Raises
    `Fenced` where one is not ours, or not where we left it.
    """
    if not advances:
        return
    given = [
        (
            advance.partition,
            advance.epoch,
            advance.previous,
            advance.next_offset,
            advance.appended,
            advance.counted,
            advance.duplicates,
            advance.refused,
        )
        for advance in sorted(advances)
    ]
    with connection.pipeline():
        connection.execute(_LOCK, ([row[0] for row in given],))
        moving = connection.execute(_ADVANCE, columns("iiiiiiii", given))
        connection.execute(
            _READING,
            (
                catalogue_version,
                [advance.partition for advance in advances],
                [advance.first for advance in advances],
            ),
        )
        moved = {partition for (partition,) in moving.fetchall()}
    for advance in advances:
        if advance.partition not in moved:
            raise Fenced(advance.partition, advance.epoch, advance.previous or 0)


def write_numbers(connection: Connection, changes: Changes) -> None:
    """Numbers of producers, whole, and which single numbers are refused."""
    _put(
        connection,
        _PRODUCERS,
        "itbtiiiii",
        (
            (
                key.partition,
                key.producer,
                *pack(numbers),
                numbers.closed,
                numbers.counted,
                numbers.duplicates,
                numbers.refusals,
                numbers.last_append,
            )
            for key, numbers in sorted(changes.numbers.items(), key=_name)
        ),
    )
    _put(
        connection,
        _REFUSED,
        "itii",
        [number for number, refused in changes.refused.items() if refused],
    )
    gone = [number for number, refused in changes.refused.items() if not refused]
    _put(connection, _NOT_REFUSED, "itii", gone)


def write_keys(connection: Connection, changes: Changes, advances: Sequence[Advance]) -> None:
    """Callers' keys; then those are forgotten that the log's time has left behind.

    A VOID that still waits is kept: that it never found its event is to be seen.
    """
    _put(connection, _KEYS, "ittbiii", sorted(changes.keys.values()))
    if advances:
        connection.execute(
            _OLD_KEYS,
            (
                [advance.partition for advance in advances],
                [advance.appended - KEY_HORIZON for advance in advances],
                int(KeyState.AWAITED),
            ),
        )


def write_sessions(connection: Connection, changes: Changes) -> None:
    """Sessions and subjects, whole."""
    _put(
        connection,
        _SESSIONS,
        "itttiiiiibtt",
        [
            (*row[:9], None if row[9] is None else row[9].encode(), *row[10:])
            for row in sorted(rows.session_rows(changes), key=_session)
        ],
    )
    _put(
        connection,
        _SUBJECTS,
        "ittbtii",
        (
            (*row[:3], row[3].encode(), *row[4:])
            for row in (
                rows.row_of_subject(key, subject, deadline)
                for key, (subject, deadline) in sorted(changes.subjects.items(), key=_name)
            )
        ),
    )


def write_log_index(connection: Connection, changes: Changes) -> None:
    """Places and presences, joined to what is there."""
    _put(
        connection,
        _PLACES,
        "iiiiii",
        sorted((*place, *span) for place, span in changes.places.items()),
    )
    _put(
        connection,
        _PRESENCES,
        "itiiii",
        sorted((*where, *span) for where, span in changes.presences.items()),
    )


def write_letters(connection: Connection, changes: Changes) -> None:
    """Dead letters, and the messages that leave after the commit."""
    letters = {(letter.partition, letter.offset): letter for letter in changes.dead_letters}
    _put(
        connection,
        _LETTERS,
        "iiitbbbbii",
        (
            (*row[:4], *map(_bytes, row[4:8]), *row[8:])
            for row in map(rows.row_of_dead_letter, letters.values())
        ),
    )
    write_messages(connection, changes.outbox)


def write_messages(connection: Connection, messages: Iterable[OutboxMessage]) -> None:
    """Messages that leave after the commit, in their order."""
    _put(
        connection,
        _MESSAGES,
        "itbbt",
        [(*message[:4], rows.dump_headers(message.headers)) for message in messages],
    )


def _put(
    connection: Connection, statement: str, kinds: str, given: Iterable[tuple[Any, ...]]
) -> None:
    """Run a statement over the columns of these rows, see `arrays.columns`; nothing for none."""
    if made := columns(kinds, given):
        connection.execute(statement.encode(), made)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _name(entry: tuple[Any, Any]) -> Any:  # noqa: ANN401 - the key of any part
    return entry[0]


def _session(row: tuple[Any, ...]) -> tuple[str, str, str, int]:
    """The order of the table's primary key."""
    return row[1], row[2], row[3], row[0]


def positions(connection: Connection, partitions: Collection[int]) -> dict[int, tuple[int, int]]:
    """Where these partitions stand, as (epoch, next offset), once nobody is changing them."""
    found = connection.execute(_LOCK, (sorted(partitions),))
    return {partition: (epoch, next_offset) for partition, epoch, next_offset in found}
