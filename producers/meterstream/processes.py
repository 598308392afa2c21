"""What happens to meters when their process forks or exits.

At exit every meter is closed with its deadline; in the child of a fork every meter becomes a new
incarnation. Hooks are put in place when the first meter is made, once per process.

A fork waits a little while a background thread imports a module or connects: in the child that
thread is gone and what it had locked stays locked. That may be a module, which nobody can import
then, or the C library's own lock around name resolution, behind which every connection hangs, the
host's too. Later connections of a running client are out of our hands: a fork in the fraction of a
millisecond in which one of them resolves a name still meets that lock.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from meterstream import threads

if TYPE_CHECKING:
    from collections.abc import Generator, Hashable

_FORK_WAIT_SECONDS_MAX: Final = 2.0
"""How long a fork waits at most. Connecting resolves its names first, and soon."""


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


class _Forks:
    """The lock is held by whoever keeps forks out, or by the fork."""

    def __init__(self) -> None:
        self._lock = threads.allocate_lock()
        self._held_by_fork = False

    @contextmanager
    def kept_out(self) -> Generator[None]:
        with self._lock:
            yield

    def before_fork(self) -> None:
        self._held_by_fork = self._lock.acquire(timeout=_FORK_WAIT_SECONDS_MAX)

    def after_fork_in_parent(self) -> None:
        if self._held_by_fork:
            self._held_by_fork = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threads.allocate_lock()
        self._held_by_fork = False


_forks: Final = _Forks()


def no_fork() -> AbstractContextManager[None]:
    """No fork happens inside. For a background thread, and for short work only."""
    return _forks.kept_out()


def enroll(resident: Resident) -> None:
    """Tell ``resident`` of forks and of the exit, as long as it exists."""
    if "process" not in _hooked:
        _hooked.add("process")
        atexit.register(_at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=_forks.before_fork,
                after_in_parent=_forks.after_fork_in_parent,
                after_in_child=_after_fork,
            )
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
        try:
            resident.at_exit()
        except Exception as problem:  # noqa: BLE001 - the others must still be told
            _log(problem, "exit of the process")


def _after_fork() -> None:
    _forks.after_fork_in_child()
    for resident in _living():
        try:
            resident.after_fork()
        except Exception as problem:  # noqa: BLE001 - the others must still be told
            _log(problem, "fork")


def _log(problem: Exception, moment: str) -> None:
    import logging  # noqa: PLC0415 - it takes its time to load, and this should never happen

    logging.getLogger("meterstream").error(
        "the SDK met a fault of its own at the %s: %r", moment, problem
    )
