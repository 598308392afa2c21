"""The cache in front of a directory: what it holds, for how long, and what it does in outages."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest

from meterstream_services.accounts.cached import CachedDirectory, Caching
from meterstream_services.accounts.errors import AccountsUnavailable, InvalidChanges
from meterstream_services.accounts.history import History
from meterstream_services.accounts.memory import MemoryDirectory
from meterstream_services.accounts.model import Assign, SetAccount, SetExternalId

CACHING = Caching(
    fresh_seconds=60, negative_seconds=10, stale_seconds=3600, retry_seconds=5, wait_seconds=5
)


class Source(MemoryDirectory):
    """A directory that counts its questions, and can be away or slow."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[str]] = []
        self.away = False
        self.gate: threading.Event | None = None
        self.reached = threading.Event()
        self.apply([SetAccount("a", name="A"), SetAccount("b"), Assign("t", "a", None)])

    def histories(self, tenants: Sequence[str]) -> dict[str, History]:
        """As told."""
        self.asked.append(list(tenants))
        if self.away:
            raise AccountsUnavailable("accounts: away")
        found = super().histories(tenants)
        self.reached.set()
        if self.gate is not None:
            self.gate.wait(5)
        return found


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def source() -> Source:
    """A directory of one tenant."""
    return Source()


@pytest.fixture
def clock() -> Clock:
    """A clock that stands."""
    return Clock()


@pytest.fixture
def cached(source: Source, clock: Clock) -> Iterator[CachedDirectory]:
    """A cache in front of the directory."""
    found = CachedDirectory(source, CACHING, clock=clock)
    yield found
    found.close()


def test_what_is_fresh_is_not_asked_again(
    cached: CachedDirectory, source: Source, clock: Clock
) -> None:
    """One question serves until it is old, for what is there and, shorter, for what is not."""
    for passed in (0, 9, 11, 59, 61):
        clock.now = 1000 + passed
        assert cached.histories(["t"]) == {"t": ((0, "a"),)}
        assert cached.histories(["nobody"]) == {}

    assert source.asked.count(["t"]) == 2
    assert source.asked.count(["nobody"]) == 3
    assert (cached.counts.hits, cached.counts.misses, cached.counts.calls) == (5, 5, 5)


def test_a_batch_asks_for_what_is_missing_only(cached: CachedDirectory, source: Source) -> None:
    """Tenants that are held are left out of the question, and nobody is asked for twice."""
    cached.histories(["t"])

    found = cached.histories(["u", "t", "v", "u"])

    assert found == {"t": ((0, "a"),)}
    assert source.asked == [["t"], ["u", "v"]]


def test_an_outage_is_bridged(cached: CachedDirectory, source: Source, clock: Clock) -> None:
    """What was known answers while the directory is away, for so long and no longer."""
    cached.histories(["t"])
    source.away = True

    clock.now += 61
    assert cached.histories(["t"]) == {"t": ((0, "a"),)}
    assert (cached.counts.stale, cached.counts.errors) == (1, 1)
    clock.now += 3600
    with pytest.raises(AccountsUnavailable, match="away"):
        cached.histories(["t"])
    with pytest.raises(AccountsUnavailable, match="away"):
        cached.histories(["unknown"])

    source.away = False
    clock.now += 5
    assert cached.histories(["t", "unknown"]) == {"t": ((0, "a"),)}


def test_a_directory_that_failed_is_left_in_peace(
    cached: CachedDirectory, source: Source, clock: Clock
) -> None:
    """Within some seconds of a failure nobody asks again: answers come at once, or fail at once."""
    cached.histories(["t"])
    source.away = True
    clock.now += 61

    for _ in range(10):
        assert cached.histories(["t"])
        with pytest.raises(AccountsUnavailable):
            cached.histories(["u"])
    assert len(source.asked) == 2
    clock.now += 5
    assert cached.histories(["t"])

    assert len(source.asked) == 3


def test_many_threads_make_one_call(cached: CachedDirectory, source: Source) -> None:
    """Who asks for what is being asked for waits for that answer, and gets it."""
    source.gate = threading.Event()
    found: list[dict[str, History]] = []
    threads = [
        threading.Thread(target=lambda: found.append(cached.histories(["t"]))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    source.reached.wait(5)

    source.gate.set()
    for thread in threads:
        thread.join(5)

    assert found == [{"t": ((0, "a"),)}] * 20
    assert source.asked == [["t"]]


def test_a_change_is_in_every_answer_after_it(cached: CachedDirectory, source: Source) -> None:
    """An answer that was under way while a change was made is neither joined nor kept."""
    source.gate = threading.Event()
    early = threading.Thread(target=cached.histories, args=(["t"],))
    early.start()
    source.reached.wait(5)

    cached.apply([Assign("t", "b", 50)])
    source.gate.set()
    after = cached.histories(["t"])
    early.join(5)

    assert after == {"t": ((0, "a"), (50, "b"))}
    assert cached.histories(["t"]) == after
    assert len(source.asked) == 2


def test_what_a_change_made_old_still_bridges_an_outage(
    cached: CachedDirectory, source: Source
) -> None:
    """After a change, or one that failed, nothing is forgotten, only asked for again."""
    cached.histories(["t"])
    with suppress(InvalidChanges):
        cached.apply([Assign("t", "ghost", 5)])
    source.away = True

    assert cached.histories(["t"]) == {"t": ((0, "a"),)}
    assert len(source.asked) == 2


def test_everything_that_is_looked_up_is_held(cached: CachedDirectory, source: Source) -> None:
    """Accounts, their tenants and external ids are asked for once each; lists always."""
    source.apply([SetExternalId("crm", "1", "a")])
    for _ in range(2):
        account = cached.account("a")
        assert account is not None
        assert account.name == "A"
        assert cached.account("zz") is None
        assert cached.tenants_of("a") == ["t"]
        assert cached.external_ids("a") == [("crm", "1")]
        assert cached.account_of("crm", "1") == "a"
        assert [each.id for each in cached.accounts()] == ["a", "b"]
        assert cached.changes(after=0).last == 4

    assert (cached.counts.hits, cached.counts.calls) == (5, 5)


def test_what_is_held_has_a_bound(source: Source, clock: Clock) -> None:
    """Beyond its bound the cache lets go of what was not asked for longest."""
    cached = CachedDirectory(source, Caching(held_max=2), clock=clock)
    for tenant in ("t", "u", "t", "v", "t", "u"):
        cached.histories([tenant])

    assert source.asked == [["t"], ["u"], ["v"], ["u"]]


def test_a_mistake_is_no_outage(cached: CachedDirectory, source: Source) -> None:
    """An error that is none of the directory's reaches whoever asked, and is not bridged."""
    cached.histories(["t"])

    with pytest.raises(TypeError):
        cached.histories([["no tenant"]])  # type: ignore[list-item]  # that is the mistake

    assert cached.histories(["t"]) == {"t": ((0, "a"),)}
    assert cached.counts.errors == 0


def test_nothing_fresh_still_bridges(source: Source, clock: Clock) -> None:
    """With nothing held as fresh each question is asked, and an outage is bridged all the same."""
    cached = CachedDirectory(source, Caching(fresh_seconds=0), clock=clock)
    cached.histories(["t"])
    source.apply([Assign("t", "b", 50)])

    assert cached.histories(["t"]) == {"t": ((0, "a"), (50, "b"))}
    source.away = True
    assert cached.histories(["t"]) == {"t": ((0, "a"), (50, "b"))}
