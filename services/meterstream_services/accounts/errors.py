"""Errors of the accounts directory, by what the caller must do.

::

    AccountsError
    ├── AccountsUnavailable   try again later; only questions about accounts wait
    ├── InvalidChanges        mend the changes named in it; nothing was applied
    ├── PreconditionFailed    read again: somebody else changed it first; nothing was applied
    ├── FeedExpired           export everything anew, then follow the changes from there
    └── NotEditable           change it where it is kept
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Flaw(NamedTuple):
    """What is wrong with one change. ``place`` is its place in the list, from 0."""

    place: int
    field: str
    value: str
    reason: str


class AccountsError(Exception):
    """Base of this package's errors; the message is one sentence for a person."""


class AccountsUnavailable(AccountsError):
    """The directory cannot be read or written now.

    ``in_doubt``: the answer to a change was lost, which may be kept or not. Each change can be
    made again: what is so already stays.
    """

    def __init__(self, message: str, *, in_doubt: bool = False) -> None:
        super().__init__(message)
        self.in_doubt = in_doubt


class InvalidChanges(AccountsError):
    """Some of the changes cannot be made, so none was."""

    def __init__(self, flaws: Sequence[Flaw]) -> None:
        first = flaws[0]
        more = f" (and {len(flaws) - 1} more)" if len(flaws) > 1 else ""
        super().__init__(f"{first.field}: {first.value[:64]!r} {first.reason}{more}")
        self.flaws = tuple(flaws)


class PreconditionFailed(AccountsError):
    """What is stored is not what the caller said it had read."""


class FeedExpired(AccountsError):
    """Changes that would come next are no longer kept."""


class NotEditable(AccountsError):
    """The accounts are kept elsewhere, and can only be looked up here."""
