"""A cache with a bound: two generations, of which the older is forgotten when the younger is full.

Safe from any thread without a lock: every step is one dictionary operation, and a value that two
threads build at the same moment is built twice, which callers must allow.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class TwoGenerations(Generic[Key, Value]):
    """At most ``2 * size`` values. What is used stays: it moves up when its generation is older.

    ``young`` is public, so that a hot path can look there first and come here when it misses.
    """

    __slots__ = ("_old", "_size", "young")

    def __init__(self, size: int) -> None:
        self._size: Final = size
        self.young: dict[Key, Value] = {}
        self._old: dict[Key, Value] = {}

    def older(self, key: Key) -> Value | None:
        """The value of the older generation, moved up; None when there is none."""
        value = self._old.get(key)
        if value is not None:
            self.put(key, value)
        return value

    def put(self, key: Key, value: Value) -> None:
        """Keep a value; the oldest generation goes when there is no room."""
        if len(self.young) >= self._size:
            self._old = self.young
            self.young = {}
        self.young[key] = value
