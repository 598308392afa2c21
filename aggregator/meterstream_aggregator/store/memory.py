"""The store in memory: dictionaries behind the same two ports, for tests and for a first look.

It holds what a database would hold, row by row, and answers the same questions; the contract suite
runs over both. Nothing survives the process.
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from meterstream_aggregator.catalogue import Catalogue
from meterstream_aggregator.changes import (
    CallerKey,
    Changes,
    KeyState,
    OutboxMessage,
    Place,
    Presence,
    Span,
    UsageDelta,
)
from meterstream_aggregator.dedup import Numbers, ProducerKey, RefusedNumber
from meterstream_aggregator.errors import Fenced
from meterstream_aggregator.fold import joined
from meterstream_aggregator.sessions import Session, SessionKey
from meterstream_aggregator.state import KEY_HORIZON, SeriesOwner
from meterstream_aggregator.store import rows
from meterstream_aggregator.store.binding import check_binding
from meterstream_aggregator.store.memory_reader import Content, MemoryReader
from meterstream_aggregator.store.port import Advance, Claim, OutboxRow, TopicBinding
from meterstream_aggregator.store.thresholds import settle, unwatched
from meterstream_aggregator.store.told import PositionRow
from meterstream_aggregator.subjects import Subject, SubjectKey
from meterstream_aggregator.thresholds import Waiting

_Where = TypeVar("_Where", Place, Presence)


class MemoryStore(MemoryReader):
    """A `Store`, and a `StoreReader` of what it holds. One thread."""

    def __init__(self) -> None:
        super().__init__(Content())
        self._refused: set[RefusedNumber] = set()
        self._outbox: dict[int, OutboxMessage] = {}
        self._outbox_last = 0
        self._identity = secrets.token_hex(16)
        self.rows = self.content.usage
        """Usage: (events, quantity) per row."""

    def bind(self, binding: TopicBinding, catalogue: Catalogue) -> None:
        """Tie the store to a topic and catalogue: see `Store.bind`."""
        content = self.content
        if content.bound is not None:
            appended = max((row.appended for row in content.positions.values()), default=0)
            check_binding(
                content.bound[0], content.catalogues, binding, catalogue, appended=appended
            )
            content.ledger.forget(unwatched(content.bound[1], catalogue))
        content.bound = (binding, catalogue)
        content.catalogues.append(catalogue)

    def identity(self) -> str:
        """A random name given when the store was made."""
        return self._identity

    def claim(self, partition: int, owner: str) -> Claim:
        """Own a partition from now on: see `Store.claim`."""
        known = self.content.positions.get(partition)
        if known is None:
            known = PositionRow(partition, -1, 0, 0, owner, 0, 0, 0)
        claimed = known._replace(epoch=known.epoch + 1, owner=owner)
        self.content.positions[partition] = claimed
        offset = claimed.next_offset if claimed.next_offset >= 0 else None
        return Claim(partition, claimed.epoch, offset, claimed.appended)

    def commit(self, advances: Sequence[Advance], changes: Changes) -> None:
        """Write one batch, all of it or nothing: see `Store.commit`."""
        content = self.content
        for advance in advances:
            position = content.positions[advance.partition]
            previous = -1 if advance.previous is None else advance.previous
            if (position.epoch, position.next_offset) != (advance.epoch, previous):
                raise Fenced(advance.partition, advance.epoch, previous)
        for advance in advances:
            self._advance(advance)
        for message in settle(content.ledger, self.catalogue(), changes) if content.bound else ():
            self._post(message)
        for delta in changes.usage:
            self._add_usage(delta)
        for key, item in changes.items.items():
            content.series.add(key.series)
            content.items[key] = max(item, content.items.get(key, item))
        for producer, numbers in changes.numbers.items():
            content.numbers[producer] = copy.deepcopy(numbers)
        for number, refused in changes.refused.items():
            (self._refused.add if refused else self._refused.discard)(number)
        content.sessions.update(rows.sessions_of(changes))
        content.subjects.update(changes.subjects)
        _join_spans(content.places, changes.places)
        _join_spans(content.presences, changes.presences)
        self._write_keys(changes, advances)
        for letter in changes.dead_letters:
            content.dead_letters[(letter.partition, letter.offset)] = letter
        for message in changes.outbox:
            self._post(message)

    def outbox(self, partitions: Collection[int], limit: int) -> list[OutboxRow]:
        """The oldest messages of these partitions that wait to leave."""
        mine = (OutboxRow(i, m) for i, m in self._outbox.items() if m.partition in partitions)
        return [row for row, _ in zip(mine, range(limit), strict=False)]

    def outbox_done(self, ids: Sequence[int]) -> None:
        """Forget messages that their topic has taken."""
        for done in ids:
            self._outbox.pop(done, None)

    def waiting(self, partitions: Collection[int], limit: int) -> list[tuple[int, Waiting]]:
        """The oldest steps of these partitions that wait for their account, with their ids."""
        return self.content.ledger.waiting(partitions, limit)

    def _post(self, message: OutboxMessage) -> None:
        self._outbox_last += 1
        self._outbox[self._outbox_last] = message

    def _advance(self, advance: Advance) -> None:
        content, partition = self.content, advance.partition
        known = content.positions[partition]
        content.positions[partition] = known._replace(
            next_offset=advance.next_offset,
            appended=advance.appended,
            counted=known.counted + advance.counted,
            duplicates=known.duplicates + advance.duplicates,
            refused=known.refused + advance.refused,
        )
        read_by = [
            version for (of, _), version in sorted(content.readings.items()) if of == partition
        ]
        version = content.bound[1].version if content.bound else ""
        if read_by[-1:] != [version]:
            content.readings[(partition, advance.first)] = version

    def _add_usage(self, delta: UsageDelta) -> None:
        usage = self.content.usage
        self.content.series.update(delta.series)
        for key, (events, quantity) in delta.rows().items():
            known = usage.get(key)
            total = (events, quantity)
            if known is not None:
                total = (known[0] + events, joined(delta.aggregate, known[1], quantity))
            if any(total):
                usage[key] = total
            else:
                usage.pop(key, None)

    def _write_keys(self, changes: Changes, advances: Sequence[Advance]) -> None:
        keys = self.content.keys
        keys.update(changes.keys)
        for advance in advances:
            oldest = advance.appended - KEY_HORIZON
            for place in [
                place
                for place, key in keys.items()
                if key.partition == advance.partition
                and key.append_time < oldest
                and key.state is not KeyState.AWAITED
            ]:
                del keys[place]

    # What the fold asks.

    def numbers(self, wanted: Iterable[ProducerKey]) -> dict[ProducerKey, Numbers]:
        """The seen numbers of those producers that are known."""
        known = self.content.numbers
        return {key: copy.deepcopy(known[key]) for key in wanted if key in known}

    def refused_numbers(self, wanted: Collection[RefusedNumber]) -> set[RefusedNumber]:
        """Those of these numbers that were seen and not counted."""
        return self._refused.intersection(wanted)

    def refused_offsets(self, partition: int, first: int) -> list[int]:
        """Where a partition's dead letters lie from offset ``first`` on, rising."""
        places = sorted(self.content.dead_letters)
        return [offset for of, offset in places if of == partition and offset >= first]

    def caller_keys(
        self, partition: int, wanted: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], CallerKey]:
        """What is known, by (tenant, key)."""
        found = {pair: self.content.keys.get((partition, *pair)) for pair in wanted}
        return {pair: known for pair, known in found.items() if known is not None}

    def known_sessions(self, wanted: Collection[SessionKey]) -> dict[SessionKey, Session]:
        """Those of these sessions that are known."""
        known = self.content.sessions
        return {key: known[key][0] for key in wanted if key in known}

    def due_sessions(self, partition: int, appended: int) -> dict[SessionKey, Session]:
        """Sessions of a partition whose next deadline is at or before ``appended``."""
        return {
            key: session
            for key, (session, deadline) in self.content.sessions.items()
            if key.partition == partition and deadline is not None and deadline <= appended
        }

    def known_subjects(self, wanted: Collection[SubjectKey]) -> dict[SubjectKey, Subject]:
        """Those of these subjects that are known."""
        known = self.content.subjects
        return {key: known[key][0] for key in wanted if key in known}

    def due_subjects(self, partition: int, appended: int) -> dict[SubjectKey, Subject]:
        """Subjects of a partition whose next deadline is at or before ``appended``."""
        return {
            key: subject
            for key, (subject, deadline) in self.content.subjects.items()
            if key.partition == partition and deadline is not None and deadline <= appended
        }

    def known_series(
        self, wanted: Collection[SeriesOwner]
    ) -> dict[SeriesOwner, set[tuple[str, ...]]]:
        """The group values that have a series; an owner of none has an empty set."""
        found: dict[SeriesOwner, set[tuple[str, ...]]] = {owner: set() for owner in wanted}
        for series in self.content.series:
            owner = SeriesOwner(series.partition, series.tenant, series.version)
            if owner in found:
                found[owner].add(series.group)
        return found

    def groups_in_use(self, meter: str, version: str, limit: int) -> set[tuple[str, ...]] | None:
        """The group values of all series of a definition; None where there are more than limit."""
        found = {
            series.group
            for series in self.content.series
            if (series.meter, series.version) == (meter, version)
        }
        return found if len(found) <= limit else None


def _join_spans(known: dict[_Where, Span], new: Mapping[_Where, Span]) -> None:
    for where, span in new.items():
        was = known.get(where)
        known[where] = (
            span
            if was is None
            else Span(
                min(was.first, span.first), max(was.last, span.last), was.events + span.events
            )
        )
