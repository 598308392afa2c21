"""What the tests of single faults share: a hostile world in a topic, workers, and the judge."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from confluent_kafka import Producer

from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.store.sqlite_reader import open_reader
from meterstream_schemas import codec
from tests.faults import wrapped_worker
from tests.faults.wrapped_worker import Orders
from tests.oracle.counting import LogRecord
from tests.oracle.verdict import Difference, differences
from tests.simulation.generator import CATALOGUE, world

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.conftest import Broker

PATIENCE_SECONDS: Final = 120.0
_SCHEMA: Final = codec.parse_text(codec.bundled_text(codec.LATEST_ID))


class World:
    """A seeded log that is written piece by piece into a topic, and a store that folds it."""

    def __init__(self, broker: Broker, topic: str, place: Path, *, seed: int, events: int) -> None:
        self.broker: Final = broker
        self.topic: Final = topic
        self.place: Final = place
        self.store: Path = place / "store.sqlite3"
        self.said: Final = place / "said"
        self._catalogue: Final = place / "meters.yaml"
        self._catalogue.write_text(CATALOGUE, "utf-8")
        self._records: Final = world(seed, events)[1]
        self._written: list[LogRecord] = []

    def write(self, count: int) -> None:
        """Write the next records of the world."""
        begun = len(self._written)
        producer = Producer({"bootstrap.servers": self.broker.bootstrap_servers, "linger.ms": 5})
        written: list[LogRecord] = []
        for record in self._records[begun : begun + count]:

            def told(_: object, message: object, record: LogRecord = record) -> None:
                place = (message.partition(), message.offset(), message.timestamp()[1] * 1_000)  # type: ignore[attr-defined]  # a message
                written.append(LogRecord(*place, record.event))

            value = codec.encode(record.event, _SCHEMA)
            producer.produce(
                self.topic, value, record.event.tenant.encode(), record.partition, on_delivery=told
            )
        assert producer.flush(60) == 0
        assert len(written) == min(count, len(self._records) - begun)
        self._written += written

    @property
    def left(self) -> int:
        """How many records are not written yet."""
        return len(self._records) - len(self._written)

    def folded(self) -> int:
        """How many records the store has, as far as it can be asked."""
        try:
            reader = open_reader(self.store)
        except StoreUnavailable:
            return 0
        try:
            return sum(row.next_offset for row in reader.positions() if row.next_offset > 0)
        except StoreUnavailable:
            return 0
        finally:
            reader.close()

    def is_folded(self) -> bool:
        """Whether the store has all that is written."""
        return self.folded() == len(self._written)

    def wrong(self) -> list[Difference]:
        """Everything on which the store and the log disagree."""
        reader = open_reader(self.store)
        try:
            return differences(reader, CATALOGUE, sorted(self._written))
        finally:
            reader.close()

    @contextmanager
    def worker(
        self,
        *,
        point: str = "",
        times: int = 1,
        signal_: int = signal.SIGKILL,
        instance: str | None = "worker",
        clock_seconds: float = 0.0,
        batch: int = 100,
    ) -> Generator[subprocess.Popen[bytes]]:
        """A worker in a process of its own; at the end it is told to end, unless it has."""
        orders = Orders(
            self.broker.bootstrap_servers, self.topic, str(self._catalogue), str(self.store),
            instance and f"{self.topic}-{instance}", batch, point, times, signal_, clock_seconds,
        )  # fmt: skip
        with self.said.open("ab") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", wrapped_worker.__name__, json.dumps(orders)],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        try:
            yield process
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(60)
        finally:
            process.kill()
            process.wait()


def stands_still(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process is stopped by a signal."""
    state = Path(f"/proc/{process.pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    return state == "T"


def wait(seconds: float = PATIENCE_SECONDS) -> float:
    """A deadline."""
    return time.monotonic() + seconds
