"""How much an event that `Meter.record` took survives, and where it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from meterstream.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

Durability: TypeAlias = Literal["memory", "spool", "fsync"]
"""``memory``: the exit of the process, in time. ``spool``: its sudden death. ``fsync``: the
machine's."""

SPOOL_BYTES_MAX: Final = 1 << 30
SEGMENT_BYTES: Final = 4 << 20
_SEGMENTS: Final = 8
"""The bound holds so many segments at least, however small it is."""


class SpoolPolicy(NamedTuple):
    """Where meters keep their events, and how many bytes all of them together."""

    root: Path
    bytes_max: int
    fsync: bool
    topic: str

    @property
    def segment_bytes(self) -> int:
        """Bytes of one file."""
        return min(SEGMENT_BYTES, max(4_096, self.bytes_max // _SEGMENTS))


def check_number(name: str, value: object) -> float:
    """A number that is one, infinity included. Raises `SettingsError`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - NaN alone differs from itself
        raise SettingsError(f"{name}: {value!r} is not a number")
    return value
