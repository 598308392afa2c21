"""To which account a tenant belonged when: a list of changes, in normal form. Pure.

A history is a tuple of (from, account), ascending; each entry holds until the next begins, the last
for ever, and before the first the tenant is unmapped. `BEGINNING` stands before every event. An
account of None ends a mapping. In normal form neighbours differ and the first is not None, so two
histories that say the same are equal.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final, NamedTuple

BEGINNING: Final = 0
"""1970-01-01 UTC, in microseconds: no event is older."""

History = tuple[tuple[int, str | None], ...]


class Spell(NamedTuple):
    """The stretch of time [since, until) that holds an instant; None where it has no such end."""

    account: str | None
    since: int | None
    until: int | None


def account_at(history: History, time: int) -> str | None:
    """The account in force at an instant, or None while unmapped. ``time`` in microseconds UTC."""
    return spell_at(history, time).account


def spell_at(history: History, time: int) -> Spell:
    """The account in force at an instant, and since and until when it is."""
    index = bisect_right(history, time, key=_start)
    until = history[index][0] if index < len(history) else None
    if index == 0:
        return Spell(None, None, until)
    since, account = history[index - 1]
    return Spell(account, since, until)


def sole_account(history: History, first: int, last: int) -> str | None:
    """The one account in force from ``first`` to ``last``; None where there are more."""
    spell = spell_at(history, first)
    whole = spell.until is None or last < spell.until
    return spell.account if whole else None


def assigned(history: History, account: str | None, start: int) -> History:
    """The history with ``account`` in force from ``start`` until the next change known."""
    changed = dict(history)
    changed[start] = account
    return normal(changed.items())


def normal(changes: Iterable[tuple[int, str | None]]) -> History:
    """(from, account) pairs in normal form: ascending, no change that changes nothing."""
    kept: list[tuple[int, str | None]] = []
    for start, account in sorted(changes, key=_start):
        if account != (kept[-1][1] if kept else None):
            kept.append((start, account))
    return tuple(kept)


def _start(change: tuple[int, str | None]) -> int:
    return change[0]
