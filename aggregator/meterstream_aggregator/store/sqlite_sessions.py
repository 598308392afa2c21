"""How sessions are listed from SQLite: in the order of the tables, as far as they are wanted.

Two streams, sessions with and without ids, each in the order of the list, become one. Nothing is
read that lies before the cursor, nor much behind the last row wanted.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

from meterstream_aggregator.catalogue import DAY
from meterstream_aggregator.sessions import SessionKey
from meterstream_aggregator.store import rows
from meterstream_aggregator.store.port import SessionRow
from meterstream_aggregator.store.session_rows import Filter, Place, Teller, place_of
from meterstream_aggregator.store.sqlite_connection import ReadConnection
from meterstream_aggregator.subjects import SubjectKey, undump

_NOT_PLAIN: Final = 'claims IS NOT NULL OR "end" IS NULL OR "end" - start > 86400000000'
"""What the index ``session_not_plain`` holds, in its words."""
_NOT_PLAIN_STATES: Final = frozenset({"open", "timed_out", "unstarted", "conflicting"})
_PORTION: Final = 256


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
    places: Iterable[dict[str, Any]] = [{}]
    if tenants is not None:
        first = str(after[0]) if after else ""
        places = ({"tenant": tenant} for tenant in sorted(set(tenants)) if tenant >= first)
    narrowed = [place | ({} if of_type is None else {"type": of_type}) for place in places]
    with_id = chain.from_iterable(_with_id(read, teller, place, wanted) for place in narrowed)
    without = chain.from_iterable(_without_id(read, teller, place, after) for place in narrowed)
    return wanted.first(heapq.merge(with_id, without, key=place_of), limit)


def _with_id(
    read: ReadConnection, teller: Teller, place: dict[str, Any], wanted: Filter
) -> Iterator[SessionRow]:
    where = {f"{column} = ?": [value] for column, value in place.items()}
    if wanted.after:
        where["(tenant, type, session) >= (?, ?, ?)"] = list(wanted.after[:3])
    if wanted.end is not None:
        where["coalesce(start, last_sign) < ?"] = [wanted.end]
    index = ""
    if wanted.state in _NOT_PLAIN_STATES and teller.longest_min(place.get("type")) >= DAY:
        index = "INDEXED BY session_not_plain"
        where[f"({_NOT_PLAIN})"] = []
    found = read.each(
        f"SELECT partition, tenant, type, session, {rows.SESSION_FACTS} FROM session {index}"  # noqa: S608 - marks, no values
        f" WHERE {' AND '.join(where) or 1} ORDER BY tenant, type, session, partition",
        list(chain.from_iterable(where.values())),
        size=_PORTION,
    )
    for row in found:
        yield teller.row(SessionKey(*row[:4]), rows.session_of_row(row[4:]))


def _without_id(
    read: ReadConnection, teller: Teller, place: dict[str, Any], after: Place
) -> Iterator[SessionRow]:
    where = {f"{column} = ?": [value] for column, value in place.items()}
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
