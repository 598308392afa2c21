"""A commit on PostgreSQL when something breaks: done once or not at all, and never in doubt."""

from __future__ import annotations

import random
import threading
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.errors import Fenced, StoreUnavailable
from meterstream_aggregator.store.opening import open_reader, open_store
from meterstream_aggregator.store.postgres import writing
from meterstream_aggregator.store.postgres.connection import connect
from meterstream_aggregator.store.postgres.store import PostgresStore
from tests.contract.stores import BINDING, CATALOGUE, WINDOW, added, row, step
from tests.databases import rows
from tests.postgres.cutting import Cut, cutter
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meterstream_aggregator.store.address import PostgresAddress
    from meterstream_aggregator.store.port import Advance, Store
    from meterstream_aggregator.store.postgres.connection import Connection

ONE = added({row(): (1, 5)})


def counted(address: PostgresAddress) -> int:
    """How many events the store has."""
    with closing(open_reader(address)) as reader:
        found = reader.usage(CATALOGUE.meter("credit"), tenants=None, start=0, end=2**55)
        return sum(each.events for each in found)


def bound(address: PostgresAddress) -> Store:
    """A store of the tests' catalogue."""
    store = open_store(address)
    store.bind(BINDING, CATALOGUE)
    return store


def test_a_lost_answer_to_commit_is_settled_by_the_position(
    postgres_address: PostgresAddress,
) -> None:
    """The server has committed and nobody heard of it: the commit returns, and counts once."""
    with cutter(postgres_address) as (cut, through), closing(bound(through)) as store:
        claim = store.claim(0, "w")
        cut.arm("after")
        store.commit([step(claim, 1, counted=1)], ONE)

        assert cut.cuts == 1
        store.commit([step(claim._replace(next_offset=1), 2, counted=1)], ONE)
    assert counted(postgres_address) == 2
    assert rows(postgres_address, "SELECT next_offset, counted FROM position") == [(2, 2)]


def test_a_commit_that_never_arrived_changed_nothing(postgres_address: PostgresAddress) -> None:
    """The position is where it was: who claims anew folds the same records once."""
    with cutter(postgres_address) as (cut, through), closing(bound(through)) as store:
        claim = store.claim(0, "w")
        cut.arm("before")
        with pytest.raises(StoreUnavailable, match="not carried out"):
            store.commit([step(claim, 1, counted=1)], ONE)

        assert counted(postgres_address) == 0
        claim = store.claim(0, "w")
        store.commit([step(claim, 1, counted=1)], ONE)
    assert counted(postgres_address) == 1


def test_a_commit_still_under_way_is_waited_for(postgres_address: PostgresAddress) -> None:
    """The lost transaction holds its rows until its COMMIT arrives: only then is it judged."""
    with cutter(postgres_address) as (cut, through), closing(bound(through)) as store:
        claim = store.claim(0, "w")
        cut.arm("held")
        done = threading.Event()

        def commit() -> None:
            store.commit([step(claim, 1, counted=1)], ONE)
            done.set()

        thread = threading.Thread(target=commit, daemon=True)
        thread.start()
        eventually(lambda: _waits_for_a_lock(postgres_address))
        assert not done.is_set()
        cut.release.set()
        thread.join(60)

        assert done.is_set()
    assert counted(postgres_address) == 1


def _waits_for_a_lock(address: PostgresAddress) -> bool:
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ %s"
    with connect(address, "migrate") as connection:
        found = connection.execute(waits, ("FOR UPDATE",)).fetchone()
    return found is not None and found[0] > 0


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_cut_each_record_counts_once(
    postgres_address: PostgresAddress, seed: int
) -> None:
    """Thirty commits, most of them cut somewhere: none lost, none doubled."""
    chosen = random.Random(seed)
    with cutter(postgres_address) as (cut, through), closing(bound(through)) as store:
        claim = store.claim(0, "w")
        while (claim.next_offset or 0) < 30:
            upto = (claim.next_offset or 0) + 1
            if chosen.random() < 0.7:
                kinds: tuple[Cut, ...] = ("before", "after")
                cut.arm(chosen.choice(kinds))
            try:
                store.commit([step(claim, upto, counted=1)], ONE)
                claim = claim._replace(next_offset=upto)
            except StoreUnavailable:
                claim = store.claim(0, "w")
        assert cut.cuts > 5
    assert counted(postgres_address) == 30


def test_a_session_that_was_ended_is_made_again(postgres_address: PostgresAddress) -> None:
    """An administrator ends all sessions: the next call says so, the one after it works."""
    with closing(bound(postgres_address)) as store:
        claim = store.claim(0, "w")
        assert isinstance(store, PostgresStore)
        with store._link.session() as own, connect(postgres_address, "migrate") as other:
            other.execute("SELECT pg_terminate_backend(%s)", (own.info.backend_pid,))
        with pytest.raises(StoreUnavailable, match=r"stop this connection|cannot be reached"):
            store.commit([step(claim, 1, counted=1)], ONE)

        store.commit([step(claim, 1, counted=1)], ONE)
    assert counted(postgres_address) == 1


def test_an_older_claim_is_fenced_even_while_it_writes(postgres_address: PostgresAddress) -> None:
    """A zombie that stopped inside its transaction holds the row; the claim waits, then fences."""
    with closing(bound(postgres_address)) as zombie, closing(bound(postgres_address)) as heir:
        claim = zombie.claim(0, "zombie")
        zombie.commit([step(claim, 1, counted=1)], ONE)
        newer = heir.claim(0, "heir")
        with pytest.raises(Fenced):
            zombie.commit([step(claim._replace(next_offset=1), 2, counted=1)], ONE)
        heir.commit([step(newer, 2, counted=1)], ONE)
    assert counted(postgres_address) == 2


def test_two_workers_share_one_total(postgres_address: PostgresAddress) -> None:
    """Partitions are committed side by side, in any order of locks, and nothing is lost."""
    stores = [bound(postgres_address) for _ in range(2)]
    problems: list[BaseException] = []

    def work(store: Store, partitions: list[int]) -> None:
        try:
            claims = {partition: store.claim(partition, "w") for partition in partitions}
            for upto in range(1, 16):
                advances = [
                    step(claim._replace(next_offset=upto - 1 or None), upto)
                    for claim in claims.values()
                ]
                amounts = {row(WINDOW, partition=p): (1, 1) for p in partitions}
                store.commit(advances, added(amounts))
        except BaseException as problem:  # noqa: BLE001 - told by the test's own thread
            problems.append(problem)

    threads = [
        threading.Thread(target=work, args=(store, partitions))
        for store, partitions in zip(stores, ([2, 0], [3, 1]), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()

    assert not problems
    assert counted(postgres_address) == 60


def test_what_the_database_is_set_to_does_not_change_a_commit(
    postgres_address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stricter transactions as the default of a database would fail where workers share totals."""
    strict = "options=-c%20default_transaction_isolation%3Dserializable"
    joint = "&" if "?" in postgres_address.url else "?"
    address = postgres_address._replace(url=f"{postgres_address.url}{joint}{strict}")
    levels: list[object] = []
    advance = writing.advance_positions

    def noted(connection: Connection, advances: Sequence[Advance], version: str) -> None:
        levels.extend(connection.execute("SHOW transaction_isolation").fetchall())
        levels.extend(connection.execute("SHOW default_transaction_isolation").fetchall())
        advance(connection, advances, version)

    monkeypatch.setattr(writing, "advance_positions", noted)
    with closing(bound(address)) as store:
        store.commit([step(store.claim(0, "w"), 1, counted=1)], ONE)
    assert levels == [("read committed",), ("serializable",)]


def test_a_lost_commit_is_asked_after_for_a_minute_at_most(
    postgres_address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where each answer waits for a lock in vain, the worker's loop must still come round."""
    clock = [0.0]
    slow = SimpleNamespace(monotonic=lambda: clock[0], sleep=lambda _: None)
    monkeypatch.setattr("meterstream_aggregator.store.postgres.store.time", slow)

    def locked(*_: object) -> None:
        clock[0] += 35
        raise StoreUnavailable("a lock was not free in time")

    with cutter(postgres_address) as (cut, through), closing(bound(through)) as store:
        claim = store.claim(0, "w")
        monkeypatch.setattr(writing, "positions", locked)
        cut.arm("before")
        with pytest.raises(StoreUnavailable, match="nobody answers"):
            store.commit([step(claim, 1, counted=1)], ONE)
    assert clock[0] == 70
