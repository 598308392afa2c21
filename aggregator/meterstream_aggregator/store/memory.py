"""The store in memory: dictionaries behind the same two ports, for tests and for a first look.

It holds what a database would hold, row by row, and answers the same questions; the contract suite
runs over both. Nothing survives the process.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from meterstream_aggregator.catalogue import Catalogue, Meter
from meterstream_aggregator.changes import (
    Changes,
    DeadLetter,
    OutboxMessage,
    UsageDelta,
    UsageKey,
)
from meterstream_aggregator.dedup import Numbers, ProducerKey, RefusedNumber
from meterstream_aggregator.errors import Fenced, StoreUnavailable
from meterstream_aggregator.fold import joined
from meterstream_aggregator.sessions import Session, SessionKey, state_of
from meterstream_aggregator.store.binding import check_binding
from meterstream_aggregator.store.port import (
    ALL_DEAD_LETTERS,
    Advance,
    Claim,
    DeadLetterRow,
    DeadLettersWanted,
    OutboxRow,
    PositionRow,
    ProducerRow,
    SessionRow,
    TopicBinding,
    UsageRow,
)


class MemoryStore:
    """A `Store` and a `StoreReader` in one. One thread."""

    def __init__(self) -> None:
        self._bound: tuple[TopicBinding, Catalogue] | None = None
        self._counted_by: list[Catalogue] = []
        self._tenants: set[str] = set()
        self._positions: dict[int, PositionRow] = {}
        self._numbers: dict[ProducerKey, Numbers] = {}
        self._refused: set[RefusedNumber] = set()
        self._keys: dict[tuple[int, str, str], tuple[bytes, int]] = {}
        self._sessions: dict[SessionKey, tuple[Session, int | None]] = {}
        self._dead_letters: list[DeadLetter] = []
        self._outbox: dict[int, OutboxMessage] = {}
        self._outbox_last = 0
        self.rows: dict[UsageKey, tuple[int, int]] = {}
        """Usage: (events, quantity) per row."""

    # The writing side.

    def bind(self, binding: TopicBinding, catalogue: Catalogue) -> None:
        """Tie the store to a topic and catalogue: see `Store.bind`."""
        if self._bound is not None:
            check_binding(self._bound[0], self._counted_by, binding, catalogue)
        self._bound = (binding, catalogue)
        self._counted_by.append(catalogue)

    def claim(self, partition: int, owner: str) -> Claim:
        """Own a partition from now on: see `Store.claim`."""
        known = self._positions.get(partition)
        if known is None:
            known = PositionRow(partition, -1, 0, 0, owner, 0, 0, 0)
        claimed = known._replace(epoch=known.epoch + 1, owner=owner)
        self._positions[partition] = claimed
        offset = claimed.next_offset if claimed.next_offset >= 0 else None
        return Claim(partition, claimed.epoch, offset, claimed.appended)

    def commit(self, advances: Sequence[Advance], changes: Changes) -> None:
        """Write one batch, all of it or nothing: see `Store.commit`."""
        for advance in advances:
            position = self._positions[advance.partition]
            previous = -1 if advance.previous is None else advance.previous
            if (position.epoch, position.next_offset) != (advance.epoch, previous):
                raise Fenced(advance.partition, advance.epoch, previous)
        for advance in advances:
            self._advance(advance)
        for delta in changes.usage:
            self._add_usage(delta)
        for producer, numbers in changes.numbers.items():
            self._numbers[producer] = copy.deepcopy(numbers)
        self._sessions.update(changes.sessions)
        for number, refused in changes.refused.items():
            (self._refused.add if refused else self._refused.discard)(number)
        for key in changes.keys:
            self._keys[(key.partition, key.tenant, key.key)] = (key.content, key.append_time)
        self._dead_letters.extend(changes.dead_letters)
        for message in changes.outbox:
            self._outbox_last += 1
            self._outbox[self._outbox_last] = message

    def outbox(self, partitions: Collection[int], limit: int) -> list[OutboxRow]:
        """The oldest messages of these partitions that wait to leave."""
        mine = (OutboxRow(i, m) for i, m in self._outbox.items() if m.partition in partitions)
        return [row for row, _ in zip(mine, range(limit), strict=False)]

    def outbox_done(self, ids: Sequence[int]) -> None:
        """Forget messages that their topic has taken."""
        for done in ids:
            self._outbox.pop(done, None)

    def close(self) -> None:
        """There is nothing to let go of."""

    def _advance(self, advance: Advance) -> None:
        known = self._positions[advance.partition]
        self._positions[advance.partition] = known._replace(
            next_offset=advance.next_offset,
            appended=advance.appended,
            counted=known.counted + advance.counted,
            duplicates=known.duplicates + advance.duplicates,
            refused=known.refused + advance.refused,
        )

    def _add_usage(self, delta: UsageDelta) -> None:
        self._tenants.update(series.tenant for series in delta.series)
        for key, (events, quantity) in delta.rows().items():
            known = self.rows.get(key)
            if known is None:
                self.rows[key] = (events, quantity)
                continue
            total = (known[0] + events, joined(delta.aggregate, known[1], quantity))
            if any(total):
                self.rows[key] = total
            else:
                del self.rows[key]

    # What the fold asks.

    def numbers(self, wanted: Iterable[ProducerKey]) -> dict[ProducerKey, Numbers]:
        """The seen numbers of those producers that are known."""
        return {key: copy.deepcopy(self._numbers[key]) for key in wanted if key in self._numbers}

    def refused_numbers(self, wanted: Collection[RefusedNumber]) -> set[RefusedNumber]:
        """Those of these numbers that were seen and not counted."""
        return self._refused.intersection(wanted)

    def refused_offsets(self, partition: int, first: int) -> list[int]:
        """Where a partition's dead letters lie from offset ``first`` on, rising."""
        found = (letter for letter in self._dead_letters if letter.partition == partition)
        return sorted(letter.offset for letter in found if letter.offset >= first)

    def caller_keys(
        self, partition: int, wanted: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[bytes, int]]:
        """Content hash and append time by (tenant, key), for those that are known."""
        found = {pair: self._keys.get((partition, *pair)) for pair in wanted}
        return {pair: known for pair, known in found.items() if known is not None}

    def known_sessions(self, wanted: Collection[SessionKey]) -> dict[SessionKey, Session]:
        """Those of these sessions that are known."""
        return {key: self._sessions[key][0] for key in wanted if key in self._sessions}

    def due_sessions(self, partition: int, appended: int) -> dict[SessionKey, Session]:
        """Sessions of a partition whose next deadline is at or before ``appended``."""
        return {
            key: session
            for key, (session, deadline) in self._sessions.items()
            if key.partition == partition and deadline is not None and deadline <= appended
        }

    # The reading side.

    def snapshot(self) -> AbstractContextManager[None]:
        """Nothing: one thread reads and writes."""
        return nullcontext()

    def catalogue(self) -> Catalogue:
        """The catalogue that the rows were made with."""
        if self._bound is None:
            raise StoreUnavailable("no worker has bound this store yet; start one")
        return self._bound[1]

    def topic(self) -> TopicBinding | None:
        """The topic generation this store belongs to, None before any worker bound it."""
        return self._bound[0] if self._bound else None

    def usage(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int, end: int
    ) -> Iterator[UsageRow]:
        """Rows of windows that begin in [start, end), of some tenants or of all."""
        for (series, window, scale), (events, quantity) in sorted(self.rows.items()):
            if series.meter != meter.name or not start <= window < end:
                continue
            if tenants is None or series.tenant in tenants:
                yield UsageRow(series.tenant, series.group, window, events, quantity, scale, False)

    def sessions(
        self,
        *,
        tenants: Sequence[str] | None = None,
        type: str | None = None,  # noqa: A002 - the word of every layer
        state: str | None = None,
        start: int | None = None,
        end: int | None = None,
        limit: int = 1000,
        after: str | None = None,
    ) -> list[SessionRow]:
        """Sessions that overlap [start, end), in order: see `StoreReader.sessions`."""
        rows: list[SessionRow] = []
        for key in sorted(self._sessions, key=lambda known: (*known[1:], known.partition)):
            row = self._session_row(key)
            begins = row.last_sign if row.start is None else row.start
            ends = row.last_sign if row.end is None else row.end
            if (
                (tenants is None or row.tenant in tenants)
                and type in (None, row.type)
                and state in (None, row.state)
                and (end is None or begins < end)
                and (start is None or ends >= start or row.state == "open")
                and (after is None or "\x1f".join(key[1:]) > after)
            ):
                rows.append(row)
        return rows[:limit]

    def positions(self) -> list[PositionRow]:
        """One row per partition that was ever claimed."""
        return [self._positions[partition] for partition in sorted(self._positions)]

    def producers(self, producer: str | None = None) -> list[ProducerRow]:
        """One row per (producer, partition)."""
        return [
            ProducerRow(
                producer=key.producer,
                partition=key.partition,
                seen=numbers.seen(),
                counted=numbers.counted,
                duplicates=numbers.duplicates,
                refused=numbers.refusals,
                missing=tuple(numbers.missing()),
                last_append=numbers.last_append,
                closed=numbers.closed,
            )
            for key, numbers in sorted(self._numbers.items(), key=lambda item: item[0][::-1])
            if producer in (None, key.producer)
        ]

    def dead_letters(
        self,
        wanted: DeadLettersWanted = ALL_DEAD_LETTERS,
        *,
        after: tuple[int, int] | None = None,
        limit: int = 1000,
    ) -> list[DeadLetterRow]:
        """Newest first; with ``after`` by place: see `StoreReader.dead_letters`."""
        rows = [row for letter in self._dead_letters if wanted.fits(row := _row_of_letter(letter))]
        if after is not None:
            return sorted(row for row in rows if row[:2] > after)[:limit]
        rows.sort(key=lambda row: (row.append_time, row.partition, row.offset), reverse=True)
        return rows[:limit]

    def tenants(self) -> list[str]:
        """Every tenant that ever had usage, sorted."""
        return sorted(self._tenants | {key.series.tenant for key in self.rows})

    def _session_row(self, key: SessionKey) -> SessionRow:
        session = self._sessions[key][0]
        meters = self.catalogue().session_meters(key.type)
        appended = self._positions[key.partition].appended
        return SessionRow(
            partition=key.partition,
            tenant=key.tenant,
            type=key.type,
            session=key.session,
            subject=session.subject,
            attributes=session.attributes,
            start=session.start,
            end=session.end,
            last_sign=session.last_sign,
            last_append=session.last_append,
            state=state_of(session, meters, appended),
            conflicts=session.conflicts,
        )


def _row_of_letter(letter: DeadLetter) -> DeadLetterRow:
    return DeadLetterRow(
        letter.partition,
        letter.offset,
        letter.refusal.reason.value,
        letter.refusal.detail,
        letter.tenant,
        letter.type,
        letter.producer,
        letter.lane,
        letter.sequence,
        letter.append_time,
    )
