"""The store in one schema of a PostgreSQL database: the worker's side. For one thread.

``commit`` is the one transaction of DESIGN section 10:

1. ``BEGIN``, READ COMMITTED;
2. the rows of the partitions are locked, in their order, and moved by compare-and-set on (epoch,
   next offset): a row that did not move means `Fenced`; what reads the partition from here on is
   noted when it is another catalogue than before;
3. thresholds, series, usage, items, numbers, keys, sessions, the index of the log, dead letters,
   outbox;
4. ``COMMIT``.

Why no stronger isolation: every row of (3) belongs to a partition whose row is locked since (2) by
the one transaction that found it as its worker had left it, so no two transactions write, or have
read beforehand, the same row; thresholds, which several partitions share, are locked one by one
(see `ledger`). What deadlock or serialisation failure there may be all the same is tried again as a
whole.

When the connection breaks before (4), nothing was written. When it breaks in (4), the outcome is in
doubt and a blind repetition might count twice: the position is read again, behind the lock that the
lost transaction may still hold. Own epoch and own next offset: it is done. Anything else, or no
answer: `StoreUnavailable`; whoever claims the partition anew finds where it stands.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, TypeVar

import psycopg

from meterstream_aggregator.catalogue import Catalogue, dump_catalogue, undump_catalogue
from meterstream_aggregator.changes import CallerKey, Changes, OutboxMessage
from meterstream_aggregator.dedup import Numbers, ProducerKey, RefusedNumber
from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.sessions import Session, SessionKey
from meterstream_aggregator.state import SeriesOwner
from meterstream_aggregator.store import rows
from meterstream_aggregator.store.address import PostgresAddress
from meterstream_aggregator.store.binding import check_binding
from meterstream_aggregator.store.port import Advance, Claim, OutboxRow, TopicBinding
from meterstream_aggregator.store.postgres import arrays, asking, ledger, migrations, writing
from meterstream_aggregator.store.postgres.connection import Connection, Link
from meterstream_aggregator.store.postgres.ledger import PostgresLedger
from meterstream_aggregator.store.postgres.usage import (
    SeriesIds,
    series_of,
    write_items,
    write_usage,
)
from meterstream_aggregator.store.thresholds import settle, unwatched
from meterstream_aggregator.subjects import Subject, SubjectKey
from meterstream_aggregator.thresholds import Waiting

_BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"
"""Said, not left to what the database or the user is set to."""
_TRIES: Final = 5
_SETTLE_SECONDS: Final = (0.0, 0.5, 1.0, 2.0, 4.0)
_SETTLE_WITHIN_SECONDS: Final = 60.0
"""No attempt begins later: each may wait for a lock, and a loop that stands still is a dead one."""
_Answer = TypeVar("_Answer")


class PostgresStore:
    """A `Store` in the schema of ``address``, which `migrations.migrate` has made.

    Raises `StoreUnavailable` where waiting may help, `StoreMismatch` where a person must mend
    something: see `errors`.
    """

    def __init__(self, address: PostgresAddress) -> None:
        self._address = address
        self._catalogue, self._catalogue_version = Catalogue(0, ()), ""
        self._series = SeriesIds()
        self._link = Link(address, "worker", self._prepare)

    def bind(self, binding: TopicBinding, catalogue: Catalogue) -> None:
        """Tie the store to a topic and catalogue: see `Store.bind`."""
        self._transaction(lambda connection: _bind(connection, binding, catalogue))
        self._catalogue, self._catalogue_version = catalogue, catalogue.version

    def identity(self) -> str:
        """A random name given when the store was made."""
        with self._link.session() as connection:
            row = connection.execute("SELECT identity FROM binding").fetchone()
        assert row is not None, "the first migration made it"
        return str(row[0])

    def claim(self, partition: int, owner: str) -> Claim:
        """Own a partition from now on: see `Store.claim`."""
        with self._link.session() as connection:
            row = connection.execute(
                "INSERT INTO position AS known (partition, epoch, owner, next_offset, appended,"
                " counted, duplicates, refused) VALUES (%s, 1, %s, NULL, 0, 0, 0, 0)"
                " ON CONFLICT (partition) DO UPDATE SET epoch = known.epoch + 1,"
                " owner = excluded.owner RETURNING epoch, next_offset, appended",
                (partition, owner),
            ).fetchone()
        assert row is not None, "an upsert returns its row"
        return Claim(partition, *row)

    def commit(self, advances: Sequence[Advance], changes: Changes) -> None:
        """Write one batch, all of it or nothing: see `Store.commit`."""
        try:
            self._transaction(
                lambda connection: self._write(connection, advances, changes), advances
            )
        except BaseException:
            self._series.clear()
            raise

    def waiting(self, partitions: Collection[int], limit: int) -> list[tuple[int, Waiting]]:
        """The oldest steps of these partitions that wait for their account, with their ids."""
        with self._link.session() as connection:
            return ledger.waiting(connection, partitions, limit)

    def outbox(self, partitions: Collection[int], limit: int) -> list[OutboxRow]:
        """The oldest messages of these partitions that wait to leave."""
        with self._link.session() as connection:
            found = connection.execute(
                "SELECT id, partition, topic, key, value, headers FROM outbox"
                " WHERE partition = ANY(%s) ORDER BY id LIMIT %s",
                (list(partitions), limit),
            ).fetchall()
        return [
            OutboxRow(i, OutboxMessage(partition, topic, key, value, rows.undump_headers(told)))
            for i, partition, topic, key, value, told in found
        ]

    def outbox_done(self, ids: Sequence[int]) -> None:
        """Forget messages that their topic has taken."""
        if ids:
            with self._link.session() as connection:
                connection.execute("DELETE FROM outbox WHERE id = ANY(%s)", (list(ids),))

    def close(self) -> None:
        """Let go of the database."""
        self._link.close()

    def numbers(self, wanted: Iterable[ProducerKey]) -> dict[ProducerKey, Numbers]:
        """The seen numbers of those producers that are known."""
        with self._link.session() as connection:
            return asking.numbers(connection, wanted)

    def refused_numbers(self, wanted: Collection[RefusedNumber]) -> set[RefusedNumber]:
        """Those of these numbers that were seen and not counted."""
        with self._link.session() as connection:
            return asking.refused_numbers(connection, wanted)

    def refused_offsets(self, partition: int, first: int) -> list[int]:
        """Where a partition's dead letters lie from offset ``first`` on, rising."""
        with self._link.session() as connection:
            return asking.refused_offsets(connection, partition, first)

    def caller_keys(
        self, partition: int, wanted: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], CallerKey]:
        """What is known, by (tenant, key)."""
        with self._link.session() as connection:
            return asking.caller_keys(connection, partition, wanted)

    def known_sessions(self, wanted: Collection[SessionKey]) -> dict[SessionKey, Session]:
        """Those of these sessions that are known."""
        with self._link.session() as connection:
            return asking.known_sessions(connection, wanted)

    def due_sessions(self, partition: int, appended: int) -> dict[SessionKey, Session]:
        """Sessions of a partition whose next deadline is at or before ``appended``."""
        with self._link.session() as connection:
            return asking.due_sessions(connection, partition, appended)

    def known_subjects(self, wanted: Collection[SubjectKey]) -> dict[SubjectKey, Subject]:
        """Those of these subjects that are known."""
        with self._link.session() as connection:
            return asking.known_subjects(connection, wanted)

    def due_subjects(self, partition: int, appended: int) -> dict[SubjectKey, Subject]:
        """Subjects of a partition whose next deadline is at or before ``appended``."""
        with self._link.session() as connection:
            return asking.due_subjects(connection, partition, appended)

    def known_series(
        self, wanted: Collection[SeriesOwner]
    ) -> dict[SeriesOwner, set[tuple[str, ...]]]:
        """The group values that have a series; an owner of none has an empty set."""
        with self._link.session() as connection:
            return asking.known_series(connection, wanted)

    def groups_in_use(self, meter: str, version: str, limit: int) -> set[tuple[str, ...]] | None:
        """The group values of all series of a definition; None where there are more than limit."""
        with self._link.session() as connection:
            return asking.groups_in_use(connection, meter, version, limit)

    def _prepare(self, connection: Connection) -> None:
        """What every new session of ours begins with."""
        migrations.check(self._address, connection)
        arrays.register(connection)
        connection.prepare_threshold = 0

    def _write(self, connection: Connection, advances: Sequence[Advance], changes: Changes) -> None:
        writing.advance_positions(connection, advances, self._catalogue_version)
        watched = PostgresLedger(connection)
        watched.begin(changes)
        told = list(settle(watched, self._catalogue, changes))
        self._series.learn(connection, series_of(changes.usage, changes.items))
        with connection.pipeline():
            watched.flush()
            writing.write_messages(connection, told)
            write_usage(connection, self._series, changes.usage)
            write_items(connection, self._series, changes.items)
            writing.write_numbers(connection, changes)
            writing.write_keys(connection, changes, advances)
            writing.write_sessions(connection, changes)
            writing.write_log_index(connection, changes)
            writing.write_letters(connection, changes)

    def _transaction(
        self,
        work: Callable[[Connection], _Answer],
        advances: Sequence[Advance] = (),
    ) -> _Answer:
        """Work and COMMIT; again where the database asks for it, up to five times."""
        for tried in range(1, _TRIES + 1):
            with self._link.session() as connection:
                try:
                    connection.execute(_BEGIN, prepare=False)
                    answer = work(connection)
                except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
                    if tried == _TRIES:
                        raise
                    connection.execute("ROLLBACK", prepare=False)
                    self._series.clear()
                    continue
                self._end(connection, advances)
                return answer
        raise AssertionError("unreachable: the last try returns or raises")

    def _end(self, connection: Connection, advances: Sequence[Advance]) -> None:
        """COMMIT, and settle what came of it where the answer is lost."""
        try:
            ended = connection.execute("COMMIT", prepare=False).statusmessage
        except psycopg.Error:
            if not connection.closed:
                raise
            self._link.drop()
            self._settle(advances)
        else:
            assert ended == "COMMIT", f"COMMIT was answered by {ended}"

    def _settle(self, advances: Sequence[Advance]) -> None:
        """Is a transaction done whose COMMIT was never answered? Returns if so.

        Raises `StoreUnavailable` if not, or if nobody answers: the position tells later.
        """
        until = time.monotonic() + _SETTLE_WITHIN_SECONDS
        for pause in _SETTLE_SECONDS:
            time.sleep(pause)
            if time.monotonic() >= until:
                break
            try:
                with self._link.session() as connection:
                    known = writing.positions(connection, [each.partition for each in advances])
            except StoreUnavailable:
                continue
            if advances and all(
                known.get(each.partition) == (each.epoch, each.next_offset) for each in advances
            ):
                return
            raise StoreUnavailable(
                f"{self._address}: the connection broke in a COMMIT, which was not carried out"
            )
        raise StoreUnavailable(
            f"{self._address}: the connection broke in a COMMIT, and nobody answers since; "
            "the position tells whether it was carried out"
        )


def _bind(connection: Connection, binding: TopicBinding, catalogue: Catalogue) -> None:
    text = dump_catalogue(catalogue)
    row = connection.execute(
        "SELECT topic, topic_id, partitions, catalogue FROM binding FOR UPDATE"
    ).fetchone()
    if row is not None and row[0] is not None:
        found = connection.execute("SELECT catalogue FROM catalogue_version").fetchall()
        counted_by = [undump_catalogue(dumped) for (dumped,) in [*found, row[3:]]]
        last = connection.execute("SELECT max(appended) FROM position").fetchone()
        appended = last[0] if last is not None and last[0] is not None else 0
        check_binding(TopicBinding(*row[:3]), counted_by, binding, catalogue, appended=appended)
        ledger.forget(connection, unwatched(counted_by[-1], catalogue))
    if row != (*binding, text):
        connection.execute(
            "UPDATE binding SET topic = %s, topic_id = %s, partitions = %s, catalogue = %s",
            (*binding, text),
        )
    connection.execute(
        "INSERT INTO catalogue_version VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (catalogue.version, text),
    )
