"""Running the host programs and judging what they left: their status, their stderr, the topic."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from meterstream_schemas.events import EventKind
from tests.integration.reading_topic import read_topic

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from meterstream_schemas.events import MeterEvent
    from tests.conftest import Broker

Number = tuple[str, int, int]
"""Producer, lane and sequence."""

HUNG_SECONDS: Final = 60


def kept(cases: Iterable[str], *, spooled: Iterable[str]) -> list[tuple[str, str]]:
    """Cases with where their events are kept: all in memory, some in a spool too."""
    return [(case, "memory") for case in cases] + [(case, "spool") for case in spooled]


class Ended(NamedTuple):
    """How a host ended and what it said, by the first word of each line."""

    status: int
    stderr: str
    said: Mapping[str, list[str]]
    seconds: float
    """From the moment when it had nothing more to do, or from its start."""

    def quantities(self, word: str) -> set[int]:
        """The numbers behind a word."""
        return {int(text) for text in self.said.get(word, [])}

    def promised(self) -> set[Number]:
        """The numbers whose outcome the host was told: they are in the log."""
        outcomes = (text.split() for text in self.said.get("outcome", []))
        return {(producer, int(lane), int(sequence)) for producer, lane, sequence in outcomes}


class Log(NamedTuple):
    """What a topic holds."""

    usage: list[MeterEvent]
    closing: dict[tuple[str, int], int]
    """The highest number that closing marks claim, by producer and lane."""

    def numbers(self) -> Counter[Number]:
        """How often each number is there."""
        return Counter((event.producer, event.lane, event.sequence) for event in self.usage)

    def quantities(self) -> list[int]:
        """Each event once, by what it carries, in order."""
        once = {(event.producer, event.lane, event.sequence): event for event in self.usage}
        return sorted(event.quantity for event in once.values())

    def producers(self) -> set[str]:
        """The incarnations that recorded."""
        return {event.producer for event in self.usage}

    def highest(self) -> dict[tuple[str, int], int]:
        """The highest number that is there, by producer and lane."""
        found: dict[tuple[str, int], int] = {}
        for event in self.usage:
            lane = (event.producer, event.lane)
            found[lane] = max(found.get(lane, 0), event.sequence)
        return found


def environment(broker: Broker, topic: str, spool: Path | None) -> dict[str, str]:
    """What tells a host where its events go."""
    told = {
        "METERSTREAM_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "METERSTREAM_TOPIC": topic,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    return os.environ | told | ({} if spool is None else {"HOST_SPOOL": str(spool)})


def run(module: str, case: str, broker: Broker, topic: str, *, spool: Path | None = None) -> Ended:
    """Run a host to its end."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", f"{__package__}.{module}", *case.split()],
        env=environment(broker, topic, spool),
        capture_output=True,
        text=True,
        timeout=HUNG_SECONDS,
        check=False,
    )
    ended = time.monotonic()
    said: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        word, _, text = line.partition(" ")
        said.setdefault(word, []).append(text)
    since = float(said["ending"][0]) if "ending" in said else begun
    return Ended(done.returncode, done.stderr, said, ended - since)


def read_log(broker: Broker, topic: str) -> Log:
    """What is in the topic now."""
    events = [placed.event for placed in read_topic(broker.bootstrap_servers, topic)]
    return Log(
        [event for event in events if event.kind is not EventKind.MARK],
        {
            (event.producer, event.lane): event.sequence
            for event in events
            if event.kind is EventKind.MARK and event.attributes
        },
    )


def assert_whole(log: Log, quantities: Iterable[int]) -> None:
    """Every event once, and closing marks that claim just these."""
    assert log.quantities() == sorted(quantities)
    assert set(log.numbers().values()) == {1}
    assert log.closing == log.highest()


def assert_undisturbed(ended: Ended, *, status: int, own: str = "") -> None:
    """The host's status and words on stderr are its own.

    After Ctrl-C Python ends itself by the signal, unless it has evaluated code from a text since,
    as imports do, the SDK's of Kafka's client in the background among them. Then it is 1.
    """
    own_statuses = {1, -signal.SIGINT} if own == "KeyboardInterrupt" else {status}
    assert ended.status in own_statuses, ended.stderr
    if own:
        assert "Exception ignored" not in ended.stderr, ended.stderr
        assert ended.stderr.rstrip().endswith(own), ended.stderr
        assert "producers/meterstream" not in ended.stderr
    else:
        assert ended.stderr == ""
