"""Meters that keep their events on disk: what a process leaves behind, the next one sends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from meterstream import BufferFull, Meter, SettingsError
from meterstream.memory import MemoryTransport
from meterstream.spool import Spool
from meterstream.transport import Failure
from meterstream_schemas.placement import lane_of, partition_of
from tests.unit.producers.calling import record_many
from tests.unit.producers.reading import arrived, decoded, marks, numbers
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from meterstream import Outcome
    from tests.unit.producers.conftest import MakeMeter


@pytest.fixture
def away(transport: MemoryTransport) -> MemoryTransport:
    """A broker that cannot be reached."""
    transport.available = False
    return transport


def complete(transport: MemoryTransport, counts: dict[str, int]) -> bool:
    """Whether every producer's numbers are in the log without a hole, and as many as told."""
    found: dict[str, int] = {}
    for (producer, _), sequences in numbers(arrived(transport)).items():
        assert sorted(set(sequences)) == list(range(1, len(set(sequences)) + 1))
        found[producer] = found.get(producer, 0) + len(set(sequences))
    return found == counts


@pytest.mark.parametrize("durability", ["spool", "fsync"])
def test_what_arrives_leaves_the_disk(
    make_meter: MakeMeter, transport: MemoryTransport, tmp_path: Path, durability: str
) -> None:
    """All is delivered as from memory, and afterwards nothing is left in the directory."""
    meter = make_meter(durability=durability, spool=tmp_path)

    record_many(meter, 5_000)
    assert meter.flush(30)
    status = meter.status()
    assert (status.acknowledged, status.buffered, status.spooled) == (5_000, 0, 0)
    assert meter.close(30)

    assert complete(transport, {meter.producer: 5_000})
    assert [mark.attributes for mark in marks(transport)] == [{"closing": "true"}] * len(
        marks(transport)
    )
    assert list(tmp_path.iterdir()) == []


def test_a_broker_that_is_away_fills_the_disk_and_not_the_buffer(
    make_meter: MakeMeter, away: MemoryTransport, tmp_path: Path
) -> None:
    """More than the buffer and the flight together waits on disk, and arrives in the end."""
    meter = make_meter(durability="spool", spool=tmp_path, buffer_events_max=2_000)

    for _ in range(30):
        record_many(meter, 1_000)
        eventually(lambda: meter.status().buffered == meter.status().spooled)
    assert meter.status().spooled == 30_000
    assert meter.status().dropped == {}

    away.available = True
    assert meter.flush(60)
    assert complete(away, {meter.producer: 30_000})


def test_the_next_meter_sends_what_the_last_one_left(
    make_meter: MakeMeter, away: MemoryTransport, tmp_path: Path
) -> None:
    """Under the producer and the numbers of the last one, its closing marks included."""
    last = make_meter(durability="spool", spool=tmp_path)
    record_many(last, 3_000)
    assert not last.close(0.3)
    assert last.status().spooled == 3_000
    assert away.log == [[], [], [], []]

    told: list[Outcome] = []
    following = MemoryTransport()
    meter = make_meter(
        durability="spool", spool=tmp_path, transport=following, on_outcome=told.append
    )
    record_many(meter, 10)
    eventually(lambda: meter.status().adopted == 3_000)
    assert meter.close(30)

    assert complete(following, {last.producer: 3_000, meter.producer: 10})
    assert {mark.producer for mark in marks(following)} == {last.producer, meter.producer}
    assert len(told) == 3_010
    assert {outcome.producer for outcome in told} == {last.producer, meter.producer}
    assert meter.status().recorded == meter.status().acknowledged == 10
    assert list(tmp_path.iterdir()) == []


PROGRAM = """
import sys
from meterstream import Meter
from meterstream.memory import MemoryTransport
transport = MemoryTransport()
transport.available = False
meter = Meter(durability=sys.argv[1], spool=sys.argv[2], transport=transport)
for number in range(2_000):
    meter.record("api.request", tenant=f"tenant {number % 7}", key=f"key {number}")
meter.flush(timeout=30, to="disk") and print(meter.producer, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("durability", ["spool", "fsync"])
def test_a_killed_process_loses_nothing_that_was_on_disk(
    make_meter: MakeMeter, transport: MemoryTransport, tmp_path: Path, durability: str
) -> None:
    """Kill -9 after flush(to="disk"): the next process delivers everything, keys included."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, durability, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        producer = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL

    meter = make_meter(durability=durability, spool=tmp_path)
    meter.record("api.request", tenant="a")
    eventually(lambda: meter.status().adopted == 2_000)
    meter.close(30)

    assert complete(transport, {producer: 2_000, meter.producer: 1})
    keys = {event.key for event in arrived(transport) if event.producer == producer}
    assert keys == {f"key {number}" for number in range(2_000)}
    assert all(mark.producer == meter.producer for mark in marks(transport))


def test_a_spool_in_use_is_left_alone(make_meter: MakeMeter, tmp_path: Path) -> None:
    """Two meters on one directory: each sends its own."""
    first, second = MemoryTransport(), MemoryTransport()
    one = make_meter(durability="spool", spool=tmp_path, transport=first)
    two = make_meter(durability="spool", spool=tmp_path, transport=second)

    for meter in (one, two, one, two):
        record_many(meter, 500)
    assert one.close(30)
    assert two.close(30)

    assert complete(first, {one.producer: 1_000})
    assert complete(second, {two.producer: 1_000})


def test_the_disk_refuses_and_events_go_without_it(
    make_meter: MakeMeter,
    transport: MemoryTransport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While there is a connection nothing waits for the disk; the trouble is told."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Spool, "append", full)
    meter = make_meter(durability="spool", spool=tmp_path)

    record_many(meter, 3_000)

    assert meter.flush(30)
    assert complete(transport, {meter.producer: 3_000})
    assert "No space left on device" in str(meter.status().last_error)


def test_the_disk_refuses_while_the_broker_is_away(
    make_meter: MakeMeter,
    away: MemoryTransport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Events wait in memory, go to disk when it takes them again, and all arrive."""
    refuses = True
    append = Spool.append

    def unsure(spool: Spool, payloads: list[bytes]) -> int:
        if refuses:
            raise OSError(28, "No space left on device")
        return append(spool, payloads)

    monkeypatch.setattr(Spool, "append", unsure)
    meter = make_meter(durability="spool", spool=tmp_path)
    record_many(meter, 3_000)
    eventually(lambda: "No space left on device" in caplog.text)
    assert (meter.status().buffered, meter.status().spooled) == (3_000, 0)

    refuses = False
    eventually(lambda: meter.status().spooled == 3_000)
    away.available = True
    assert meter.flush(30)
    assert complete(away, {meter.producer: 3_000})


def test_beyond_its_bounds_the_policy_decides(
    make_meter: MakeMeter,
    away: MemoryTransport,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The disk holds what it may, the buffer holds what it may, the rest is refused and counted."""
    meter = make_meter(
        durability="spool",
        spool=tmp_path,
        spool_bytes_max=65_536,
        buffer_events_max=100,
        overflow="raise",
    )

    def fill() -> bool:
        try:
            record_many(meter, 50)
        except BufferFull:
            return True
        return False

    eventually(fill)
    status = meter.status()
    assert status.spooled > 100
    assert status.dropped["buffer_full"] >= 1
    assert "is full (" in caplog.text
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.seg*")) <= 65_536

    away.available = True
    assert meter.flush(30)
    assert meter.status().acknowledged == meter.status().recorded


def test_the_bound_is_that_of_the_whole_directory(
    make_meter: MakeMeter, away: MemoryTransport, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Processes that die one after the other do not fill the disk: what is left counts."""
    for _ in range(4):
        meter = make_meter(
            durability="spool", spool=tmp_path, spool_bytes_max=65_536, transport=away
        )
        record_many(meter, 400)
        meter.close(0.2)

    assert sum(path.stat().st_size for path in tmp_path.rglob("*.segment")) < 65_536 + 40_000
    assert "of others, of 65536" in caplog.text


@pytest.mark.parametrize("mishap", ["lost_report", "break", Failure("later", permanent=False)])
def test_misfortunes_lose_nothing(
    make_meter: MakeMeter, transport: MemoryTransport, tmp_path: Path, mishap: Failure | str
) -> None:
    """Whatever the broker does to some sendings, each number arrives."""
    every, count = (900 if mishap == "break" else 7), 0  # A broken client comes back slowly.

    def misfortune(_: bytes) -> Failure | str | None:
        nonlocal count
        count += 1
        return mishap if count % every == 0 and count < 2_000 else None

    transport.misfortune = misfortune
    meter = make_meter(durability="spool", spool=tmp_path)

    record_many(meter, 2_000)

    assert meter.flush(60)
    assert complete(transport, {meter.producer: 2_000})
    eventually(lambda: meter.status().spooled == 0)


def test_left_events_go_to_the_partitions_they_were_meant_for(
    make_meter: MakeMeter, transport: MemoryTransport, tmp_path: Path
) -> None:
    """What may have been sent before goes where it was sent, also when the topic has grown."""
    last = make_meter(durability="spool", spool=tmp_path)
    last.record("api.request", tenant="first")
    assert last.flush(30)
    transport.available = False
    record_many(last, 400)
    last.close(0.3)

    grown = MemoryTransport(partitions=12)
    meter = make_meter(durability="spool", spool=tmp_path, transport=grown)
    meter.record("api.request", tenant="a")
    eventually(lambda: meter.status().adopted == 400)

    for partition, records in enumerate(grown.log):
        for event in (decoded(record.value) for record in records):
            if event.producer == last.producer:
                assert partition == partition_of(event.lane, 4)
            else:
                assert partition == partition_of(lane_of(event.tenant), 12)


def test_events_for_another_topic_are_left_where_they_are(
    make_meter: MakeMeter, away: MemoryTransport, tmp_path: Path
) -> None:
    """A spool directory that two topics share mixes nothing up."""
    last = make_meter(durability="spool", spool=tmp_path, topic="here")
    record_many(last, 10)
    last.close(0.3)

    other = make_meter(durability="spool", spool=tmp_path, topic="there")
    record_many(other, 10)
    assert other.close(30)
    assert [path.name for path in tmp_path.iterdir()] == [last.producer]

    away.available = True
    same = make_meter(durability="spool", spool=tmp_path, topic="here", transport=away)
    same.record("api.request", tenant="a")
    eventually(lambda: same.status().adopted == 10)


def test_a_child_leaves_its_parents_spool_alone(
    make_meter: MakeMeter, away: MemoryTransport, tmp_path: Path
) -> None:
    """A fork amid a full spool: the child's end takes nothing away, the parent delivers all."""
    meter = make_meter(durability="spool", spool=tmp_path)
    record_many(meter, 1_000)
    eventually(lambda: meter.status().spooled == 1_000)

    child = os.fork()
    if child == 0:
        meter.record("api.request", tenant="child")
        meter.close(0.3)
        os._exit(0 if meter.status().spooled == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    away.available = True
    assert meter.flush(30)
    eventually(lambda: meter.status().adopted == 1, timeout_seconds=60)
    producers = {event.producer for event in arrived(away)}
    assert len(producers) == 2
    assert meter.status().acknowledged == 1_000


def refused(call: Callable[[], object]) -> str:
    """What the error of a call says."""
    with pytest.raises(SettingsError) as caught:
        call()
    return str(caught.value)


def test_wrong_settings_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A durability that cannot be had is refused at construction, with the way out."""
    monkeypatch.delenv("METERSTREAM_DATA", raising=False)

    assert "'disc' is none of" in refused(lambda: Meter(durability="disc"))  # type: ignore[arg-type]  # the mistake that is tried
    assert "pass spool=, or set METERSTREAM_SPOOL" in refused(lambda: Meter(durability="spool"))
    assert "choose 'spool'" in refused(lambda: Meter(spool=tmp_path))
    assert "is less than 65536" in refused(
        lambda: Meter(durability="spool", spool=tmp_path, spool_bytes_max=10)
    )
    assert "durability 'memory'" in refused(lambda: Meter().flush(0, to="disk"))
