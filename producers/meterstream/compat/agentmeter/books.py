"""What events cost, on its way into the ledger: no call of a host waits for the ledger's disk.

`book` only appends to a queue. A thread that lives as long as something is queued writes it within
a second or so; `settle` writes it now, and so do flush and close of the meter. Costs of one user
become one change of the allowance; each payment becomes one movement under an id of its own, so
that it is never noted twice. What a crash leaves unwritten is missing in the ledger, not in the
log.
"""

from __future__ import annotations

import _thread
import logging
import os
import time
from collections import deque
from contextlib import suppress
from decimal import Decimal
from typing import Final, NamedTuple

from meterstream.compat import wiring
from meterstream.compat.agentmeter.errors import AgentMeterLedgerError
from meterstream.compat.agentmeter.events import Event, InstantPayEvent
from meterstream.compat.agentmeter.money import exactly, total

BOOKINGS_MAX: Final = 100_000
"""Queued at most, while the ledger cannot be written; further ones are left out, which is told."""
SEEN_MAX: Final = 10_000
"""The latest event ids, each booked once however often it is recorded."""
PAUSE_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 5.0
SETTLE_SECONDS: Final = 5.0
DRAIN_SECONDS: Final = 2.0

_log: Final = logging.getLogger("meterstream")


class _Booking(NamedTuple):
    event_id: str
    project: str
    user: str
    agent: str
    cost: Decimal
    payment: str | None
    """The description of an instant payment, None for anything else."""


class _Books:
    """The queue of a process, and what was taken from it and is not written yet."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Empty; again in the child of a fork, whose parent writes its own."""
        self.queue: deque[_Booking] = deque()
        self.payments: deque[_Booking] = deque()
        self.owed: dict[tuple[str, str], Decimal] = {}
        self.seen: dict[tuple[str, str], object] = {}
        self.order: deque[tuple[str, str]] = deque()
        self.trouble: str | None = None
        self.writing = _thread.allocate_lock()
        self.running = _thread.allocate_lock()

    def due(self, now: float) -> float:  # noqa: ARG002 - the ledger's disk is not for that thread
        """Never: a chore of the meter's for the sake of `drain` alone."""
        return float("inf")

    def drain(self, patience_seconds: float = DRAIN_SECONDS) -> None:
        """Called by flush and close of the meter: write what is queued."""
        with suppress(AgentMeterLedgerError):  # Told where it came up.
            settle(max(patience_seconds, DRAIN_SECONDS))


_books: Final = _Books()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_books.begin)


def book(event: Event) -> None:
    """Queue what an event costs its user. Does not wait; what costs nobody anything is left out."""
    payment = (event.description or "") if isinstance(event, InstantPayEvent) else None
    if not event.project_id or not event.exact_cost or (payment is None and not event.user_id):
        return
    if len(_books.queue) >= BOOKINGS_MAX:
        _tell(f"{BOOKINGS_MAX} bookings wait for the ledger; further ones are left out")
        return
    mark = object()
    place = event.project_id, event.event_id
    if _books.seen.setdefault(place, mark) is not mark:
        return
    _books.order.append(place)
    while len(_books.order) > SEEN_MAX:
        _books.seen.pop(_books.order.popleft(), None)
    _books.queue.append(
        _Booking(
            event.event_id,
            event.project_id,
            event.user_id or "",
            event.agent_id or "",
            event.exact_cost,
            payment,
        )
    )
    _begin_writing()


def settle(timeout: float = SETTLE_SECONDS) -> None:
    """Write what is queued, now, for at most about ``timeout`` seconds. Blocks on the ledger.

    Raises `AgentMeterLedgerError`; what was not written stays queued.
    """
    deadline = time.monotonic() + timeout
    if not _books.writing.acquire(timeout=timeout):
        raise AgentMeterLedgerError("the ledger is being written for long already")
    try:
        _sort()
        with exactly():
            while (_books.payments or _books.owed) and time.monotonic() < deadline:
                _write_one()
        if not (_books.payments or _books.owed):
            _books.trouble = None
            return
    except Exception as problem:
        _tell(f"the ledger cannot be written: {problem}")
        raise AgentMeterLedgerError(f"the ledger cannot be written: {problem}") from problem
    finally:
        _books.writing.release()
    raise AgentMeterLedgerError("the ledger is slow: some bookings wait still")


def payment_account(project: str, user: str | None) -> str:
    """The ledger's account whose balance instant payments are taken from."""
    return f"{project}/{user or ''}"


def payment_id(project: str, event_id: str) -> str:
    """The id of a payment in the ledger's journal: event ids are unique within their project."""
    return f"{project}/{event_id}"


def _sort() -> None:
    """From the queue to sums by user and single payments."""
    while _books.queue:
        booking = _books.queue.popleft()
        if booking.payment is not None:
            _books.payments.append(booking)
        if booking.user:
            user = booking.project, booking.user
            _books.owed[user] = total(_books.owed.get(user, Decimal(0)), booking.cost)


def _write_one() -> None:
    ledger = wiring.ledger()
    if _books.payments:
        payment = _books.payments[0]
        ledger.move(
            payment_account(payment.project, payment.user),
            payment.cost.copy_negate(),
            id=payment_id(payment.project, payment.event_id),
            description=payment.payment or "",
            details={"project": payment.project, "user": payment.user, "agent": payment.agent},
        )
        _books.payments.popleft()
    else:
        (project, user), cost = next(iter(_books.owed.items()))
        ledger.change_allowance(project, user, add=cost)
        del _books.owed[project, user]


def _begin_writing() -> None:
    chores = wiring.meter().current().chores
    if _books not in chores:
        chores.append(_books)
    if _books.running.acquire(blocking=False):
        try:
            # A bare thread: `threading.Thread.start` takes locks that an interrupted host may hold.
            _thread.start_new_thread(_write_for_a_while, ())
        except RuntimeError:
            _books.running.release()  # At the end of the interpreter; close writes what is queued.


def _write_for_a_while() -> None:
    """Write until nothing is queued. Trouble is told once, and tried again later."""
    running = _books.running
    while True:
        time.sleep(PAUSE_SECONDS)
        try:
            settle()
        except AgentMeterLedgerError:
            time.sleep(RETRY_SECONDS)
            continue
        if not _books.queue:
            running.release()
            # What came between these two lines found a thread that was about to end.
            if not _books.queue or not running.acquire(blocking=False):
                return


def _tell(trouble: str) -> None:
    """One line when the trouble begins, not one for each booking."""
    if _books.trouble is None:
        _log.error("%s", trouble)
    _books.trouble = trouble
