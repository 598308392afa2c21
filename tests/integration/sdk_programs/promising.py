"""A host of the campaign: records without end, and writes down what it was promised.

Its notes are lines, each written with one call and synced, so that they outlive it::

    begin  PRODUCER SEED          a meter began; event n of it is `event_of(SEED, n)`
    about  n                      events up to n may be recorded from now on
    kept   n                      events up to n are on disk, said the meter
    acked  n PARTITION OFFSET     event n is there, said the log
    lost   n                      event n was refused, and said so
    closed n BUFFERED SPOOLED     the meter was closed after n events, with this status
"""

from __future__ import annotations

import atexit
import json
import os
import random
import resource
import sys
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from meterstream import Meter

if TYPE_CHECKING:
    from meterstream import Outcome

_TENANTS: Final = 40
_FILE_BYTES_MAX: Final = 400_000


class Orders(NamedTuple):
    """What a host is told. ``style`` is how it lives and ends."""

    servers: str
    topic: str
    root: str
    notes: str
    durability: str
    style: str
    seed: int


def event_of(seed: int, number: int) -> tuple[str, int, str]:
    """Tenant, quantity and key of the n-th event of a meter."""
    return f"tenant {(seed + number * 7) % _TENANTS}", number, f"{seed}-{number}"


class Host:
    """One meter, its events so far and its notes."""

    def __init__(self, orders: Orders) -> None:
        self._orders: Final = orders
        self._random: Final = random.Random(orders.seed)
        self._number = 0
        self._notes = os.open(orders.notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        atexit.register(self._ended)  # Before the meter's own, so it runs after that.
        self._meter: Final = Meter(
            "campaign",
            bootstrap_servers=orders.servers,
            topic=orders.topic,
            durability=orders.durability,  # type: ignore[arg-type]  # one of the three words
            spool=None if orders.durability == "memory" else orders.root,
            spool_bytes_max=200_000 if orders.style == "small" else 1 << 30,
            buffer_events_max=20_000,
            on_outcome=self._heard,
            mark_seconds=1,
            close_seconds=3,
        )
        self._seed = orders.seed
        self._begin()

    def live(self) -> None:
        """Record until killed, or until the style says that it ends."""
        rounds = self._random.randint(3, 30)
        while True:
            self.burst(self._random.choice((1, 10, 100, 500)))
            rounds -= 1
            time.sleep(self._random.choice((0.02, 0.05, 0.2)))
            if rounds or self._orders.style in {"killed", "small", "full"}:
                continue
            if self._orders.style == "fork":
                if os.fork() == 0:
                    self._in_child()
            else:
                return

    def burst(self, count: int) -> None:
        """Some events, and perhaps a promise about them."""
        first, self._number = self._number + 1, self._number + count
        self._note("about", self._number)
        for number in range(first, self._number + 1):
            tenant, quantity, key = event_of(self._seed, number)
            if not self._meter.record("campaign", tenant=tenant, quantity=quantity, key=key):
                self._note("lost", number)
        if self._orders.durability != "memory" and self._random.random() < 0.7:
            patience = self._random.choice((0.0, 0.05, 1.0, 5.0))
            if self._meter.flush(patience, to="disk"):
                self._note("kept", self._number)
        elif self._random.random() < 0.3:
            self._meter.flush(self._random.choice((0.0, 0.5)))

    def close(self, seconds: float) -> None:
        """End the meter, and say whether everything is in the log or on disk."""
        self._meter.close(seconds)
        self._ended()

    def _ended(self) -> None:
        status = self._meter.status()
        if status.buffered == status.spooled:
            self._note("kept", self._number)
        self._note("closed", self._number, status.buffered, status.spooled)

    def _in_child(self) -> None:
        self._seed = self._orders.seed + 500_000
        self._number = 0
        self._notes = os.open(f"{self._orders.notes}.child", os.O_WRONLY | os.O_CREAT, 0o600)
        self._begin()
        for _ in range(5):
            self.burst(200)
        self.close(self._random.choice((0.0, 3.0)))
        os._exit(0)

    def _begin(self) -> None:
        self._note("begin", self._meter.producer, self._seed)

    def _heard(self, outcome: Outcome) -> None:
        mine = outcome.producer == self._meter.producer and outcome.offset is not None
        if mine and self._orders.style != "full":  # Notes are files, too.
            number = int((outcome.key or "").partition("-")[2])
            self._note("acked", number, outcome.partition, outcome.offset, sync=False)

    def _note(self, *words: object, sync: bool = True) -> None:
        os.write(self._notes, (" ".join(map(str, words)) + "\n").encode())
        if sync:
            os.fdatasync(self._notes)


def main() -> None:
    """Live as ordered."""
    orders = Orders(*json.loads(sys.argv[1]))
    if orders.style == "full":  # The disk takes no more than this of any file: it seems full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES_MAX, _FILE_BYTES_MAX))
    host = Host(orders)
    host.live()
    if orders.style == "close":
        host.close(0)
        os._exit(0)
    sys.exit(0)


if __name__ == "__main__":
    main()
