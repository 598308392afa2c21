"""Threads that questions cannot use up.

Plain routes are answered in one pool of forty threads, and each question that waits for a database
or for the log holds one. Whoever takes events, or says how the process is, must not queue behind
them, so these have a few threads of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from functools import partial
from typing import Final, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Work(Enum):
    """What threads are kept for; the value is how many."""

    TAKING = 8
    """Reading what came, without waiting for a database."""
    BOOK = 9
    """What is to be known of clients' documents before their events are taken."""
    HEALTH = 2


_pools: Final = {
    work: ThreadPoolExecutor(work.value, thread_name_prefix=work.name.lower()) for work in Work
}


async def in_thread(
    work: Work, call: Callable[_P, _R], /, *arguments: _P.args, **named: _P.kwargs
) -> _R:
    """Run what blocks in one of the threads that are kept for such work."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_pools[work], partial(call, *arguments, **named))
