"""Windows: half-open spans of event time of one fixed size, counted from 1970-01-01 UTC."""

from __future__ import annotations

from collections.abc import Iterator


def window_start(time: int, size: int) -> int:
    """Start of the window that holds ``time``. All in microseconds."""
    return time - time % size


def split(start: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut [start, end) at window boundaries: (window start, microseconds inside), in order.

    The parts add up to ``end - start`` exactly; an empty span has no parts.
    """
    at = start
    while at < end:
        window = at - at % size
        upto = min(window + size, end)
        yield window, upto - at
        at = upto


def closes_at(window: int, size: int, metering_since: int, grace: int) -> int:
    """The append time from which an event of this window is late (DESIGN section 6).

    The instant ``metering_since`` counts as the end of the window that holds it, so that all closes
    of a meter lie on one grid.
    """
    return max(window + size, -(-metering_since // size) * size) + grace


def arrival_of(append_time: int, size: int, grace: int) -> int:
    """The arrival of something late: the last close of any window at or before its append time.

    ``append_time < close`` if and only if ``arrival < close``, for every close on the grid.
    """
    return append_time - (append_time - grace) % size


def arrival_in(window: int, append_time: int, *, size: int, metering_since: int, grace: int) -> int:
    """The arrival of something of this window: 0 in time, else `arrival_of`."""
    if append_time < closes_at(window, size, metering_since, grace):
        return 0
    return arrival_of(append_time, size, grace)
