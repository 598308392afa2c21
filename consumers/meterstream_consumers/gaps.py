"""What retention took before it was folded: told in numbers, and given up only by a person.

An accepted gap moves the position over it, in the store's one transaction, with a dead letter at
its first offset that says how many records were lost. So the loss stands where every other refusal
does; and producers whose numbers lay in it have them missing in `reconcile`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from meterstream_aggregator.changes import Changes, DeadLetter
from meterstream_aggregator.refusals import Reason, Refusal
from meterstream_consumers.errors import InvalidGap

_TEXT: Final = re.compile(r"([0-9]{1,4}):([0-9]{1,18})-([0-9]{1,18})", re.ASCII)


class Gap(NamedTuple):
    """Offsets of a partition, the first and the last that are lost."""

    partition: int
    first: int
    last: int


def parse_gap(text: str) -> Gap:
    """``PARTITION:FROM-TO``. Raises `InvalidGap`."""
    found = _TEXT.fullmatch(text)
    gap = Gap(*map(int, found.groups())) if found else None
    if gap is None or gap.first > gap.last:
        raise InvalidGap(text)
    return gap


def is_accepted(accepted: Iterable[Gap], partition: int, *, first: int, end: int) -> bool:
    """Whether somebody accepted the loss of [first, end).

    It must begin just there: what was accepted once is not accepted for another gap. It may be
    longer than what is lost.
    """
    return any(
        gap.partition == partition and gap.first == first and end <= gap.last + 1
        for gap in accepted
    )


def loss(partition: int, *, first: int, end: int, appended: int) -> Changes:
    """What an accepted gap writes."""
    changes = Changes()
    changes.dead_letters.append(
        DeadLetter(
            partition=partition,
            offset=first,
            append_time=appended,
            refusal=Refusal(
                Reason.LOST,
                f"offsets {first} to {end - 1} ({end - first} records) were deleted by retention "
                "before they were folded; their loss was accepted",
            ),
            tenant=None,
            type=None,
            producer="",
            lane=0,
            sequence=0,
        )
    )
    return changes
