"""What the SDK tells about itself and about each event."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Outcome(NamedTuple):
    """What became of one recorded event.

    ``offset`` is its place in the log; None when it failed for good, and ``error`` says why.
    ``producer``, ``lane`` and ``sequence`` are the number it was sent under.
    """

    tenant: str
    key: str | None
    producer: str
    lane: int
    sequence: int
    partition: int
    offset: int | None
    error: str | None


class Status(NamedTuple):  # Not a dataclass: every host pays 7 ms for the import of that module.
    """A meter at one moment. ``recorded == acknowledged + failed + buffered``, always."""

    producer: str
    """This incarnation's id, 32 hexadecimal digits; a new one after a fork."""
    recorded: int
    """Events numbered and taken."""
    buffered: int
    """Events without an outcome yet, in the buffer or under way."""
    spooled: int
    """Those of the buffered that lie on disk; a new process sends them if this one dies."""
    spool_bytes: int
    """Bytes of this incarnation on disk."""
    spool_bytes_max: int
    """How many bytes all meters of its directory may keep there; 0 without a spool."""
    adopted: int
    """Events that dead processes left on disk and that are in the log now; not in ``recorded``."""
    acknowledged: int
    """Events known to be in the log."""
    failed: int
    """Events that the broker refuses for good. Each is a missing number to the aggregator."""
    dropped: Mapping[str, int]
    """Events not taken, by reason: ``invalid``, ``buffer_full``, ``closed``."""
    resent: int
    """Sendings repeated under the same number, after a failure or an unclear outcome."""
    ack_without_offset: int
    """Reports that claimed success without a place in the log; those events were sent again."""
    rebuilt: int
    """How often the client had to be built anew after a fatal error."""
    partitions: int | None
    """Partitions of the topic; None until the broker was reached."""
    open_sessions: int
    """Sessions for which heartbeats are sent."""
    oldest_unacknowledged_seconds: float
    """Age of the oldest event without an outcome, to about a second; 0 when there is none."""
    last_error: str | None
    """The latest trouble in one sentence, also when it is over; None when there was none."""
    last_error_age_seconds: float | None
    """How long ago that was."""
    closed: bool
    """close() was called."""
