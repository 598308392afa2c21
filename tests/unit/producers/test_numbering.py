"""Numbers are spent once each, whoever interrupts whom."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

from meterstream.numbering import Numbering, Tallies
from meterstream_schemas.events import LANES

if TYPE_CHECKING:
    from types import FrameType


def test_every_lane_counts_from_one() -> None:
    """Lanes are independent, and what is spent is known without spending."""
    numbering = Numbering()

    assert [numbering.taker(3)() for _ in range(4)] == [1, 2, 3, 4]
    assert numbering.taker(LANES - 1)() == 1
    assert numbering.highest(3) == 4
    assert numbering.highest(4) == 0
    assert numbering.claims() == {3: 4, LANES - 1: 1}
    assert numbering.spent() == 5


def test_incarnations_have_ids_of_their_own() -> None:
    """An id is 32 hexadecimal digits and not somebody else's."""
    one, other = Numbering().producer, Numbering().producer

    assert len(one) == 32
    assert int(one, 16) >= 0
    assert one != other


def test_threads_never_share_a_number() -> None:
    """Four threads spend one lane's numbers: all of them, each once."""
    numbering = Numbering()
    spent: list[list[int]] = [[] for _ in range(4)]

    def spend(into: list[int]) -> None:
        take = numbering.taker(0)
        into.extend(take() for _ in range(20_000))

    threads = [threading.Thread(target=spend, args=(into,)) for into in spent]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    together = sorted(number for into in spent for number in into)
    assert together == list(range(1, 80_001))
    assert numbering.highest(0) == 80_000


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers that send signals")
def test_a_signal_handler_never_shares_a_number_with_what_it_interrupts() -> None:
    """A handler that spends numbers in the middle of spending doubles and loses none."""
    numbering = Numbering()
    take = numbering.taker(0)
    spent: list[int] = []

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        spent.append(take())

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        while len(spent) < 100_000:
            spent.append(take())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert sorted(spent) == list(range(1, len(spent) + 1))


def test_tallies_count_by_name() -> None:
    """Only what was counted shows."""
    tallies = Tallies(("full", "closed"))
    tallies.add("full")
    tallies.add("full")

    assert (tallies["full"], tallies["closed"]) == (2, 0)
    assert tallies.nonzero() == {"full": 2}
