"""The accounts directory as its users see it: one port to look up, another to change as well.

Implementations are safe to use from several threads. Every method may block on a disk or a network
and may raise `AccountsUnavailable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from meterstream_services.accounts.history import History
from meterstream_services.accounts.model import Account, Change, Recorded


class Expected(NamedTuple):
    """What must be stored for a change to be made: ``tag`` as `tag_of` gives it.

    One of ``account`` and ``tenant`` is set. A ``tag`` of None stands for anything that is there;
    "0" for nothing.
    """

    account: str | None = None
    tenant: str | None = None
    tag: str | None = None


class Applied(NamedTuple):
    """What changes came to. A change to what was so already counts as ``unchanged``."""

    accounts_created: int = 0
    accounts_changed: int = 0
    accounts_removed: int = 0
    tenants_changed: int = 0
    unchanged: int = 0
    external_ids_changed: int = 0
    records: tuple[Recorded, ...] = ()
    """What was changed, where that was asked for."""


class Feed(NamedTuple):
    """Some changes in their order. ``last`` is the newest sequence that there is, 0 for none."""

    records: list[Recorded]
    last: int


class Directory(Protocol):
    """Looking up. What it answers may be as old as the implementation says."""

    def account(self, account_id: str) -> Account | None:
        """One account, or None where there is none of that id."""
        ...

    def accounts(self, *, after: str | None = None, limit: int = 1000) -> list[Account]:
        """Accounts by id, those greater than ``after``."""
        ...

    def histories(self, tenants: Sequence[str]) -> dict[str, History]:
        """The histories of tenants; those never mapped are absent."""
        ...

    def tenants_of(self, account_id: str) -> list[str]:
        """Every tenant that ever belonged to an account, sorted."""
        ...

    def external_ids(self, account_id: str) -> list[tuple[str, str]]:
        """The (system, id) pairs that mean an account, sorted."""
        ...

    def account_of(self, system: str, external_id: str) -> str | None:
        """The account that an id of another system means; None for none."""
        ...


class EditableDirectory(Directory, Protocol):
    """A directory that keeps its own accounts. Those that do not raise `NotEditable`."""

    def apply(
        self,
        changes: Sequence[Change],
        *,
        expected: Expected | None = None,
        dry_run: bool = False,
        detailed: bool = False,
    ) -> Applied:
        """Make all of the changes, in order, or none; durable when it returns.

        ``dry_run`` does everything but keep the result. ``detailed`` asks for the records. Raises
        `InvalidChanges` with every flaw found, and `PreconditionFailed` where something else is
        stored than ``expected`` says.
        """
        ...

    def changes(self, *, after: int, limit: int = 1000) -> Feed:
        """What was changed after that sequence, oldest first. Raises `FeedExpired`."""
        ...

    def close(self) -> None:
        """Let go of files and connections. Idempotent."""
        ...
