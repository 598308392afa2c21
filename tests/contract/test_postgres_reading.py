"""How PostgreSQL is read: connections kept, lost and bounded; snapshots; odd names."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.catalogue import HOUR
from meterstream_aggregator.changes import Changes
from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.store.opening import Readers, open_store
from meterstream_aggregator.store.postgres import reading
from meterstream_aggregator.store.postgres.connection import connect
from meterstream_aggregator.store.postgres.reader import PostgresReader
from meterstream_aggregator.store.postgres.reading import Connections, ReadConnection
from meterstream_aggregator.store.told import DeadLettersWanted
from tests.contract.stores import BINDING, CATALOGUE, NOW, SESSIONS, added, commit, row, session_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meterstream_aggregator.store.address import PostgresAddress
    from meterstream_aggregator.store.port import Store

METER = CATALOGUE.meter("credit")


@pytest.fixture
def store(postgres_address: PostgresAddress) -> Iterator[Store]:
    """A store that a worker has bound."""
    with closing(open_store(postgres_address)) as store:
        store.bind(BINDING, CATALOGUE)
        yield store


def _backend(reader: ReadConnection) -> int:
    found = reader.one("SELECT pg_backend_pid()")
    assert found is not None
    return int(found[0])


def test_a_connection_is_kept_for_the_next_reader(
    store: Store, postgres_address: PostgresAddress
) -> None:
    """The session of one reader is that of the next; never of two at once."""
    connections = Connections(postgres_address)
    first, second = [ReadConnection(postgres_address, connections=connections) for _ in range(2)]
    both = {_backend(first), _backend(second)}
    first.close()
    second.close()
    with closing(ReadConnection(postgres_address, connections=connections)) as third:
        assert _backend(third) in both
    connections.close()

    assert len(both) == 2


def test_a_connection_that_the_server_ended_is_not_used_again(
    store: Store, postgres_address: PostgresAddress
) -> None:
    """After a restart of the database the first question is answered like any other."""
    readers = Readers(postgres_address)
    for _ in range(2):
        readers.open().close()
    with connect(postgres_address, "migrate") as other:
        ended = other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'meterstream reader' AND pid <> pg_backend_pid()"
        ).fetchall()

    with closing(readers.open()) as reader, reader.snapshot():
        assert reader.topic() == BINDING
    readers.close()
    assert (True,) in ended


def test_a_connection_that_breaks_within_a_question_is_told(
    store: Store, postgres_address: PostgresAddress
) -> None:
    """As `StoreUnavailable`, and its place is free for the next question."""
    connections = Connections(postgres_address, at_most=1)
    with closing(ReadConnection(postgres_address, connections=connections)) as reader:
        backend = _backend(reader)
        with reader.snapshot():
            with connect(postgres_address, "migrate") as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", (backend,))
            with pytest.raises(StoreUnavailable, match="told to stop this connection"):
                reader.all("SELECT 1")

    with closing(ReadConnection(postgres_address, connections=connections)) as reader:
        assert _backend(reader) != backend
    connections.close()


def test_no_more_questions_than_connections(
    store: Store, postgres_address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes when all are in use waits, and is told when that lasts."""
    monkeypatch.setattr(reading, "WAIT_SECONDS", 0.05)
    connections = Connections(postgres_address, at_most=1)
    with (
        closing(ReadConnection(postgres_address, connections=connections)),
        pytest.raises(StoreUnavailable, match="1 questions are being answered already"),
    ):
        ReadConnection(postgres_address, connections=connections)
    ReadConnection(postgres_address, connections=connections).close()

    monkeypatch.setattr(reading, "WAIT_SECONDS", 60.0)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(_ask, connections) for _ in range(20)]
        assert [one.result() for one in asked] == [1] * 20
    connections.close()


def _ask(connections: Connections) -> int:
    with closing(ReadConnection(connections.address, connections=connections)) as reader:
        found = reader.one("SELECT 1")
    return 0 if found is None else int(found[0])


def test_a_failed_question_harms_no_other(store: Store, postgres_address: PostgresAddress) -> None:
    """What fails inside a snapshot ends with it, and the connection comes back clean."""
    connections = Connections(postgres_address, at_most=1)
    with closing(PostgresReader(postgres_address, connections=connections)) as reader:
        with suppress(RuntimeError), reader.snapshot():
            next(reader.usage(METER, tenants=None, start=0, end=2**55), None)
            raise RuntimeError
        assert reader.topic() == BINDING
    with closing(PostgresReader(postgres_address, connections=connections)) as reader:
        assert reader.tenants() == []
    connections.close()


def test_a_reader_writes_nothing(store: Store, postgres_address: PostgresAddress) -> None:
    """The database itself keeps a reader from writing."""
    with (
        closing(ReadConnection(postgres_address)) as reader,
        pytest.raises(StoreUnavailable, match="read-only"),
    ):
        reader.all("DELETE FROM series RETURNING 1")


def test_a_snapshot_sees_one_state(store: Store, postgres_address: PostgresAddress) -> None:
    """What a worker commits meanwhile is seen by the next one only, in long answers as well."""
    claim = store.claim(0, "w")
    rows = {row(NOW - NOW % HOUR + n * HOUR): (1, 1) for n in range(3_000)}
    claim = commit(store, claim, added(rows))
    with closing(PostgresReader(postgres_address)) as reader:
        with reader.snapshot():
            found = reader.usage(METER, tenants=["acme"], start=0, end=2**55)
            first = next(found)
            commit(store, claim, added(dict.fromkeys(rows, (1, 5))))
            told = [first, *found]
            assert {each.quantity for each in told} == {1}
            assert len(told) == 3_000
        again = reader.usage(METER, tenants=["acme"], start=0, end=2**55)
        assert {each.quantity for each in again} == {6}


def test_two_long_answers_are_read_side_by_side(
    store: Store, postgres_address: PostgresAddress
) -> None:
    """Each goes on where it was; one that is given up does not hinder."""
    rows = {row(NOW - NOW % HOUR + n * HOUR, tenant=f"t{n % 2}"): (1, n) for n in range(5_000)}
    commit(store, store.claim(0, "w"), added(rows))
    with closing(PostgresReader(postgres_address)) as reader, reader.snapshot():
        streams = [reader.usage(METER, tenants=[f"t{n}"], start=0, end=2**55) for n in (0, 1, 0)]
        next(streams.pop())
        pairs = list(zip(*streams, strict=True))

    assert {(mine.tenant, other.tenant) for mine, other in pairs} == {("t0", "t1")}
    assert len(pairs) == 2_500


def test_what_text_cannot_hold_is_nobody(store: Store, postgres_address: PostgresAddress) -> None:
    """Names with a NUL are asked for like any other name that is not there."""
    commit(
        store,
        store.claim(0, "w"),
        Changes(sessions={session_key(name): (SESSIONS[1], None) for name in ("a", "b")}),
    )
    with closing(PostgresReader(postgres_address)) as reader:
        assert list(reader.usage(METER, tenants=["\0", "acme\0"], start=0, end=2**55)) == []
        assert list(reader.adjustments(METER, tenants=["\0"], start=0, end=2**55)) == []
        assert (
            list(reader.items(CATALOGUE.meter("users"), tenants=["\0"], start=0, end=2**55)) == []
        )
        assert reader.keys_of("\0", 0, 2**55, 9) == (0, [])
        assert reader.producers("\0") == []
        assert reader.dead_letters(DeadLettersWanted("\0", tenant="\0", type="\0")) == []
        assert reader.dead_letters(DeadLettersWanted(reason="\0")) == []
        assert reader.sessions(tenants=["\0"]) == reader.sessions(type="\0") == []
        behind = reader.sessions(after="acme\x1frun\x1fa\0")
        assert [each.session for each in behind] == ["b"]
        assert len(reader.sessions(after="acm\0")) == 2
