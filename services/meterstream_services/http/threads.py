"""Threads that questions cannot use up.

Plain routes are answered in one pool of forty threads, and each question that waits for a database
or for the log holds one. Whoever takes events, or says how the process is, must not queue behind
them, so these have a few threads of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Final, ParamSpec, TypeVar

from anyio import CapacityLimiter
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Work(Enum):
    """What threads are kept for; the value is how many."""

    TAKING = 8
    """Reading what came, without waiting for a database."""
    BOOK = 9
    """What is to be known of clients' documents before their events are taken."""
    HEALTH = 2


_limiters: Final = RunVar[dict[Work, CapacityLimiter]]("meterstream.threads")


async def in_thread(
    work: Work, call: Callable[_P, _R], /, *arguments: _P.args, **named: _P.kwargs
) -> _R:
    """Run what blocks in one of the threads that are kept for such work."""
    limiters = _limiters.get(None)
    if limiters is None:
        limiters = {each: CapacityLimiter(each.value) for each in Work}
        _limiters.set(limiters)
    return await run_sync(partial(call, *arguments, **named), limiter=limiters[work])
