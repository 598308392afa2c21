"""A producer of a campaign: records without end into its spool, and writes a journal.

It lives until it is killed; on SIGTERM it closes in order. `adopt` is another life: it records
nothing but one event, waits until nothing is left in the spool's directory, and closes.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from confluent_kafka import Producer as Kafka

from meterstream import Meter
from meterstream_schemas import codec
from meterstream_schemas.events import EventKind, MeterEvent
from tests.campaign.events import Drawn, Events
from tests.campaign.journal import Journal

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

    from meterstream import Outcome
    from meterstream.session import Session

_SCHEMA: Final = codec.parse_text(codec.bundled_text(codec.LATEST_ID))
_BOUNDARIES: Final = frozenset({"SESSION_START", "SESSION_HEARTBEAT", "SESSION_END"})
_BURST_SECONDS: Final = 0.05
_BLOCKS_MAX: Final = 20
_BLOCK_MICROSECONDS: Final = 3_600_000_000
_CLOSE_SECONDS: Final = 60.0
_ADOPT_SECONDS: Final = 300.0


class Orders(NamedTuple):
    """What a producer is told; ``rate`` in events per second."""

    servers: str
    topic: str
    spool: str
    journal: str
    tag: str
    seed: int
    rate: int
    durability: str
    adopt: bool = False


class Producer:
    """One meter, and its journal."""

    def __init__(self, orders: Orders) -> None:
        self._orders: Final = orders
        self._chance: Final = random.Random(orders.seed)
        self._events: Final = Events(orders.tag, self._chance)
        self._journal: Final = Journal(Path(orders.journal))
        self._blocks: Final[list[tuple[Drawn, Session]]] = []
        self._number = 0
        self._stopping = False
        self._meter: Final = Meter(
            "campaign",
            bootstrap_servers=orders.servers,
            topic=orders.topic,
            durability="fsync" if orders.durability == "fsync" else "spool",
            spool=orders.spool,
            on_outcome=self._heard,
            heartbeat_seconds=0.7,
            mark_seconds=1,
            kafka_settings={"reconnect.backoff.max.ms": 1000},
        )
        self._foreign: Final = Foreign(orders, self._journal)
        self._journal.write([["begin", self._meter.producer]])

    def stop(self, *_: object) -> None:
        """Close after the burst in hand."""
        self._stopping = True

    def live(self) -> None:
        """Bursts until told to stop, then an end in order."""
        due = time.monotonic()
        while not self._stopping:
            self._burst(max(1, round(self._orders.rate * _BURST_SECONDS)))
            due = max(due + _BURST_SECONDS, time.monotonic() - 1)
            time.sleep(max(0.0, due - time.monotonic()))
        self._record([block._replace(kind="SESSION_END") for block, _ in self._blocks])
        self._close()

    def adopt(self) -> None:
        """Send what the dead left on disk."""
        drawn = self._events.draw(time.time_ns() // 1000)
        while drawn.kind != "USAGE":  # A meter looks for what is left from its own first event on.
            drawn = self._events.draw(time.time_ns() // 1000)
        self._record([drawn])
        root, deadline = Path(self._orders.spool), time.monotonic() + _ADOPT_SECONDS
        while any(path.name != self._meter.producer for path in root.iterdir()):
            if time.monotonic() > deadline:
                left = sorted(path.name for path in root.iterdir())
                raise RuntimeError(f"spools are left over: {left}; {self._meter.status()}")
            time.sleep(0.05)
        self._close()

    def _burst(self, count: int) -> None:
        now = time.time_ns() // 1000
        self._record(self._with_blocks([self._events.draw(now + step) for step in range(count)]))
        dice = self._chance.random()
        if dice < 0.4 and self._meter.flush(self._chance.choice((0.0, 0.05, 0.5)), to="disk"):
            self._tell([["k", self._number]])
        elif dice < 0.6 and self._meter.flush(self._chance.choice((0.0, 0.05, 0.3))):
            self._tell([["a", self._number]])

    def _record(self, drawn: list[Drawn]) -> None:
        """Intend, then do, then tell what was not taken."""
        first = self._number + 1
        self._number += len(drawn)
        self._tell([_intent(number, each) for number, each in enumerate(drawn, first)])
        refused: list[list[object]] = [
            ["x", number] for number, each in enumerate(drawn, first) if not self._say(each, number)
        ]
        if refused:
            self._tell(refused)

    def _with_blocks(self, drawn: list[Drawn]) -> list[Drawn]:
        """The same, and perhaps the start or the end of a session that the SDK keeps alive."""
        if len(self._blocks) < _BLOCKS_MAX and self._chance.random() < 0.1:
            return [*drawn, self._block(time.time_ns() // 1000)]
        if self._blocks and self._chance.random() < 0.1:
            block = self._chance.choice(self._blocks)[0]
            return [*drawn, block._replace(kind="SESSION_END")]
        return drawn

    def _block(self, at: int) -> Drawn:
        id_ = f"{self._orders.tag}-block-{self._number}"
        said = {"plan": "block", "id": id_}
        return Drawn(
            id_, "SESSION_START", "tenant-07", "agent.run", at - 60_000_000,
            session=id_, subject="block", attributes=said, block=True,
        )  # fmt: skip

    def _say(self, drawn: Drawn, number: int) -> bool:
        meter = self._meter
        if drawn.kind in _BOUNDARIES and drawn.session is None:
            self._foreign.send(drawn, number)
            return True
        if drawn.block:
            return self._say_block(drawn)
        if drawn.kind == "USAGE":
            return meter.record(
                drawn.type, tenant=drawn.tenant, quantity=_amount(drawn), time=drawn.time,
                subject=drawn.subject, attributes=drawn.attributes, key=drawn.key,
            )  # fmt: skip
        if drawn.kind == "VOID":
            return meter.void(
                drawn.type, tenant=drawn.tenant, quantity=_amount(drawn), time=drawn.time,
                attributes=drawn.attributes, key=drawn.key or "",
            )  # fmt: skip
        say = {
            "SESSION_START": meter.session_start,
            "SESSION_HEARTBEAT": meter.session_heartbeat,
            "SESSION_END": meter.session_end,
        }[drawn.kind]
        return say(
            drawn.type, tenant=drawn.tenant, session=drawn.session, subject=drawn.subject,
            attributes=drawn.attributes, time=drawn.time,
        )  # fmt: skip

    def _say_block(self, drawn: Drawn) -> bool:
        if drawn.kind == "SESSION_END":
            place = next(n for n, (each, _) in enumerate(self._blocks) if each.id == drawn.id)
            return self._blocks.pop(place)[1].end()
        session = self._meter.session(
            drawn.type, tenant=drawn.tenant, session=drawn.session, subject=drawn.subject,
            attributes=drawn.attributes,
        )  # fmt: skip
        self._blocks.append((drawn, session.start()))
        return True

    def _heard(self, outcome: Outcome) -> None:
        """In the meter's thread: what came of a number, of ours or of a dead one."""
        number = [outcome.producer, outcome.lane, outcome.sequence]
        if outcome.offset is not None:
            line: list[object] = ["o", *number, outcome.partition, outcome.offset]
        else:
            line = ["f", *number, outcome.error]
        self._journal.write([line], sync=False)

    def _tell(self, lines: list[list[object]]) -> None:
        self._journal.write(lines)

    def _close(self) -> None:
        closed = self._meter.close(_CLOSE_SECONDS) and self._foreign.close(_CLOSE_SECONDS)
        status = self._meter.status()
        if closed:
            self._tell([["a", self._number]])
        self._tell([["closed", status.buffered]])


class Foreign:
    """Another program's producer: it knows nothing of numbers, and sends each event once.

    Sessions without an id come from such programs only: the SDK asks for one.
    """

    def __init__(self, orders: Orders, journal: Journal) -> None:
        self._topic: Final = orders.topic
        self._journal: Final = journal
        self._kafka: Final = Kafka(
            {
                "bootstrap.servers": orders.servers,
                "enable.idempotence": True,
                "delivery.timeout.ms": 3_600_000,
                "partitioner": "murmur2_random",
            }
        )

    def send(self, drawn: Drawn, number: int) -> None:
        """Send an event, which is the journal's with this number."""

        def told(problem: KafkaError | None, message: Message) -> None:
            if problem is None and message.offset() is not None:
                self._journal.write([["d", number]], sync=False)

        event = MeterEvent(
            EventKind[drawn.kind], drawn.tenant, drawn.type, drawn.time, drawn.quantity,
            drawn.scale, drawn.session, drawn.subject, drawn.attributes, "", 0, 0, drawn.key,
        )  # fmt: skip
        self._kafka.produce(
            self._topic, codec.encode(event, _SCHEMA), drawn.tenant.encode(), on_delivery=told
        )
        self._kafka.poll(0)

    def close(self, seconds: float) -> bool:
        """Wait until all of it is there."""
        return self._kafka.flush(seconds) == 0


def _intent(number: int, drawn: Drawn) -> list[object]:
    until = drawn.time + _BLOCK_MICROSECONDS if drawn.block else None
    return [
        "i", number, drawn.id, drawn.kind, drawn.tenant, drawn.type, drawn.time, until,
        drawn.quantity, drawn.scale, drawn.session, drawn.subject, drawn.attributes, drawn.key,
    ]  # fmt: skip


def _amount(drawn: Drawn) -> str:
    """The amount as text that is read as just this quantity and scale."""
    sign, digits = ("-" if drawn.quantity < 0 else ""), str(abs(drawn.quantity))
    digits = digits.rjust(drawn.scale + 1, "0")
    whole = len(digits) - drawn.scale
    return f"{sign}{digits[:whole]}.{digits[whole:]}" if drawn.scale else f"{sign}{digits}"


def main() -> None:
    """Live as ordered."""
    orders = Orders(*json.loads(sys.argv[1]))
    producer = Producer(orders)
    signal.signal(signal.SIGTERM, producer.stop)
    if orders.adopt:
        producer.adopt()
    else:
        producer.live()


if __name__ == "__main__":
    main()
