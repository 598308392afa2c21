"""What planning asks for, and what it gives: the values to be written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from meterstream_services.accounts.history import History
from meterstream_services.accounts.model import Account, Kind, Recorded
from meterstream_services.accounts.port import Applied


class Lookup(Protocol):
    """What is stored now."""

    def stored_account(self, account_id: str) -> Account | None:
        """One account."""
        ...

    def stored_history(self, tenant: str) -> History:
        """One tenant's history, empty where it was never mapped."""
        ...

    def stored_tenants_of(self, account_id: str) -> Sequence[str]:
        """Tenants whose history names the account."""
        ...

    def stored_external(self, system: str, external_id: str) -> str | None:
        """The account that an external id means."""
        ...

    def stored_externals_of(self, account_id: str) -> Sequence[tuple[str, str]]:
        """The external ids of an account."""
        ...


@dataclass(slots=True)
class Plan:
    """Whole new values by id: what to write. None removes an account or an external id.

    ``was`` has what each of them was, by kind and id.
    """

    accounts: dict[str, Account | None] = field(default_factory=dict)
    histories: dict[str, History] = field(default_factory=dict)
    externals: dict[tuple[str, str], str | None] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    was_account: dict[str, Account | None] = field(default_factory=dict)
    was_history: dict[str, History] = field(default_factory=dict)
    was_external: dict[tuple[str, str], str | None] = field(default_factory=dict)

    def applied(self, *, detailed: bool) -> Applied:
        """What the changes came to."""
        return Applied(**self.counts, records=tuple(self.records()) if detailed else ())

    def records(self) -> Iterator[Recorded]:
        """What is different, in an order in which a mirror can follow: no account before it is."""
        for account_id, account in self.accounts.items():
            if account is not None and account != self.was_account[account_id]:
                yield Recorded(Kind.ACCOUNT, account_id, self.was_account[account_id], account)
        for tenant, history in self.histories.items():
            if history != self.was_history[tenant]:
                yield Recorded(Kind.TENANT, tenant, self.was_history[tenant], history)
        for key, meant in self.externals.items():
            if meant != self.was_external[key]:
                yield Recorded(Kind.EXTERNAL_ID, "/".join(key), self.was_external[key], meant)
        for account_id, account in self.accounts.items():
            if account is None and self.was_account[account_id] is not None:
                yield Recorded(Kind.ACCOUNT, account_id, self.was_account[account_id], None)
