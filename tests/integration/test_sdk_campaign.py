"""Hosts on one spool directory are killed, the broker is killed, disks fill up: no promise breaks.

Generations of hosts (`sdk_programs.promising`) record and note what they were promised. The last
process adopts what they left. Then the topic is read and compared with the notes. For a longer
campaign set METERSTREAM_CAMPAIGN_ROUNDS, to repeat its chances METERSTREAM_CAMPAIGN_SEED.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from meterstream import Meter
from meterstream_infra.broker import EmbeddedBroker
from meterstream_infra.topics import ensure_topics
from meterstream_schemas.events import EventKind, MeterEvent
from meterstream_schemas.placement import lane_of
from tests.integration.reading_topic import Placed, read_topic
from tests.integration.sdk_programs.promising import Orders, event_of
from tests.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3_600)]

ROUNDS: Final = int(os.environ.get("METERSTREAM_CAMPAIGN_ROUNDS", "2"))
TOPIC: Final = "campaign.events"
STYLES: Final = (
    ("spool", "killed"),
    ("spool", "killed"),
    ("fsync", "killed"),
    ("spool", "fork"),
    ("spool", "close"),
    ("fsync", "exit"),
    ("spool", "exit"),
    ("spool", "small"),
    ("spool", "full"),
    ("memory", "killed"),
    ("memory", "exit"),
)
HOSTS: Final = 3

Number = tuple[int, int]
"""Lane and sequence."""


class Notes(NamedTuple):
    """What one meter wrote down, by its numbers."""

    name: str
    producer: str
    spent: Counter[int]
    """How many numbers may be spent, by lane."""
    recorded: dict[Number, tuple[str, int, str]]
    """Tenant, quantity and key of every number that may be in the log."""
    promised: set[Number]
    places: dict[Number, tuple[int, int]]


def test_promises_hold(tmp_path: Path) -> None:
    """Every promised number is there, in one partition, as it was recorded; and nothing else."""
    seed = int(
        os.environ.get("METERSTREAM_CAMPAIGN_SEED") or random.SystemRandom().randrange(10**6)
    )
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    chance = random.Random(seed)
    root = tmp_path / "spool"
    (tmp_path / "notes").mkdir()
    with EmbeddedBroker(tmp_path / "broker") as broker:
        servers = broker.bootstrap_servers
        ensure_topics(servers, partitions=4, events_topic=TOPIC)
        for number in range(ROUNDS):
            with Hosts(tmp_path, servers, chance, number):
                trouble(broker, chance)
                if number == ROUNDS // 2:
                    grow(servers)
        adopt_all(root, servers)
        placed = read_topic(servers, TOPIC)

    for said in sorted(tmp_path.glob("stderr-*")):
        assert "fault of its own" not in said.read_text(), said.read_text()
        assert "Traceback" not in said.read_text(), said.read_text()
    judge(placed, [notes_of(path) for path in sorted((tmp_path / "notes").iterdir())])


class Hosts:
    """A generation: started, left alone for a while inside the block, and ended at random."""

    def __init__(self, place: Path, servers: str, chance: random.Random, generation: int) -> None:
        self._place: Final = place
        self._servers: Final = servers
        self._chance: Final = chance
        self._generation: Final = generation
        self._running: Final[list[subprocess.Popen[bytes]]] = []

    def __enter__(self) -> None:
        for place in range(HOSTS):
            durability, style = self._chance.choice(STYLES)
            name = f"{self._generation:04d}-{place}-{durability}-{style}"
            orders = Orders(
                servers=self._servers,
                topic=TOPIC,
                root=str(self._place / "spool"),
                notes=str(self._place / "notes" / name),
                durability=durability,
                style=style,
                seed=(self._generation * HOSTS + place + 1) * 1_000_000,
            )
            with (self._place / f"stderr-{name}").open("wb") as stderr:
                process = subprocess.Popen(
                    [sys.executable, "-m", Orders.__module__, json.dumps(orders)],
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    start_new_session=True,  # Its children of forks are ended with it.
                )
            self._running.append(process)
        here = f"{self._generation:04d}-*"
        eventually(lambda: len([*(self._place / "notes").glob(here)]) >= HOSTS)

    def __exit__(self, *_: object) -> None:
        deadline = time.monotonic() + 8
        for process in self._running:
            time.sleep(self._chance.uniform(0, 0.7))
            if self._chance.random() < 0.7:
                process.kill()
        for process in self._running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def trouble(broker: EmbeddedBroker, chance: random.Random) -> None:
    """Let the hosts work for a while; kill the broker meanwhile, most of the time."""
    time.sleep(chance.uniform(0.2, 3))
    if chance.random() < 0.8:
        broker.kill()
        time.sleep(chance.uniform(0, 2))
        broker.start()
        time.sleep(chance.uniform(0, 2))


def grow(servers: str) -> None:
    """Give the topic two partitions more: no number may move there."""
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_partitions([NewPartitions(TOPIC, 6)])[TOPIC].result(30)


def adopt_all(root: Path, servers: str) -> None:
    """The last process: nothing is left on disk after it."""
    meter = Meter(
        "campaign", bootstrap_servers=servers, topic=TOPIC, durability="spool", spool=root
    )
    meter.record("campaign", tenant="last", key="last")
    eventually(
        lambda: all(path.name == meter.producer for path in root.iterdir()), timeout_seconds=120
    )
    assert meter.close(30), meter.status()
    assert list(root.iterdir()) == []


def notes_of(path: Path) -> Notes:
    """What a meter was promised, in its numbers."""
    begun, *lines = (line.split() for line in path.read_text().splitlines())
    seed = int(begun[2])
    about, kept, refused = 0, 0, set[int]()
    places: dict[int, tuple[int, int]] = {}
    for word, number, *more in lines:
        match word:
            case "about":
                about = int(number)
            case "kept":
                kept = int(number)
            case "lost":
                refused.add(int(number))
            case "acked":
                places[int(number)] = (int(more[0]), int(more[1]))
            case _:  # It ended in order: everything is in the log or on disk, where there is room.
                limited = any(style in path.name for style in ("memory", "small", "full"))
                assert limited or more[0] == more[1], (path.name, number, more)
    number_of: dict[int, Number] = {}
    spent: Counter[int] = Counter()
    for event in range(1, about + 1):
        lane = lane_of(event_of(seed, event)[0])
        spent[lane] += 1
        number_of[event] = (lane, spent[lane])
    return Notes(
        name=path.name,
        producer=begun[1],
        spent=spent,
        recorded={
            number: event_of(seed, event)
            for event, number in number_of.items()
            if event not in refused
        },
        promised={number_of[event] for event in {*range(1, kept + 1), *places} - refused},
        places={number_of[event]: place for event, place in places.items()},
    )


class Seen(NamedTuple):
    """A record of the topic, decoded once."""

    place: tuple[int, int]
    key: bytes
    event: MeterEvent

    @property
    def number(self) -> Number:
        """Its lane and sequence."""
        return self.event.lane, self.event.sequence


def judge(placed: list[Placed], told: list[Notes]) -> None:
    """Compare the topic with what the meters noted."""
    by_producer: dict[str, list[Seen]] = {}
    for record in placed:
        seen = Seen((record.partition, record.offset), record.key, record.event)
        if seen.event.tenant != "last":
            by_producer.setdefault(seen.event.producer, []).append(seen)
    for notes in told:
        judge_meter(notes, by_producer.get(notes.producer, []))
    known = {notes.producer for notes in told}
    strangers = [
        seen
        for producer, records in by_producer.items()
        for seen in records
        if producer not in known and seen.event.kind is not EventKind.MARK
    ]
    assert not strangers
    promises = sum(len(notes.promised) for notes in told)
    assert promises
    print(f"{len(told)} meters, {promises} promises, {len(placed)} records")  # noqa: T201 - its size


def judge_meter(notes: Notes, records: list[Seen]) -> None:
    """What it was promised is there, in one partition, as recorded; nothing else is there."""
    partition_of: dict[int, int] = {}
    found: set[Number] = set()
    for seen in records:
        event = seen.event
        assert partition_of.setdefault(event.lane, seen.place[0]) == seen.place[0]
        if event.kind is not EventKind.MARK:
            found.add(seen.number)
            assert (event.tenant, event.quantity, event.key) == notes.recorded[seen.number]
            assert seen.key == event.tenant.encode()
    lost = notes.promised - found
    assert not lost, f"{notes.name}: {len(lost)} of {len(notes.promised)}: {sorted(lost)[:9]}"
    by_place = {seen.place: seen.number for seen in records}
    for number, place in notes.places.items():
        assert by_place[place] == number, notes.name
    present = highest_of(found | notes.promised)
    for event in (seen.event for seen in records if seen.event.kind is EventKind.MARK):
        assert event.sequence <= notes.spent[event.lane], notes.name
        if event.attributes:  # It says that there are no more.
            assert event.sequence >= present[event.lane], notes.name


def highest_of(numbers: set[Number]) -> Counter[int]:
    """The highest sequence of every lane."""
    highest: Counter[int] = Counter()
    for lane, sequence in numbers:
        highest[lane] = max(highest[lane], sequence)
    return highest
