"""Gaps in the log: how they are written, what is accepted, and what an accepted one leaves."""

from __future__ import annotations

import pytest

from meterstream_aggregator.refusals import Reason
from meterstream_consumers.errors import InvalidGap, LogGap
from meterstream_consumers.gaps import Gap, is_accepted, loss, parse_gap


def test_what_a_worker_tells_is_what_it_takes() -> None:
    """The sentence of a gap names the option that accepts just this gap."""
    told = str(LogGap("events", 3, first=100, end=200))

    accepted = parse_gap(told.rpartition("--accept-gap ")[2])

    assert accepted == Gap(3, 100, 199)
    assert "offsets 100 to 199 (100 records)" in told
    assert is_accepted([accepted], 3, first=100, end=200)


@pytest.mark.parametrize(
    ("partition", "first", "end"), [(3, 101, 200), (3, 99, 200), (3, 100, 201), (2, 100, 200)]
)
def test_another_gap_is_not_accepted(partition: int, first: int, end: int) -> None:
    """Neither one of another place nor one that has grown since."""
    assert not is_accepted([Gap(3, 100, 199)], partition, first=first, end=end)


def test_less_than_was_accepted_may_be_lost() -> None:
    """Whoever gives up more than is gone gives up what is gone."""
    assert is_accepted([Gap(3, 100, 500)], 3, first=100, end=200)


@pytest.mark.parametrize(
    "text", ["", "3", "3:100", "3:200-100", "3:-1-5", "x:1-2", "3:1-2 ", "٣:1-2"]
)
def test_what_is_no_gap_is_refused(text: str) -> None:
    """With the form that it should have."""
    with pytest.raises(InvalidGap, match="PARTITION:FROM-TO"):
        parse_gap(text)


def test_a_loss_is_one_dead_letter() -> None:
    """At the first lost offset, and its detail says how many."""
    [letter] = loss(3, first=100, end=200, appended=7).dead_letters

    assert (letter.partition, letter.offset, letter.append_time) == (3, 100, 7)
    assert letter.refusal.reason is Reason.LOST
    assert "100 to 199 (100 records)" in letter.refusal.detail
