"""The door while the log is away, and while the disk is: what is promised, and what is not."""

from __future__ import annotations

import asyncio
import errno
import re
from typing import TYPE_CHECKING

import pytest

from meterstream.memory import MemoryTransport
from meterstream.spool import Spool
from meterstream.transport import Failure
from meterstream_services.gateway import offering
from meterstream_services.gateway.port import Patience, Ruling
from tests.unit.producers.reading import arrived, numbers
from tests.unit.services.gateway.doors import LONG, SHORT, opened, run, until, usage
from tests.unit.services.gateway.test_door import rulings

if TYPE_CHECKING:
    from pathlib import Path

    from meterstream_services.gateway.port import Fate
    from tests.unit.services.gateway.doors import Place

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.fixture
def away() -> MemoryTransport:
    """A log that cannot be reached."""
    transport = MemoryTransport()
    transport.available = False
    return transport


def on_disk(place: Place) -> int:
    """Events in the spool."""
    return place.meter.status().spooled


def test_without_the_log_nothing_is_promised(tmp_path: Path, away: MemoryTransport) -> None:
    """After the patience the answer is unavailable, nobody waits, and the event is counted once."""

    async def check() -> None:
        async with opened(away, tmp_path, patience_seconds=SHORT) as place:
            offers = [usage(1, key="k"), usage(2), usage(1, key="k"), usage(3, type="")]
            fates = await place.door.take(offers)
            assert rulings(fates) == ["unavailable", "unavailable", "unavailable", "refused"]
            assert place.door.waiting == 0
            assert rulings(await place.door.take(offers[:1])) == ["unavailable"]
            assert place.door.trouble() is None
            assert place.door.retry_after_seconds() >= 1

            away.available = True
            await until(lambda: len(arrived(away)) == 2)
            (after,) = await place.door.take(offers[:1])
            assert after.ruling in {Ruling.ACCEPTED, Ruling.DUPLICATE}
            assert place.value("events_total", ruling="unavailable") == 4

    run(check())


def test_that_the_log_is_away_and_back_is_said_once(
    tmp_path: Path, away: MemoryTransport, caplog: pytest.LogCaptureFixture
) -> None:
    """One line when callers wait in vain, however many do, and one when the log answers again."""

    def said() -> list[str]:
        lines = [each.getMessage() for each in caplog.records if each.name == "meterstream.gateway"]
        return [line.partition(":")[0] for line in lines]

    async def check() -> None:
        async with opened(away, tmp_path, patience_seconds=SHORT) as place:
            await asyncio.gather(*(place.door.take([usage(n)]) for n in range(3)))
            (first,) = said()
            assert re.fullmatch(
                r"the log is away, and of [1-3] events that wait [0-3] are in the spool", first
            )
            away.available = True
            await until(lambda: len(arrived(away)) == 3)
            await until(lambda: len(said()) == 2)
            assert said()[1] == "the log is back"

    with caplog.at_level("WARNING", logger="meterstream.gateway"):
        run(check())


def test_a_late_outcome_settles_the_key(tmp_path: Path, away: MemoryTransport) -> None:
    """What arrived after its caller had given up is a duplicate to the next, at its true place."""

    async def check() -> None:
        async with opened(away, tmp_path, patience_seconds=SHORT) as place:
            await place.door.take([usage(1, key="k")])
            away.available = True
            await until(lambda: place.meter.status().acknowledged == 1)

            (again,) = await place.door.take([usage(1, key="k")])
            assert (again.ruling, again.offset) == (Ruling.DUPLICATE, 0)
            assert len(arrived(away)) == 1

    run(check())


@pytest.mark.parametrize("patience", [Patience.SPOOL, Patience.LOG_OR_SPOOL])
def test_the_disk_is_word_enough_for_those_who_ask(
    tmp_path: Path, away: MemoryTransport, patience: Patience
) -> None:
    """Spooled is said when the events are on disk, and they arrive once, later."""

    async def check() -> None:
        async with opened(away, tmp_path, patience_seconds=SHORT) as place:
            answers = await asyncio.gather(
                *(place.door.take([usage(n), usage(n, key=f"{n}")], patience) for n in range(50))
            )
            assert {fate.ruling for fates in answers for fate in fates} == {Ruling.SPOOLED}
            assert on_disk(place) == 100
            assert place.door.waiting == 0
            assert place.value("spool_events") == 100
            (repeat,) = await place.door.take([usage(7, key="7")], patience)
            assert repeat.ruling is Ruling.SPOOLED

            away.available = True
            await until(lambda: on_disk(place) == 0)
            assert len(arrived(away)) == 100
            for sequences in numbers(arrived(away)).values():
                assert sequences == list(range(1, len(sequences) + 1))

    run(check())


@pytest.mark.parametrize("patience", [Patience.SPOOL, Patience.LOG_OR_SPOOL])
def test_spooled_events_outlive_the_door(
    tmp_path: Path, away: MemoryTransport, patience: Patience
) -> None:
    """The next door on the directory sends what was only spooled, under its old numbers."""

    async def check() -> None:
        async with opened(away, tmp_path, patience_seconds=SHORT) as place:
            fates = await place.door.take([usage(n) for n in range(20)], patience)
            assert {fate.ruling for fate in fates} == {Ruling.SPOOLED}
            first = place.door.producer
        following = MemoryTransport()
        async with opened(following, tmp_path) as place:
            await until(lambda: len(arrived(following)) == 20)
            assert {event.producer for event in arrived(following)} == {first}
            assert rulings(await place.door.take([usage(1)])) == ["accepted"]
            await until(lambda: place.value("adopted_events") == 20)

    run(check())


def test_a_quick_log_wins_over_the_disk(tmp_path: Path) -> None:
    """Who may be told spooled hears the place in the log where that is known already."""

    async def check() -> None:
        transport = MemoryTransport()
        async with opened(transport, tmp_path) as place:
            fates = await place.door.take([usage(1)], Patience.LOG_OR_SPOOL)
            assert rulings(fates) == ["accepted"]

    run(check())


@pytest.mark.parametrize("patience", list(Patience))
def test_a_full_spool_is_never_a_success(
    tmp_path: Path, away: MemoryTransport, patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound all is unavailable, at once, and numbers are not spent on it."""
    monkeypatch.setattr("meterstream_services.gateway.door.DISK_SECONDS", SHORT)

    async def check() -> None:
        told: list[Fate] = []
        async with opened(away, tmp_path, patience_seconds=SHORT, spool_bytes_max=65_536) as place:
            while place.door.trouble() is None:
                told += await place.door.take(
                    [usage(n, subject="s" * 200) for n in range(50)], patience
                )
            said = sum(fate.ruling is Ruling.SPOOLED for fate in told)
            assert said <= on_disk(place)
            recorded = place.meter.status().recorded

            answers = await asyncio.wait_for(
                asyncio.gather(*(place.door.take([usage(n)], patience) for n in range(20))), LONG
            )
            assert {fate.ruling for fates in answers for fate in fates} == {Ruling.UNAVAILABLE}
            assert place.meter.status().recorded == recorded
            assert "of 65536 bytes are used" in (place.door.trouble() or "")
            assert place.door.retry_after_seconds() >= 5

            away.available = True
            await until(lambda: place.door.trouble() is None)
            await until(lambda: len(arrived(away)) == recorded)
            await until(lambda: place.meter.status().buffered == 0)
            assert rulings(await place.door.take([usage(1)])) == ["accepted"]
            for sequences in numbers(arrived(away)).values():
                assert sequences == list(range(1, len(sequences) + 1))

    run(check())


def test_a_disk_that_fails_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the disk events still reach the log; spooled is said of none that is in memory."""

    def failing(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    async def check() -> None:
        transport = MemoryTransport()
        async with opened(transport, tmp_path, patience_seconds=SHORT) as place:
            assert rulings(await place.door.take([usage(0)])) == ["accepted"]
            monkeypatch.setattr(Spool, "append", failing)
            assert rulings(await place.door.take([usage(1)])) == ["accepted"]

            transport.available = False
            for patience in Patience:
                fates = await place.door.take([usage(2), usage(3)], patience)
                assert rulings(fates) == ["unavailable"] * 2
            (said,) = (each for each in caplog.messages if each.startswith("the log is away"))
            assert "and of 2 events that wait 0 are in the spool: " in said
            transport.available = True

    monkeypatch.setattr("meterstream_services.gateway.door.DISK_SECONDS", SHORT)
    run(check())


def test_what_was_spooled_and_then_refused_is_counted_as_lost(
    tmp_path: Path, away: MemoryTransport
) -> None:
    """A broker that refuses for good what was promised: the metric tells, and its key is free."""

    async def check() -> None:
        async with opened(away, tmp_path) as place:
            fates = await place.door.take([usage(1, key="k"), usage(2)], Patience.SPOOL)
            assert rulings(fates) == ["spooled"] * 2
            away.misfortune = lambda _: Failure("refused here", permanent=True)
            away.available = True
            await until(lambda: place.value("lost_events_total") == 2)

            away.misfortune = None
            assert rulings(await place.door.take([usage(1, key="k")])) == ["accepted"]

    run(check())


def test_too_many_that_wait_are_turned_away(
    tmp_path: Path, away: MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound on events that calls wait for: beyond it the answer comes at once."""
    monkeypatch.setattr(offering, "WAITING_EVENTS_MAX", 100)

    async def check() -> None:
        async with opened(away, tmp_path) as place:
            waits = asyncio.ensure_future(place.door.take([usage(n) for n in range(90)]))
            await until(lambda: place.door.waiting == 90)
            fates = await place.door.take([usage(n) for n in range(20)])
            assert rulings(fates) == ["unavailable"] * 20

            away.available = True
            assert rulings(await waits) == ["accepted"] * 90

    run(check())


def test_closing_waits_for_what_is_under_way(tmp_path: Path, away: MemoryTransport) -> None:
    """Calls are answered before the door is closed; after that nothing is taken."""

    async def check() -> None:
        async with opened(away, tmp_path) as place:
            waits = asyncio.ensure_future(place.door.take([usage(n) for n in range(10)]))
            await until(lambda: place.door.waiting == 10)
            closing = asyncio.ensure_future(place.door.close())
            await asyncio.sleep(0.05)
            assert rulings(await place.door.take([usage(1)])) == ["unavailable"]
            assert "stopping" in (place.door.trouble() or "")

            away.available = True
            await closing
            assert rulings(await waits) == ["accepted"] * 10

    run(check())
