"""How sessions are listed from PostgreSQL: in the order of the tables, as far as they are wanted.

Two streams, sessions with and without ids, each in the order of the list, become one. Nothing is
read that lies before the cursor, nor much behind the last row wanted: a stream in the order of its
table asks for some rows behind the last it has, so that no plan reads and sorts the whole table.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from meterstream_aggregator.catalogue import DAY
from meterstream_aggregator.sessions import SessionKey
from meterstream_aggregator.store import rows
from meterstream_aggregator.store.postgres.reading import ReadConnection, Row
from meterstream_aggregator.store.session_rows import Filter, Place, Teller, place_of
from meterstream_aggregator.store.told import SessionRow
from meterstream_aggregator.subjects import SubjectKey, undump

_NOT_PLAIN: Final = """
    deadline IS NULL AND (claims IS NOT NULL OR "end" IS NULL OR "end" - start > 86400000000)
"""
"""What the index ``session_not_plain`` holds, in its words; ``session_deadline`` has the rest."""
_NOT_PLAIN_STATES: Final = frozenset({"open", "timed_out", "unstarted", "conflicting"})
_PORTION: Final = 256
_TENANTS: Final = 1_000
_HAS: Final = "CROSS JOIN LATERAL (SELECT 1 FROM {} WHERE tenant = asked LIMIT 1) AS one"
_SUBJECT_AT: Final = 4
"""Where the subject stands in `rows.SESSION_FACTS`."""

Where = dict[str, list[Any]]
"""Conditions and what they are given."""


class _Table(NamedTuple):
    """A table that is read in the order of its key, which its first columns are."""

    name: str
    columns: str
    key: str


_SESSIONS: Final = _Table(
    "session",
    f"tenant, type, session, partition, {rows.SESSION_FACTS}",
    "tenant, type, session, partition",
)
_SUBJECTS: Final = _Table(
    "subject", "tenant, type, subject, partition, facts", "tenant, type, subject, partition"
)


def sessions(  # noqa: PLR0917 - everything that is asked
    read: ReadConnection,
    teller: Teller,
    tenants: Sequence[str] | None,
    of_type: str | None,
    wanted: Filter,
    limit: int,
) -> list[SessionRow]:
    """See `StoreReader.sessions`."""
    after = _comparable(wanted.after)
    if of_type is not None and "\0" in of_type:
        return []
    if tenants is not None:
        first = str(after[0]) if after else ""
        tenants = sorted({each for each in tenants if each >= first and "\0" not in each})
    typed: Where = {} if of_type is None else {"type = %s": [of_type]}
    streams: list[Iterator[SessionRow]] = [
        chain.from_iterable(
            _without_id(read, teller, place | typed, after)
            for place in _places(read, _SUBJECTS, tenants)
        )
    ]
    plain: Where = {}
    if wanted.state in _NOT_PLAIN_STATES and teller.longest_min(of_type) >= DAY:
        plain, due = {_NOT_PLAIN: []}, _with_id({"deadline IS NOT NULL": []}, wanted, after)
        if tenants is not None:
            due["tenant = ANY(%s::text[])"] = [tenants]
        due |= typed
        streams.append(_told(teller, read.each(*_query(_SESSIONS, due), size=_PORTION)))
    streams.append(
        chain.from_iterable(
            _told(
                teller, _in_order(read, _SESSIONS, _with_id(place | typed | plain, wanted, after))
            )
            for place in _places(read, _SESSIONS, tenants)
        )
    )
    return wanted.first(heapq.merge(*streams, key=place_of), limit)


def _places(read: ReadConnection, table: _Table, tenants: Sequence[str] | None) -> Iterator[Where]:
    """The tenants asked for that the table has, in their order; one place for all of them.

    A thousand are looked up at once: most of many have nothing there, and each costs a question.
    """
    if tenants is None:
        yield {}
        return
    there = f"SELECT asked FROM unnest(%s::text[]) AS asked {_HAS.format(table.name)}"  # noqa: S608 - constants
    for at in range(0, len(tenants), _TENANTS):
        asked = tenants[at : at + _TENANTS]
        for tenant in sorted(row[0] for row in read.all(there, [list(asked)])):
            yield {"tenant = %s": [tenant]}


def _with_id(narrowed: Where, wanted: Filter, after: Place) -> Where:
    where = dict(narrowed)
    if after:
        where["(tenant, type, session) >= (%s, %s, %s)"] = list(after[:3])
    if wanted.end is not None:
        where["coalesce(start, last_sign) < %s"] = [wanted.end]
    return where


def _told(teller: Teller, found: Iterable[Row]) -> Iterator[SessionRow]:
    for tenant, of_type, session, partition, *facts in found:
        if facts[_SUBJECT_AT] is not None:
            facts[_SUBJECT_AT] = facts[_SUBJECT_AT].decode()
        key = SessionKey(partition, tenant, of_type, session)
        yield teller.row(key, rows.session_of_row(tuple(facts)))


def _without_id(
    read: ReadConnection, teller: Teller, narrowed: Where, after: Place
) -> Iterator[SessionRow]:
    where = dict(narrowed)
    if after and after[2]:
        where["(tenant, type) > (%s, %s)"] = list(after[:2])
    elif len(after) > 3:
        subject = str(after[3]).encode()
        where["(tenant, type, subject) >= (%s, %s, %s)"] = [*after[:2], subject]
    elif after:
        where["(tenant, type) >= (%s, %s)"] = list(after[:2])
    for tenant, of_type, subject, partition, facts in _in_order(read, _SUBJECTS, where):
        key = SubjectKey(partition, tenant, of_type, subject.decode())
        yield from teller.rows(key, undump(facts))


def _in_order(read: ReadConnection, table: _Table, where: Where) -> Iterator[Row]:
    """Rows in the order of the key, some at a time, each time behind the last one."""
    behind = f"({table.key}) > (%s, %s, %s, %s)"
    while True:
        query, given = _query(table, where)
        found = read.all(f"{query} LIMIT {_PORTION}", given)
        yield from found
        if len(found) < _PORTION:
            return
        where = where | {behind: list(found[-1][:4])}


def _query(table: _Table, where: Where) -> tuple[str, list[Any]]:
    tests = " AND ".join(where) or "true"
    query = f"SELECT {table.columns} FROM {table.name} WHERE {tests} ORDER BY {table.key}"  # noqa: S608 - marks, no values
    return query, list(chain.from_iterable(where.values()))


def _comparable(after: Place) -> Place:
    """A place before which nothing is wanted, without a NUL in what PostgreSQL has as text.

    `Filter` knows the place as it was said.
    """
    if not any("\0" in str(part) for part in after[:3]):
        return after
    kept: list[str | int] = []
    for part in after[:3]:
        before, nul, _ = str(part).partition("\0")
        kept.append(before)
        if nul:
            break
    return (*kept, *[""] * (3 - len(kept)))
