"""Ticks: the log's time goes on where nothing happens.

A window is final, and a session times out, when the *log's* time has passed. In an idle partition
it stands still. So the owner of a partition that is read to its end writes a tick there, once its
newest log time is older than a given patience: a MARK that names no producer. It comes back as a
fact of the log, with the broker's append time, and a rebuild sees it too. The wall clock decides
only when to be patient no longer.

Best effort: a tick that is not taken is warned about, once per interval, and followed by the next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from meterstream_schemas import codec
from meterstream_schemas.errors import SchemaError
from meterstream_schemas.events import EventKind, MeterEvent

if TYPE_CHECKING:
    from meterstream_consumers.folding import Progress

_SCHEMA: Final = codec.parse_text(codec.bundled_text(codec.LATEST_ID))
_LOOK_SECONDS: Final = 1.0

SchemaId: TypeAlias = Callable[[], int | None]
"""The id to frame a record with, None while it is not known. Never blocks."""


class Post(Protocol):
    """Sends a record to a partition without waiting; then tells None, or why it was not taken."""

    def __call__(self, partition: int, value: bytes, told: Callable[[str | None], None]) -> None:
        """Send."""
        ...


def tick(time_microseconds: int, schema_id: int) -> bytes:
    """The record of a tick. Its own time is for people who look at the topic: nobody reads it."""
    event = MeterEvent(
        kind=EventKind.MARK,
        tenant="",
        type="",
        time=time_microseconds,
        quantity=0,
        scale=0,
        session=None,
        subject=None,
        attributes={},
        producer="",
        lane=0,
        sequence=0,
        key=None,
    )
    return codec.encode(event, _SCHEMA, schema_id)


class Ticks:
    """Decides when a partition needs a tick. Used by one thread; `step` never blocks.

    ``seconds`` is the patience, 0 for never. ``now`` is the wall clock, ``steady`` a clock that
    does not jump, both in seconds.
    """

    def __init__(
        self,
        seconds: float,
        post: Post,
        *,
        schema_id: SchemaId = lambda: codec.LATEST_ID,
        taken: Callable[[], None] = lambda: None,
        warn: Callable[[str], None] = lambda _: None,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._post = post
        self._schema_id = schema_id
        self._taken = taken
        self._warn = warn
        self._now = now
        self._steady = steady
        self._look_at = 0.0
        self._warn_at = 0.0
        self._under_way: set[int] = set()
        self._sent_at: dict[int, float] = {}

    def step(self, owned: Mapping[int, Progress], at_end: Callable[[int], bool]) -> None:
        """Send a tick to each owned partition that needs one. Cheap: call it often."""
        steady = self._steady()
        if not self._seconds or steady < self._look_at:
            return
        self._look_at = steady + min(_LOOK_SECONDS, self._seconds / 4)
        now = self._now()
        due = [
            partition
            for partition, progress in owned.items()
            if now - progress.appended / 1_000_000 >= self._seconds
            and steady - self._sent_at.get(partition, -self._seconds) >= self._seconds
            and partition not in self._under_way
            and at_end(partition)
        ]
        if not due or (schema_id := self._schema_id()) is None:
            return
        value = tick(int(now * 1_000_000), schema_id)
        for partition in due:
            self._sent_at[partition] = steady
            self._under_way.add(partition)
            self._post(partition, value, partial(self._told, partition))

    def _told(self, partition: int, problem: str | None) -> None:
        self._under_way.discard(partition)
        if problem is None:
            self._taken()
        elif self._steady() >= self._warn_at:
            self._warn_at = self._steady() + self._seconds
            self._warn(f"a tick for partition {partition} was not taken: {problem}")


class RegisteredId:
    """The registry's id of the newest schema, asked for on a thread of its own.

    A registry that is away keeps ticks back and nothing else.
    """

    def __init__(
        self,
        ask: Callable[[], int],
        warn: Callable[[str], None],
        *,
        again_seconds: float = 30.0,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._warn = warn
        self._again_seconds = again_seconds
        self._steady = steady
        self._ask_at = 0.0
        self._thread: threading.Thread | None = None
        self._known: int | None = None

    def __call__(self) -> int | None:
        """The id, None while it is not known."""
        asking = self._thread is not None and self._thread.is_alive()
        if self._known is None and not asking and self._steady() >= self._ask_at:
            self._ask_at = self._steady() + self._again_seconds
            self._thread = threading.Thread(target=self._find, name="registry", daemon=True)
            self._thread.start()
        return self._known

    def _find(self) -> None:
        try:
            self._known = self._ask()
        except SchemaError as problem:
            self._warn(f"no ticks: {problem}")
