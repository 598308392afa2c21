"""What ports keep and wait for: metrics of others, a book that is away, alerts in one order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from unimeter import AsyncClient, BackpressureError, Event

from meterstream_services.clients.book import BookUnavailable, MemoryBook
from meterstream_services.clients.unimeter import folded
from meterstream_services.clients.unimeter.alert_log import AlertLog, Reached
from meterstream_services.clients.unimeter.folded import Folded, Positions
from meterstream_services.clients.unimeter.metrics import FRESH_SECONDS, Metrics
from meterstream_services.clients.unimeter.wire_metrics import MetricForm
from meterstream_services.gateway.port import Fate, Offer, Patience, Ruling
from tests.unit.services.unimeter.world import World

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Away(MemoryBook):
    """A book that can be away."""

    away = False

    def all(self, *arguments: Any, **named: Any) -> list[tuple[str, str, dict[str, Any]]]:  # noqa: ANN401 - the book's own
        """See `Book`."""
        if self.away:
            raise BookUnavailable("away")
        return super().all(*arguments, **named)


def test_metrics_of_another_process_are_known_within_seconds() -> None:
    """What is known is the same object until something changes; a book that is away does not."""
    now, book = [0.0], Away()
    mine, other = (Metrics(book, "*", clock=lambda: now[0]) for _ in range(2))
    before = mine.read()
    other.put(MetricForm("m", 1))
    assert mine.read() is before

    now[0] += FRESH_SECONDS
    assert mine.present is None
    after = mine.read()
    assert list(after) == ["m"]

    now[0] += FRESH_SECONDS
    book.away = True
    assert mine.read() is after
    with pytest.raises(BookUnavailable):
        Metrics(book, "*").read()


def test_a_definitions_file_that_cannot_be_written_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The metric is kept all the same."""
    metrics = Metrics(MemoryBook(), "*", definitions=tmp_path / "nowhere" / "unimeter.json")

    metrics.put(MetricForm("m", 1))

    assert list(metrics.read()) == ["m"]
    assert "metrics were not written" in caplog.text


def reached(account: int, at: int = 5, *, threshold: str = "soft", start: int = 0) -> Reached:
    """An alert of a metric."""
    return Reached(account, "calls", threshold, 10, start, 12, at)


def test_alerts_are_dense_and_once_whoever_appends() -> None:
    """Two processes that append in turns: every alert once, under the same offset for both."""
    book = MemoryBook()
    one, other = AlertLog(book, "*"), AlertLog(book, "*")

    one.append([reached(1), reached(2)])
    other.append([reached(2), reached(3), reached(1)])
    one.append([reached(4, start=1), reached(1, threshold="hard")])
    other.read()

    rows = one.since(0, limit=100)
    assert [row.offset for row in rows] == [1, 2, 3, 4, 5]
    assert other.since(0, limit=100) == rows == read_again(book).since(1, limit=100)
    assert [row.threshold for row in one.since(2, account=1, limit=9)] == ["hard"]
    assert len(one.since(0, limit=2)) == 2
    assert AlertLog(book, "tenant:acme").since(0, limit=9) == []


def read_again(book: MemoryBook) -> AlertLog:
    """As a process that starts again reads it."""
    log = AlertLog(book, "*")
    log.read()
    return log


def test_a_question_waits_until_its_events_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """For its own tenant only, by one look for all who wait, and not for ever."""
    monkeypatch.setattr(folded, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(folded, "FOLD_SECONDS", 0.3)
    looks = [0]

    async def look() -> Positions:
        looks[0] += 1
        return {0: looks[0]}

    async def program() -> None:
        waiting = Folded(look)
        assert await waiting.wait("nobody")
        assert looks[0] == 0
        waiting.last["a"] = Fate(Ruling.ACCEPTED, 0, 3)
        assert await asyncio.gather(*[waiting.wait("a") for _ in range(20)]) == [True] * 20
        assert looks[0] < 20
        waiting.last["b"] = Fate(Ruling.ACCEPTED, 7, 3)
        assert not await waiting.wait("b")
        assert await waiting.wait("b"), "the next question does not wait for the same again"
        await waiting.close()

    asyncio.run(program())


def test_a_frame_without_times_that_was_kept_in_part_counts_once_when_it_comes_again() -> None:
    """What was kept of it is not offered once more; the same bytes afterwards are new events."""
    world = World()
    take = world.door.take

    async def partly(offers: Sequence[Offer], patience: Patience = Patience.LOG) -> list[Fate]:
        kept = await take(offers[:3], patience)
        return kept + [Fate(Ruling.UNAVAILABLE) for _ in offers[3:]]

    async def program() -> None:
        events = [Event(42, "calls", value=value) for value in range(5)]
        async with world.serving() as [port], AsyncClient([port.address]) as client:
            world.door.take = partly  # type: ignore[method-assign]  # a door that is nearly full
            with pytest.raises(BackpressureError):
                await client.ingest(events)
            world.door.take = take  # type: ignore[method-assign]  # as above
            assert len(world.door.taken) == 3
            assert (await client.ingest(events)).n_stored == 5
            assert len(world.door.taken) == 5
            await client.ingest(events)
            assert len(world.door.taken) == 10

    asyncio.run(program())
