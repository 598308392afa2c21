"""The store in one schema of a PostgreSQL database: the worker's side."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from meterstream_aggregator.catalogue import Catalogue
from meterstream_aggregator.changes import CallerKey, Changes
from meterstream_aggregator.dedup import Numbers, ProducerKey, RefusedNumber
from meterstream_aggregator.sessions import Session, SessionKey
from meterstream_aggregator.state import SeriesOwner
from meterstream_aggregator.store.address import PostgresAddress
from meterstream_aggregator.store.port import Advance, Claim, OutboxRow, TopicBinding
from meterstream_aggregator.store.postgres.connection import Link
from meterstream_aggregator.subjects import Subject, SubjectKey
from meterstream_aggregator.thresholds import Waiting


class PostgresStore:
    """A `Store` in the schema of ``address``."""

    def __init__(self, address: PostgresAddress) -> None:
        self._link = Link(address, "worker")

    def bind(self, binding: TopicBinding, catalogue: Catalogue) -> None:
        """Tie the store to a topic and catalogue: see `Store.bind`."""
        raise NotImplementedError

    def identity(self) -> str:
        """A random name given when the store was made."""
        raise NotImplementedError

    def claim(self, partition: int, owner: str) -> Claim:
        """Own a partition from now on: see `Store.claim`."""
        raise NotImplementedError

    def commit(self, advances: Sequence[Advance], changes: Changes) -> None:
        """Write one batch, all of it or nothing: see `Store.commit`."""
        raise NotImplementedError

    def waiting(self, partitions: Collection[int], limit: int) -> list[tuple[int, Waiting]]:
        """The oldest steps of these partitions that wait for their account, with their ids."""
        raise NotImplementedError

    def outbox(self, partitions: Collection[int], limit: int) -> list[OutboxRow]:
        """The oldest messages of these partitions that wait to leave."""
        raise NotImplementedError

    def outbox_done(self, ids: Sequence[int]) -> None:
        """Forget messages that their topic has taken."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the database."""
        self._link.close()

    def numbers(self, wanted: Iterable[ProducerKey]) -> dict[ProducerKey, Numbers]:
        """The seen numbers of those producers that are known."""
        raise NotImplementedError

    def refused_numbers(self, wanted: Collection[RefusedNumber]) -> set[RefusedNumber]:
        """Those of these numbers that were seen and not counted."""
        raise NotImplementedError

    def refused_offsets(self, partition: int, first: int) -> list[int]:
        """Where a partition's dead letters lie from offset ``first`` on, rising."""
        raise NotImplementedError

    def caller_keys(
        self, partition: int, wanted: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], CallerKey]:
        """What is known, by (tenant, key)."""
        raise NotImplementedError

    def known_sessions(self, wanted: Collection[SessionKey]) -> dict[SessionKey, Session]:
        """Those of these sessions that are known."""
        raise NotImplementedError

    def due_sessions(self, partition: int, appended: int) -> dict[SessionKey, Session]:
        """Sessions of a partition whose next deadline is at or before ``appended``."""
        raise NotImplementedError

    def known_subjects(self, wanted: Collection[SubjectKey]) -> dict[SubjectKey, Subject]:
        """Those of these subjects that are known."""
        raise NotImplementedError

    def due_subjects(self, partition: int, appended: int) -> dict[SubjectKey, Subject]:
        """Subjects of a partition whose next deadline is at or before ``appended``."""
        raise NotImplementedError

    def known_series(
        self, wanted: Collection[SeriesOwner]
    ) -> dict[SeriesOwner, set[tuple[str, ...]]]:
        """The group values that have a series; an owner of none has an empty set."""
        raise NotImplementedError

    def groups_in_use(self, meter: str, version: str, limit: int) -> set[tuple[str, ...]] | None:
        """The group values of all series of a definition; None where there are more than limit."""
        raise NotImplementedError
