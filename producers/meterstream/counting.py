"""A hot counter: coalesced calls whose key is prepared."""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING, Any, Final

from meterstream.coalescing import QUEUE_MAX, RING_EVERY, sums_of
from meterstream_schemas.events import QUANTITY_MAX, QUANTITY_MIN

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from meterstream.incarnation import Incarnation
    from meterstream.summing import Key


class Counter:
    """A key prepared for many calls of ``add``. Made by `meterstream.meter.Meter.counter`."""

    def __init__(
        self,
        incarnation: Callable[[], Incarnation],
        *,
        seconds: float,
        said: tuple[Any, ...],
    ) -> None:
        self._incarnation: Final = incarnation
        self._seconds: Final = seconds
        self._said: Final = said
        self._home: Incarnation | None = None
        self._key: Key | None = None

    def add(self, quantity: int | Decimal | str = 1) -> bool:
        """Count ``quantity``. Answers as ``record`` with ``coalesce`` does; does not wait."""
        home = self._incarnation()
        key = self._key
        try:
            if key is None or home is not self._home:
                return self._begin(home, quantity)
            if type(quantity) is not int or not QUANTITY_MIN <= quantity <= QUANTITY_MAX:
                return self._put(home, key, quantity)
            # As `Sums.put` does it: a call costs as much as all of this.
            queue = key.queue
            queue.append((time_ns(), quantity, 0))
            waiting = len(queue)
            if key.open and waiting % RING_EVERY and waiting <= QUEUE_MAX:
                return True
            return self._crowded(home, key, waiting)
        except Exception as problem:  # noqa: BLE001 - nothing may reach the host
            return home.refused(problem, self._said[0])

    def _put(self, home: Incarnation, key: Key, quantity: object) -> bool:
        if not key.open:
            return self._begin(home, quantity)
        return sums_of(home).put(key, quantity)

    def _crowded(self, home: Incarnation, key: Key, waiting: int) -> bool:
        if not key.open:
            self._key = None  # It is idle or its meter closed; the next call looks for another.
        return sums_of(home).crowded(key, waiting)

    def _begin(self, home: Incarnation, quantity: object) -> bool:
        event_type, tenant, session, subject, attributes = self._said
        sums = sums_of(home)
        self._key = sums.find(self._seconds, event_type, tenant, session, subject, attributes)
        self._home = home
        if self._key is not None:
            return sums.put(self._key, quantity)
        return sums.add(self._seconds, event_type, tenant, quantity, session, subject, attributes)
