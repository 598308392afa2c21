"""What happens to meters when their process forks or exits.

At exit every meter is closed with its deadline; in the child of a fork every meter becomes a new
incarnation. Hooks are put in place when the first meter is made, once per process.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Hashable


class Resident(Protocol):
    """Something that wants to know of forks and of the exit."""

    def after_fork(self) -> None:
        """The process is the child of a fork."""
        ...

    def at_exit(self) -> None:
        """The process exits."""
        ...


_residents: Final[dict[int, weakref.ref[Resident]]] = {}
_kept: Final[dict[int, Resident]] = {}
"""Plain dictionary operations only: both are used from finalizers and after forks."""
_hooked: Final[set[Hashable]] = set()


def enroll(resident: Resident) -> None:
    """Tell ``resident`` of forks and of the exit, as long as it exists."""
    if "process" not in _hooked:
        _hooked.add("process")
        atexit.register(_at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_after_fork)
    identity = id(resident)
    _residents[identity] = weakref.ref(resident, lambda _: _residents.pop(identity, None))


def keep(resident: Resident) -> None:
    """Let ``resident`` exist until it is released: it has events that must leave before the exit.

    A host may drop its last reference right after recording.
    """
    _kept[id(resident)] = resident
    _hook_multiprocessing()


def release(resident: Resident) -> None:
    """The opposite of `keep`. Does nothing for one that is not kept."""
    _kept.pop(id(resident), None)


def _hook_multiprocessing() -> None:
    """Be told of the exit of a multiprocessing child, which skips ``atexit``."""
    process = sys.modules.get("multiprocessing.process")
    util = sys.modules.get("multiprocessing.util")
    if process is None or util is None or process.parent_process() is None:
        return
    if ("multiprocessing", os.getpid()) not in _hooked:
        _hooked.add(("multiprocessing", os.getpid()))
        util.Finalize(None, _at_exit, exitpriority=0)


def _living() -> list[Resident]:
    found = (reference() for reference in list(_residents.values()))
    return [resident for resident in found if resident is not None]


def _at_exit() -> None:
    for resident in _living():
        resident.at_exit()


def _after_fork() -> None:
    for resident in _living():
        resident.after_fork()
