"""What the host programs share: a meter as the test wants it, and words for the test to read."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

from meterstream import Meter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meterstream import Outcome

TENANTS: Final = 9
BEFORE: Final = 100
"""Events that a program records before it ends in its own way."""
COUNTED: Final = 500
"""Calls of a hot counter."""
HEIR: Final = 7_000_000
"""The quantity that a later process on the same spool records."""


def make_meter(**settings: Any) -> Meter:  # noqa: ANN401 - as many types as settings
    """A meter that finds its broker in the environment, with the durability named there."""
    spool = os.environ.get("HOST_SPOOL")
    if spool:
        settings |= {"durability": "spool", "spool": spool}
    return Meter("host", **({"on_outcome": tell} | settings))


def record(meter: Meter, quantities: Iterable[int]) -> None:
    """One event each, of several tenants."""
    for quantity in quantities:
        meter.record("a", tenant=f"t{quantity % TENANTS}", quantity=quantity)


def say(word: str, *values: object) -> None:
    """One line to the test, at once, from any thread and at any time in the process's life."""
    os.write(1, (" ".join([word, *map(str, values)]) + "\n").encode())


def ending() -> None:
    """Tell the test that the host does nothing more than to end."""
    say("ending", time.monotonic())


def tell(outcome: Outcome) -> None:
    """As ``on_outcome``: say which number is known to be in the log."""
    if outcome.offset is not None:
        say("outcome", outcome.producer, outcome.lane, outcome.sequence)
