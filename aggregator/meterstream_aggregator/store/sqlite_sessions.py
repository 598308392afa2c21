"""How sessions are listed from SQLite: in the order of the tables, as far as they are wanted.

Two streams, sessions with and without ids, each in the order of the list, become one. Nothing is
read that lies before the cursor, nor much behind the last row wanted.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

from meterstream_aggregator.catalogue import DAY
from meterstream_aggregator.sessions import SessionKey
from meterstream_aggregator.store import rows
from meterstream_aggregator.store.session_rows import Filter, Place, Teller, place_of
from meterstream_aggregator.store.sqlite_connection import ReadConnection
from meterstream_aggregator.store.told import SessionRow
from meterstream_aggregator.subjects import SubjectKey, undump

_NOT_PLAIN: Final = """
    deadline IS NULL AND (claims IS NOT NULL OR "end" IS NULL OR "end" - start > 86400000000)
"""
"""What the index ``session_not_plain`` holds, in its words; ``session_deadline`` has the rest."""
_NOT_PLAIN_STATES: Final = frozenset({"open", "timed_out", "unstarted", "conflicting"})
_PORTION: Final = 256

Where = dict[str, list[Any]]
"""Conditions and what they are given."""


def sessions(  # noqa: PLR0917 - everything that is asked
    read: ReadConnection,
    teller: Teller,
    tenants: Sequence[str] | None,
    of_type: str | None,
    wanted: Filter,
    limit: int,
) -> list[SessionRow]:
    """See `StoreReader.sessions`."""
    after = wanted.after
    places: Iterable[Where] = [{}]
    if tenants is not None:
        first = str(after[0]) if after else ""
        tenants = [tenant for tenant in sorted(set(tenants)) if tenant >= first]
        places = ({"tenant = ?": [tenant]} for tenant in tenants)
    narrowed = [place | ({} if of_type is None else {"type = ?": [of_type]}) for place in places]
    streams: list[Iterator[SessionRow]] = [
        chain.from_iterable(_without_id(read, teller, place, after) for place in narrowed)
    ]
    if wanted.state in _NOT_PLAIN_STATES and teller.longest_min(of_type) >= DAY:
        plain, due = {_NOT_PLAIN: list[Any]()}, {"deadline IS NOT NULL": list[Any]()}
        if tenants is not None:
            due["tenant IN (SELECT value FROM json_each(?))"] = [json.dumps(tenants)]
        if of_type is not None:
            due["type = ?"] = [of_type]
        streams.append(_with_id(read, teller, due, wanted, "INDEXED BY session_deadline"))
        index = "INDEXED BY session_not_plain"
    else:
        plain, index = {}, ""
    streams.append(
        chain.from_iterable(
            _with_id(read, teller, place | plain, wanted, index) for place in narrowed
        )
    )
    return wanted.first(heapq.merge(*streams, key=place_of), limit)


def _with_id(
    read: ReadConnection, teller: Teller, narrowed: Where, wanted: Filter, index: str
) -> Iterator[SessionRow]:
    where = dict(narrowed)
    if wanted.after:
        where["(tenant, type, session) >= (?, ?, ?)"] = list(wanted.after[:3])
    if wanted.end is not None:
        where["coalesce(start, last_sign) < ?"] = [wanted.end]
    found = read.each(
        f"SELECT partition, tenant, type, session, {rows.SESSION_FACTS} FROM session {index}"  # noqa: S608 - marks, no values
        f" WHERE {' AND '.join(where) or 1} ORDER BY tenant, type, session, partition",
        list(chain.from_iterable(where.values())),
        size=_PORTION,
    )
    for row in found:
        yield teller.row(SessionKey(*row[:4]), rows.session_of_row(row[4:]))


def _without_id(
    read: ReadConnection, teller: Teller, narrowed: Where, after: Place
) -> Iterator[SessionRow]:
    where = dict(narrowed)
    if after and after[2]:
        where["(tenant, type) > (?, ?)"] = list(after[:2])
    elif len(after) > 3:
        where["(tenant, type, subject) >= (?, ?, ?)"] = [*after[:2], after[3]]
    elif after:
        where["(tenant, type) >= (?, ?)"] = list(after[:2])
    found = read.each(
        "SELECT partition, tenant, type, subject, facts FROM subject"  # noqa: S608 - marks, no values
        f" WHERE {' AND '.join(where) or 1} ORDER BY tenant, type, subject, partition",
        list(chain.from_iterable(where.values())),
        size=_PORTION,
    )
    for row in found:
        yield from teller.rows(SubjectKey(*row[:4]), undump(row[4]))
