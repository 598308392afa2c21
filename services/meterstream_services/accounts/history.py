"""To which account a tenant belonged when: the instants from which something applies. Pure.

A history is a tuple of (from, account), ascending; each entry holds until the next begins, the last
for ever, and before the first the tenant is unmapped. `BEGINNING` stands before every event. An
account of None ends a mapping.

Entries stay as they were said, also where one repeats its neighbour. So what was said about one
instant is never touched by what is said about another: the same statements give the same history
in any order, and once more changes nothing.
"""

from __future__ import annotations

from bisect import bisect_right
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
    index = bisect_right(history, time, key=_start)
    return history[index - 1][1] if index else None


def spell_at(history: History, time: int) -> Spell:
    """The account in force at an instant, and the whole stretch of time in which it is."""
    index = bisect_right(history, time, key=_start)
    account = history[index - 1][1] if index else None
    until = next((start for start, other in history[index:] if other != account), None)
    since: int | None = None
    for start, other in reversed(history[:index]):
        if other != account:
            return Spell(account, since, until)
        since = start
    return Spell(account, since if account is not None else None, until)


def sole_account(history: History, first: int, last: int) -> str | None:
    """The one account in force from ``first`` to ``last``; None where there are more."""
    spell = spell_at(history, first)
    whole = spell.until is None or last < spell.until
    return spell.account if whole else None


def assigned(history: History, account: str | None, start: int) -> History:
    """The history with ``account`` in force from ``start`` until the next instant it knows."""
    return tuple(sorted((dict(history) | {start: account}).items(), key=_start))


def replaced(history: History, account: str, by: str, start: int) -> History:
    """The history with ``by`` wherever ``account`` would be from ``start`` on."""
    later = tuple((at, by if at >= start and who == account else who) for at, who in history)
    return assigned(later, by, start) if account_at(history, start) == account else later


def restored(history: History, account: str, by: str, start: int) -> History:
    """What `replaced` made of a history where ``account`` was in force at ``start``, taken back."""
    index = bisect_right(history, start, key=_start) - 1
    if index < 1 or history[index] != (start, by) or history[index - 1][1] != account:
        return history
    return history[:index] + history[index + 1 :]


def _start(entry: tuple[int, str | None]) -> int:
    return entry[0]
