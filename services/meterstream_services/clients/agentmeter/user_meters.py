"""Limits of users and what they have used, as AgentMeter keeps them, in the book.

Usage is what events of AgentMeter 0.2.0 that came in here cost since the last reset, and what was
added by hand. An event is booked after the log has it; its id is remembered with the sum, so that
one that is sent again is booked once, also by another process. What a crash leaves between log and
book is missing here until it is sent again, and never in the figures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from meterstream.compat.agentmeter.money import total
from meterstream_services.clients.agentmeter.projects import owner_of
from meterstream_services.clients.agentmeter.values import shown
from meterstream_services.clients.book import Book, Content
from meterstream_services.clients.exact_json import plain

KIND: Final = "agentmeter.user_meter"
SEEN_MAX: Final = 512
"""So many of the latest ids are remembered of each user: longer than clients go on repeating."""


def user_meter(book: Book, project: str, user: str, *, now: int) -> dict[str, Any]:
    """As it stands; nothing set and nothing used where nothing is kept."""
    return _answer(project, user, book.get(owner_of(project), KIND, user) or _new(now))


def set_threshold(
    book: Book, project: str, user: str, amount: Decimal, *, now: int
) -> dict[str, Any]:
    """Set the limit; 0 takes it away."""
    return _change(book, project, user, lambda _: {"threshold": plain(amount)}, now=now)


def increment(
    book: Book, project: str, user: str, amount: Decimal, *, now: int, key: str | None
) -> dict[str, Any]:
    """Add to what was used, once under each key."""

    def added(before: Content) -> Content:
        return {"used": plain(total(Decimal(before["used"]), amount))}

    return _change(book, project, user, added, now=now, key=key)


def reset(book: Book, project: str, user: str, *, now: int, key: str | None) -> dict[str, Any]:
    """Nothing was used as from now; the limit stays."""
    anew = {"used": "0", "reset": shown(now)}
    return _change(book, project, user, lambda _: anew, now=now, key=key)


def is_beyond(meter: dict[str, Any]) -> bool:
    """Whether more was used than the limit; never without one."""
    return bool(0 < meter["threshold_amount"] < meter["current_usage"])


def _change(
    book: Book,
    project: str,
    user: str,
    change: Callable[[Content], Content],
    *,
    now: int,
    key: str | None = None,
) -> dict[str, Any]:
    token = None if key is None else hashlib.sha256(key.encode()).hexdigest()[:24]

    def changed(before: Content | None) -> Content:
        kept = before or _new(now)
        if token is not None and token in kept["seen"]:
            return kept
        seen = kept["seen"] if token is None else [*kept["seen"], token][-SEEN_MAX:]
        return kept | change(kept) | {"updated": shown(now), "seen": seen}

    made = book.change(owner_of(project), KIND, user, changed)
    assert made is not None
    return _answer(project, user, made)


def _new(now: int) -> Content:
    at = shown(now)
    return {
        "threshold": "0",
        "used": "0",
        "created": at,
        "reset": at,
        "updated": at,
        "seen": list[str](),
    }


def _answer(project: str, user: str, kept: Content) -> dict[str, Any]:
    threshold, used = Decimal(kept["threshold"]), Decimal(kept["used"])
    return {
        "project_id": project,
        "user_id": user,
        "threshold_amount": threshold,
        "current_usage": used,
        "created_at": kept["created"],
        "last_reset_at": kept["reset"],
        "updated_at": kept["updated"],
    }
