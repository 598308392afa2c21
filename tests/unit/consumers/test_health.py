"""Readiness says why not and since when; liveness asks for a new start only when that helps."""

from __future__ import annotations

from meterstream_consumers.health import STUCK_SECONDS, Health


class _Clocks:
    """A steady clock and a wall clock that are moved by hand."""

    def __init__(self) -> None:
        self.steady = 0.0
        self.wall = 1_800_000_000.0

    def health(self) -> Health:
        return Health("has not joined", steady=lambda: self.steady, now=lambda: self.wall)


def test_what_is_told_is_why_not() -> None:
    """Not ready from the beginning, ready when told so, and not stuck meanwhile."""
    health = _Clocks().health()

    assert health.why_not() == "has not joined"
    assert health.stuck() is None

    health.tell(None)
    assert health.why_not() is None


def test_a_loop_that_stands_still_is_stuck() -> None:
    """Neither ready nor live, until it comes round again."""
    clocks = _Clocks()
    health = clocks.health()
    health.tell(None)

    clocks.steady = STUCK_SECONDS - 1
    assert health.stuck() is None
    clocks.steady = STUCK_SECONDS
    assert health.stuck() == f"the worker's loop has stood still for {STUCK_SECONDS:.0f} s"
    assert health.why_not() == health.stuck()

    health.turn()
    assert health.stuck() is None
    assert health.why_not() is None


def test_since_when_something_holds() -> None:
    """The moment stays while it holds, and is another one when it comes again."""
    clocks = _Clocks()
    health = clocks.health()

    first = health.since("the store is away", True)
    clocks.wall += 60
    assert first == "the store is away since 2027-01-15T08:00:00Z"
    assert health.since("the store is away", True) == first
    assert health.since("the store is away", False) is None
    assert health.since("the store is away", True) == "the store is away since 2027-01-15T08:01:00Z"
