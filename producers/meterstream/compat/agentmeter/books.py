"""What events cost, on its way into the ledger: no call of a host waits for the ledger's disk.

`book` only appends to a queue. A thread that lives as long as something is queued writes it within
a second or so; `settle` writes it now, and so do flush and close of the meter. Costs of one user
become one change of the allowance; each payment becomes one movement under its event's id, so that
it is never noted twice. What a crash leaves unwritten is missing in the ledger, not in the log.
"""

from __future__ import annotations

import _thread
import os
import time
from collections import deque
from decimal import Decimal
from typing import Final, NamedTuple

from meterstream.compat import wiring
from meterstream.compat.agentmeter.errors import AgentMeterLedgerError
from meterstream.compat.agentmeter.events import Event, InstantPayEvent
from meterstream.compat.agentmeter.money import total
from meterstream.compat.agentmeter.wrapping import refuse

BOOKINGS_MAX: Final = 100_000
"""Queued at most, while the ledger cannot be written; further ones are counted as refused."""
SEEN_MAX: Final = 10_000
"""The latest event ids, each booked once however often it is recorded."""
PAUSE_SECONDS: Final = 0.5
DRAIN_SECONDS: Final = 5.0


class _Booking(NamedTuple):
    event_id: str
    project: str
    user: str
    agent: str
    cost: Decimal
    payment: bool
    description: str


class _Books:
    """The queue of a process. A fork's child begins with an empty one."""

    def __init__(self) -> None:
        self.queue: deque[_Booking] = deque()
        self.seen: dict[str, None] = {}
        self.writing = _thread.allocate_lock()
        self.running = _thread.allocate_lock()

    # As a chore of the meter's: flush and close write what is queued.

    def due(self, now: float) -> float:  # noqa: ARG002 - the ledger's disk is not for that thread
        return float("inf")

    def drain(self) -> None:
        try:
            settle(DRAIN_SECONDS)
        except AgentMeterLedgerError as problem:
            refuse(problem)


_books: Final = _Books()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_books.__init__)  # type: ignore[misc]  # it begins anew


def book(event: Event) -> None:
    """Queue what an event costs its user. Does not wait; an event without a user costs nobody."""
    if not event.project_id or not (event.user_id or isinstance(event, InstantPayEvent)):
        return
    if event.event_id in _books.seen:
        return
    if len(_books.queue) >= BOOKINGS_MAX:
        refuse(AgentMeterLedgerError(f"{BOOKINGS_MAX} bookings wait for the ledger already"))
        return
    _books.seen[event.event_id] = None
    while len(_books.seen) > SEEN_MAX:
        _books.seen.pop(next(iter(_books.seen)), None)
    payment = isinstance(event, InstantPayEvent)
    _books.queue.append(
        _Booking(
            event.event_id,
            event.project_id,
            event.user_id or "",
            event.agent_id or "",
            event.exact_cost,
            payment,
            (event.description or "") if isinstance(event, InstantPayEvent) else "",
        )
    )
    _begin_writing()


def settle(timeout: float | None = None) -> None:
    """Write what is queued, now, for at most about ``timeout`` seconds. Blocks on the ledger.

    Raises `AgentMeterLedgerError`; what was not written stays queued.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    if not _books.writing.acquire(timeout=-1 if timeout is None else timeout):
        raise AgentMeterLedgerError("the ledger is being written for long already")
    try:
        while _books.queue:
            if deadline is not None and time.monotonic() > deadline:
                raise AgentMeterLedgerError(f"{len(_books.queue)} bookings were not written")
            _write(_taken())
    finally:
        _books.writing.release()


def payment_account(project: str, user: str | None) -> str:
    """The ledger's account whose balance instant payments are taken from."""
    return f"{project}/{user or ''}"


def _taken() -> list[_Booking]:
    """The next payment, or all of one user's costs until the next payment of anyone."""
    first = _books.queue.popleft()
    taken = [first]
    if first.payment:
        return taken
    others: list[_Booking] = []
    while _books.queue and not _books.queue[0].payment:
        booking = _books.queue.popleft()
        same = (booking.project, booking.user) == (first.project, first.user)
        (taken if same else others).append(booking)
    _books.queue.extendleft(reversed(others))
    return taken


def _write(bookings: list[_Booking]) -> None:
    ledger, first = wiring.ledger(), bookings[0]
    cost = total(*(booking.cost for booking in bookings))
    try:
        if first.payment:
            ledger.move(
                payment_account(first.project, first.user),
                -first.cost,
                id=first.event_id,
                description=first.description,
                details={"project": first.project, "user": first.user, "agent": first.agent},
            )
        if first.user:
            ledger.change_allowance(first.project, first.user, add=cost)
    except Exception as problem:
        _books.queue.extendleft(reversed(bookings))
        raise AgentMeterLedgerError(f"the ledger cannot be written: {problem}") from problem


def _begin_writing() -> None:
    chores = wiring.meter().current().chores
    if _books not in chores:
        chores.append(_books)
    if _books.running.acquire(blocking=False):
        try:
            # A bare thread: `threading.Thread.start` takes locks that an interrupted host may hold.
            _thread.start_new_thread(_run, (_books.running,))
        except RuntimeError:
            _books.running.release()  # At the end of the interpreter; close writes what is queued.


def _run(running: _thread.LockType) -> None:
    """Write until nothing is queued for a while; troubles are counted, and tried again later."""
    try:
        idle = False
        while not idle:
            time.sleep(PAUSE_SECONDS)
            idle = not _books.queue
            try:
                settle()
            except AgentMeterLedgerError as problem:
                refuse(problem)
                time.sleep(PAUSE_SECONDS * 10)
    finally:
        running.release()
