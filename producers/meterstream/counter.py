"""A hot counter: coalesced calls whose key is prepared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from meterstream.coalescing import sums_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from meterstream.coalescing import Sums
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
        self._sums: Sums | None = None
        self._key: Key | None = None

    def add(self, quantity: int | Decimal | str = 1) -> bool:
        """Count ``quantity``. Answers as ``record`` with ``coalesce`` does; does not wait."""
        home = self._incarnation()
        try:
            key, sums = self._key, self._sums
            if key is None or sums is None or home is not self._home or not key.open:
                return self._begin(home, quantity)
            return sums.put(key, quantity)
        except Exception as problem:  # noqa: BLE001 - nothing may reach the host
            return home.refused(problem)

    def _begin(self, home: Incarnation, quantity: object) -> bool:
        event_type, tenant, session, subject, attributes = self._said
        sums = sums_of(home)
        self._key = sums.find(self._seconds, event_type, tenant, session, subject, attributes)
        self._sums, self._home = sums, home
        if self._key is not None:
            return sums.put(self._key, quantity)
        return sums.add(self._seconds, event_type, tenant, quantity, session, subject, attributes)
