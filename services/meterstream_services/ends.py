"""How processes end, and what that asks of whoever watches them."""

from __future__ import annotations

import signal
from enum import StrEnum
from typing import Final, NamedTuple

MUST_BE_MENDED: Final = 78
"""Exit status (EX_CONFIG of sysexits.h) of a process that starting again would not help."""
FLOODED: Final = 79
"""Exit status of a worker that a flood of dead letters stopped: likewise, but it alone."""
STOPPED_BY_GAP: Final = 80
"""Exit status of a worker with nothing to count but what the log lost: likewise, it alone."""


class Then(StrEnum):
    """What is to follow a part's end."""

    AGAIN = "again"
    """It is started again."""
    HELD = "held"
    """It stays away until a person has mended something; the other parts go on."""
    NEVER = "never"
    """Nothing works without it, and starting it again would not help: everything stops."""


class End(NamedTuple):
    """How a process ended, such as ``was killed by SIGKILL``, and what is to follow."""

    how: str
    then: Then = Then.AGAIN


def end_of(status: int) -> End:
    """What a return code of ``subprocess`` means."""
    follows = {MUST_BE_MENDED: Then.NEVER, FLOODED: Then.HELD, STOPPED_BY_GAP: Then.HELD}
    return End(how_it_ended(status), follows.get(status, Then.AGAIN))


def how_it_ended(status: int) -> str:
    """A return code of ``subprocess`` in words."""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
