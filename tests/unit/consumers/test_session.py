"""A membership of the group, without a broker: what its callbacks do when something is away."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from confluent_kafka import KafkaError
from structlog import get_logger

from meterstream_aggregator.catalogue import Catalogue
from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.store.port import TopicBinding
from meterstream_consumers import session as module
from meterstream_consumers.errors import GroupSilent, LogUnsure, OtherStore
from meterstream_consumers.folding import Progress
from meterstream_consumers.health import Health
from meterstream_consumers.memory import freeze
from meterstream_consumers.metrics import WorkerMetrics
from meterstream_consumers.records import RawBatch
from meterstream_consumers.session import Phase, Session
from meterstream_consumers.settings import WorkerSettings
from meterstream_consumers.source import Source
from meterstream_consumers.store_names import GroupOffset, StoreName
from meterstream_consumers.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Message

    from meterstream_consumers.confirming import Confirmation
    from meterstream_consumers.work import Work

SETTINGS = WorkerSettings(bootstrap_servers="", catalogue=Path("m"), store=Path("s"))


class _Away:
    """Work over a store that does not answer any more."""

    store_name = None

    def __init__(self) -> None:
        self.asked: list[int] = []

    def take(self, partition: int, _lowest: Callable[[], int]) -> int:
        """Wait for the store, in vain."""
        self.asked.append(partition)
        raise StoreUnavailable("the store is locked")

    def close(self) -> None:
        """Nothing is held."""


class _Made:
    """Work over a store that was made just now, in which nothing was folded yet.

    It refers to itself, as real work does through its callbacks.
    """

    def __init__(self, identity: str) -> None:
        self.store_name = StoreName(identity, "host", "where")
        self.owned = {0: Progress(1, None, 0, 0)}
        self.own = self

    def take(self, _partition: int, _lowest: Callable[[], int]) -> int:
        """It begins at the beginning."""
        return 0

    def let_go(self, _partitions: list[int]) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is held."""


class _Confirmed:
    """The topic is the one it was."""

    def ask(self) -> None:
        """Ask."""

    check = ask

    def silent_seconds(self) -> float:
        """It answers."""
        return 0.0


class _Source:
    """A group that hands nothing out by itself, and has counted 100 into the store ``old``."""

    def __init__(self, *_: object, **__: object) -> None:
        self.assigned: set[int] = set()
        self.held: set[int] = set()
        self.joined = True
        self.left: list[str] = []

    def close(self) -> None:
        """Leave, and wait for it."""
        self.left.append("closed")

    def abandon(self) -> None:
        """Leave, and wait for nobody."""
        self.left.append("abandoned")

    def collect(self) -> RawBatch:
        """Nothing."""
        return RawBatch()

    def hold(self, partitions: set[int]) -> None:
        """Not read any further."""
        self.held |= partitions

    def wait(self, _seconds: float) -> None:
        """Nothing comes."""

    def read_from(self, _positions: dict[int, int]) -> None:
        """Read on."""

    def bounds(self, _partition: int) -> tuple[int, int]:
        """All of the log is there."""
        return 0, 100

    def group_offsets(self, _partitions: object) -> dict[int, GroupOffset]:
        """As the first store was told of."""
        return {0: GroupOffset(100, StoreName("old", "host", "where"))}


def test_a_store_that_is_away_is_waited_for_once_however_many_partitions_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each wait may take a minute; the group gives up a member whose callback takes five."""
    monkeypatch.setattr(module, "Source", _Source)
    work = _Away()
    session = Session(
        SETTINGS,
        lambda: cast("Work", work),
        8,
        confirmation=cast("Confirmation", None),
        health=Health("begins"),
        metrics=WorkerMetrics(),
        log=get_logger(),
    )

    assert [session.take(partition, lambda: 0) for partition in range(8)] == [None] * 8
    assert work.asked == [0]

    session.step()
    assert session.phase is Phase.WAITING


def test_a_store_that_was_replaced_while_it_was_away_is_another_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An empty one under the same address: it would hold what comes, and the old one the rest."""
    session = _held(monkeypatch, [_Made("old"), _Made("new")])

    with pytest.raises(OtherStore, match="identity new"):
        session.step()


def test_work_that_was_given_up_can_be_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that it remembered: a store that comes and goes must not cost memory."""
    given_up = _Made("old")
    told = weakref.ref(given_up)
    session = _held(monkeypatch, [given_up, _Made("old")])
    del given_up
    try:
        session.step()
        assert session.phase is Phase.WORKING
        assert told() is None
    finally:
        gc.unfreeze()


def test_a_group_that_does_not_answer_is_asked_by_a_new_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three times in a row nothing: the old client may have lost its coordinator for good."""
    session = _held(monkeypatch, [_Made("old") for _ in range(7)])
    answers = [False, False, True, False, False, False]
    monkeypatch.setattr(module, "_FRESH_SECONDS", 0.0)

    def asked(_partitions: object) -> dict[int, GroupOffset]:
        if answers.pop(0):
            return {}
        raise LogUnsure("nobody answers")

    cast("Any", session._source).group_offsets = asked
    for phase in (Phase.WAITING, Phase.WAITING, Phase.WORKING):
        session.step()
        assert session.phase is phase
    session._hold(LogUnsure("away again"))
    for phase in (Phase.WAITING, Phase.WAITING):
        session.step()
        assert session.phase is phase
    with pytest.raises(GroupSilent, match="a new client asks"):
        session.step()
    session.close()
    assert cast("Any", session._source).left == ["abandoned"]
    gc.unfreeze()


def test_a_worker_begins_another_session_when_its_group_is_silent() -> None:
    """It ends neither the process nor, with it, the counting."""
    worker = Worker(SETTINGS, TopicBinding("t", "i", 1), Catalogue(0, ()))

    def begin(_confirmation: object) -> Session:
        raise GroupSilent("nobody answers")

    cast("Any", worker)._begin_session = begin

    assert worker._session(cast("Confirmation", _Confirmed())) == []


def _held(monkeypatch: pytest.MonkeyPatch, works: list[_Made]) -> Session:
    """A session that owned a partition until its store went away."""
    monkeypatch.setattr(module, "Source", _Source)
    monkeypatch.setattr(module, "BACKOFF_SECONDS", (0.0,))
    session = Session(
        SETTINGS,
        lambda: cast("Work", works.pop(0)),
        1,
        confirmation=cast("Confirmation", _Confirmed()),
        health=Health("begins"),
        metrics=WorkerMetrics(),
        log=get_logger(),
    )
    session._source.assigned.add(0)
    freeze()
    session._hold(StoreUnavailable("it is away"))
    assert session.phase is Phase.WAITING
    return session


def test_a_gap_of_a_partition_that_has_gone_is_not_ours() -> None:
    """What the client still hands out of it must not stop the worker that gave it away."""
    source = Source.__new__(Source)
    source.assigned, source.held, source.out_of_range = {1}, set(), set()
    source._settings = SETTINGS
    problem = SimpleNamespace(code=lambda: KafkaError._AUTO_OFFSET_RESET, str=lambda: "no offset")
    source._judge(
        cast("KafkaError", problem), cast("Message", SimpleNamespace(partition=lambda: 3))
    )

    assert source.out_of_range == set()


def test_where_a_batch_began_is_not_told_after_where_it_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The group's position would go back, when a partition comes with its first records."""
    session = _held(monkeypatch, [_Made("old"), _Made("old")])
    told: list[dict[int, int]] = []
    source, work = cast("Any", session._source), cast("Any", _Made("old"))
    source.committed, source.out_of_range = told.append, set()
    source.collect = lambda: [b"a record"]
    work.fold = lambda _: SimpleNamespace(positions={0: 200}, records=1)
    work.step, source.at_end, session._told_at = lambda _: None, None, float("inf")
    session._to_name = {0: 100, 1: 7}
    session._work_on(work)

    assert told == [{0: 200}, {1: 7}]


class _Ended:
    """A session that refers to itself, as real ones do through their callbacks."""

    def __init__(self) -> None:
        self.own = self

    def drain(self) -> None:
        """Nothing waits."""


def test_a_session_that_has_ended_can_be_forgotten() -> None:
    """What is frozen while a session works is not frozen for ever: the next one lets it go."""
    worker = Worker(SETTINGS, TopicBinding("t", "i", 1), Catalogue(0, ()))
    worker.stop()
    thresholds = gc.get_threshold()
    try:
        first = _Ended()
        told = weakref.ref(first)
        worker._loop(cast("Session", first))
        del first
        worker._loop(cast("Session", _Ended()))
        assert told() is None
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
