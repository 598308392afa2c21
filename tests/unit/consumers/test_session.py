"""A membership of the group, without a broker: what its callbacks do when something is away."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from structlog import get_logger

from meterstream_aggregator.catalogue import Catalogue
from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.store.port import TopicBinding
from meterstream_consumers import session as module
from meterstream_consumers.health import Health
from meterstream_consumers.metrics import WorkerMetrics
from meterstream_consumers.records import RawBatch
from meterstream_consumers.session import Phase, Session
from meterstream_consumers.settings import WorkerSettings
from meterstream_consumers.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

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


class _Source:
    """A group that hands nothing out by itself."""

    def __init__(self, *_: object, **__: object) -> None:
        self.assigned: set[int] = set()
        self.held: set[int] = set()
        self.joined = True

    def collect(self) -> RawBatch:
        """Nothing."""
        return RawBatch()

    def hold(self, partitions: set[int]) -> None:
        """Not read any further."""
        self.held |= partitions


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
