"""Sessions as they are listed, with and without ids: their rows, order, cursor and filters. Pure.

They are listed by (tenant, type, session), those without an id first and by (subject, partition,
start). A cursor is the place of the last row seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from meterstream_aggregator.catalogue import Catalogue, Meter
from meterstream_aggregator.sessions import (
    Session,
    SessionKey,
    Start,
    is_over,
    longest_of,
    state_of,
)
from meterstream_aggregator.store.told import SessionRow
from meterstream_aggregator.subjects import Pairing, Subject, SubjectKey

Place = tuple[str | int, ...]
"""Where a session stands in the list: (tenant, type, session, subject, partition, time, start)."""


class Told(NamedTuple):
    """What sessions of one type are told by: its definitions, and how long one may last."""

    meters: tuple[Meter, ...]
    longest: int


class Teller:
    """Makes rows of sessions as of the append times that the partitions are folded to."""

    def __init__(self, catalogue: Catalogue, appended: Mapping[int, int]) -> None:
        self._catalogue = catalogue
        self._appended = appended
        self._told: dict[str, Told] = {}

    def told(self, of_type: str) -> Told:
        """The definitions of a type."""
        if of_type not in self._told:
            meters = self._catalogue.session_meters(of_type)
            self._told[of_type] = Told(meters, longest_of(meters))
        return self._told[of_type]

    def longest_min(self, of_type: str | None) -> int:
        """How long a session of a type may last; without one, of the type that allows least."""
        if of_type is not None:
            return self.told(of_type).longest
        return longest_of(self._catalogue.meters)

    def row(self, key: SessionKey, session: Session) -> SessionRow:
        """A session with an id."""
        meters, longest = self.told(key.type)
        return SessionRow(
            partition=key.partition,
            tenant=key.tenant,
            type=key.type,
            session=key.session,
            subject=session.subject,
            attributes=session.attributes,
            start=session.start,
            end=session.end_within(longest),
            last_sign=session.last_sign,
            last_append=session.last_append,
            state=state_of(session, meters, self._appended.get(key.partition, 0), longest),
            conflicts=session.conflicts_within(longest),
        )

    def rows(self, key: SubjectKey, subject: Subject) -> list[SessionRow]:
        """All sessions of a subject, in order. The conflicts of each are the subject's."""
        pairing = Pairing(subject, self.told(key.type).longest)
        found = [self._paired(key, subject, start, end) for start, end in pairing.pairs()]
        found += [self._paired(key, subject, None, end) for end in pairing.left_over()]
        return sorted(found, key=place_of)

    def _paired(
        self, key: SubjectKey, subject: Subject, start: Start | None, end: int | None
    ) -> SessionRow:
        state, last_sign = "closed", end or 0
        if start is None:
            state, end = "unstarted", None
        elif end is None:
            appended, last = self._appended.get(key.partition, 0), subject.last_append
            reading = (meter for meter in self.told(key.type).meters if meter.reads(start.time))
            over = any(is_over(meter, last, appended) for meter in reading)
            state = "timed_out" if over else "open"
            last_sign = max(start.time, subject.last_beat)
        return SessionRow(
            partition=key.partition,
            tenant=key.tenant,
            type=key.type,
            session="",
            subject=key.subject or None,
            attributes=dict(start.attributes) if start is not None else {},
            start=start.time if start is not None else None,
            end=end,
            last_sign=last_sign,
            last_append=subject.last_append,
            state=state,
            conflicts=subject.conflicts,
        )


class Filter(NamedTuple):
    """Which sessions are listed: see `StoreReader.sessions`."""

    state: str | None
    start: int | None
    end: int | None
    after: Place

    def keeps(self, row: SessionRow) -> bool:
        """Whether a row is listed."""
        if self.state == "conflicting":
            if not row.conflicts:
                return False
        elif self.state not in {None, row.state}:
            return False
        begins = row.last_sign if row.start is None else row.start
        ends = row.last_sign if row.end is None else row.end
        return (
            (self.end is None or begins < self.end)
            and (self.start is None or ends >= self.start or row.state == "open")
            and (not self.after or place_of(row)[: len(self.after)] > self.after)
        )

    def first(self, rows: Iterable[SessionRow], limit: int) -> list[SessionRow]:
        """The first of the rows that are listed."""
        kept: Iterator[SessionRow] = filter(self.keeps, rows)
        return list(islice(kept, max(limit, 0)))


def place_of(row: SessionRow) -> Place:
    """Where a row stands in the list; no two stand at one place."""
    if row.session:
        return row.tenant, row.type, row.session, "", row.partition, 0, ""
    start = "" if row.start is None else json.dumps(sorted(row.attributes.items()))
    time = row.last_sign if row.start is None else row.start
    return row.tenant, row.type, "", row.subject or "", row.partition, time, start


def cursor_of(row: SessionRow) -> str:
    r"""The cursor behind which the rows after this one are listed.

    It is ``tenant + "\x1f" + type + "\x1f" + session``, and for the rest of the place as JSON
    another ``"\x1f"`` before it.
    """
    place = place_of(row)
    return "\x1f".join((row.tenant, row.type, row.session, json.dumps(place[3:])))


def place_after(cursor: str | None) -> Place:
    """The place that a cursor tells; of one without the last part, behind all of that session."""
    if cursor is None:
        return ()
    tenant, of_type, session, rest, *_ = [*cursor.split("\x1f", 3), "", "", "", ""]
    try:
        subject, partition, time, start = json.loads(rest)
    except ValueError:
        return tenant, of_type, session
    return tenant, of_type, session, str(subject), int(partition), int(time), str(start)
