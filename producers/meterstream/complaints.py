"""Trouble, told without a storm: the latest is kept, and logged once per interval and kind.

``note`` is for any thread and does no I/O, since logging may write to disk or network; the
background thread does the logging.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from meterstream import processes

if TYPE_CHECKING:
    import logging

_WARNING: Final = 30
_ERROR: Final = 40
"""As in `logging`, which is imported when there is something to log."""
INTERVAL_SECONDS: Final = 60.0
_DESCRIPTION_CHARACTERS_MAX: Final = 500


class _Complaint(NamedTuple):
    level: int
    message: str


class Complaints:
    """The trouble of one meter. Kinds are a few fixed words."""

    def __init__(self, *, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._interval_seconds: Final = interval_seconds
        self._waiting: Final[dict[str, _Complaint]] = {}
        self._logged_at: Final[dict[str, float]] = {}
        self._last: tuple[float, str] | None = None

    def warn(self, kind: str, message: str) -> None:
        """Note trouble in which nothing is lost."""
        self._note(kind, _WARNING, message)

    def error(self, kind: str, message: str) -> None:
        """Note that data are lost, or that a person is needed."""
        self._note(kind, _ERROR, message)

    def last(self, now: float) -> tuple[str | None, float | None]:
        """The latest message and its age in seconds; ``now`` is monotonic."""
        last = self._last
        return (None, None) if last is None else (last[1], max(0.0, now - last[0]))

    def log_due(self, now: float) -> None:
        """Log what waits and was not logged within the interval. For the background thread."""
        for kind in tuple(self._waiting):
            logged_at = self._logged_at.get(kind)
            if logged_at is None or now - logged_at >= self._interval_seconds:
                complaint = self._waiting.pop(kind)
                self._logged_at[kind] = now
                _logger().log(complaint.level, "%s", complaint.message)

    def _note(self, kind: str, level: int, message: str) -> None:
        self._last = (time.monotonic(), message)
        self._waiting[kind] = _Complaint(level, message)


def _logger() -> logging.Logger:
    """The SDK's logger."""
    # Imported here: it takes its time to load, and a host without trouble needs none.
    with processes.no_fork():
        import logging  # noqa: PLC0415
    return logging.getLogger("meterstream")


def describe(problem: BaseException) -> str:
    """An exception in words, also one whose own words cannot be had."""
    try:
        return f"{type(problem).__name__}: {problem}"[:_DESCRIPTION_CHARACTERS_MAX]
    except Exception:  # noqa: BLE001 - whatever a stranger's __str__ raises
        return "an exception that cannot be shown"
