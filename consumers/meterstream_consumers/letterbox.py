"""The records of dead letters: fetched from the log, or from the dead-letter topic, and sent again.

The log is asked first, at the very positions. What retention took from it is looked for on the
dead-letter topic, whose messages carry ``<partition>-<offset>`` as their key; one that was cut
there cannot be had any more. Blocks; for one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from meterstream_consumers.errors import LogUnusable
from meterstream_consumers.logreader import LogReader, Range
from meterstream_schemas.kafka_settings import client_settings

_NEAR: Final = 2_000
"""Records between two wanted ones that are read through sooner than sought over."""
_CUT: Final = "meterstream-cut-from-bytes"
_OURS: Final = "meterstream-"
_KEY: Final = "meterstream-key"

Place = tuple[int, int]
Headers = tuple[tuple[str, bytes | None], ...]


class Original(NamedTuple):
    """A record as it was first written. ``source`` is the topic that still has it."""

    value: bytes | None
    key: bytes | None
    headers: Headers
    source: str


class Parcel(NamedTuple):
    """A record to be sent. ``place`` is that of the dead letter that it replays."""

    place: Place
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def originals(
    bootstrap_servers: str, topic: str, deadletters_topic: str, places: Sequence[Place]
) -> dict[Place, Original]:
    """The records of these dead letters, as far as anything still has them.

    Raises `LogUnusable`.
    """
    with LogReader(bootstrap_servers, topic) as log:
        found = _from_log(log, topic, places)
    missing = set(places) - set(found)
    if missing:
        with LogReader(bootstrap_servers, deadletters_topic) as letters:
            found |= _from_letters(letters, deadletters_topic, missing)
    return found


class Sender:
    """Sends records to their partitions and waits for the log to have them."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._topic = topic
        self._problems: list[str] = []
        self._producer = Producer(
            {
                **client_settings(bootstrap_servers),
                "client.id": "meterstream-replay",
                "enable.idempotence": True,
                "compression.type": "lz4",
                "delivery.timeout.ms": 60_000,
                "enable.metrics.push": False,
            }
        )

    def send(self, parcels: Iterable[Parcel], told: Callable[[int], None]) -> None:
        """All of these; ``told`` gets how many the log has, now and then.

        Raises `LogUnusable` when one was not taken: then send them all again, which is harmless.
        """
        taken = 0

        def on_delivery(problem: KafkaError | None, message: Message) -> None:
            nonlocal taken
            if problem is None and message.offset() is not None:
                taken += 1
            else:
                self._problems.append("no receipt" if problem is None else problem.str())

        for parcel in parcels:
            self._produce(parcel, on_delivery)
            told(taken)
        while self._producer.flush(1.0):
            told(taken)
        told(taken)
        if self._problems:
            raise LogUnusable(
                f"{len(self._problems):,} records were not taken by topic {self._topic!r}: "
                f"{self._problems[0]}; run the command again, which is harmless"
            )

    def _produce(
        self, parcel: Parcel, on_delivery: Callable[[KafkaError | None, Message], None]
    ) -> None:
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    parcel.value,
                    parcel.key,
                    parcel.partition,
                    on_delivery,
                    headers=list(parcel.headers),
                )
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as problem:
                self._problems.append(str(problem))
                return
            else:
                self._producer.poll(0)
                return


def _from_log(log: LogReader, topic: str, places: Sequence[Place]) -> dict[Place, Original]:
    wanted = set(places)
    bounds = log.bounds(sorted({partition for partition, _ in places}))
    there = sorted(
        place for place in wanted if bounds[place[0]][0] <= place[1] < bounds[place[0]][1]
    )
    found: dict[Place, Original] = {}
    for raw in log.read(_ranges(there)):
        for row, place in enumerate(zip(raw.partitions, raw.offsets, strict=True)):
            if place in wanted:
                message = raw.messages[row]
                headers = tuple(message.headers() or ())
                found[place] = Original(raw.values[row], message.key(), headers, topic)
    return found


def _from_letters(letters: LogReader, topic: str, wanted: set[Place]) -> dict[Place, Original]:
    names = {f"{partition}-{offset}".encode(): (partition, offset) for partition, offset in wanted}
    found: dict[Place, Original] = {}
    bounds = letters.bounds(letters.partitions())
    ranges = [Range(partition, first, end) for partition, (first, end) in bounds.items()]
    for raw in letters.read(ranges):
        for row, message in enumerate(raw.messages):
            place = names.get(message.key() or b"")
            told = message.headers() or []
            if place is None or any(name == _CUT for name, _ in told):
                continue
            key = next((value for name, value in told if name == _KEY), None)
            own = tuple(header for header in told if not header[0].startswith(_OURS))
            found[place] = Original(raw.values[row], key, own, topic)
    return found


def _ranges(places: Iterable[Place]) -> Iterator[Range]:
    """Ranges that hold all of these sorted places; what lies near is read in one."""
    open_range: Range | None = None
    for partition, offset in places:
        if open_range is not None:
            if partition == open_range.partition and offset - open_range.end <= _NEAR:
                open_range = open_range._replace(end=offset + 1)
                continue
            yield open_range
        open_range = Range(partition, offset, offset + 1)
    if open_range is not None:
        yield open_range
