"""What a list of changes makes of the directory, decided here for every implementation. Pure.

The plan works on what `Lookup` finds and on its own earlier steps, so that an import may make an
account in one row and use it in the next. Every flaw is collected before anything is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from meterstream_services.accounts.errors import Flaw, InvalidChanges, PreconditionFailed
from meterstream_services.accounts.history import BEGINNING, History, assigned
from meterstream_services.accounts.model import (
    Account,
    AccountStatus,
    Assign,
    Change,
    RemoveAccount,
    SetAccount,
    flaws_of,
    tag_of,
)
from meterstream_services.accounts.port import Applied, Expected

FLAWS_MAX: Final = 1000
"""Flaws that are collected before a list of changes is given up."""


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


@dataclass(slots=True)
class Plan:
    """Whole new values by id: what to write. None removes an account."""

    accounts: dict[str, Account | None] = field(default_factory=dict)
    histories: dict[str, History] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def applied(self) -> Applied:
        """What the changes came to."""
        return Applied(**self.counts)


class _Refused(Exception):
    """One change cannot be made."""

    def __init__(self, field_: str, value: str, reason: str) -> None:
        super().__init__(reason)
        self.field, self.value, self.reason = field_, value, reason


def plan(changes: Sequence[Change], lookup: Lookup, expected: Expected | None = None) -> Plan:
    """The plan for all changes. Raises `InvalidChanges` or `PreconditionFailed`."""
    if expected is not None:
        _check(expected, lookup)
    planner = _Planner(lookup)
    flaws: list[Flaw] = []
    for index, change in enumerate(changes):
        found = [Flaw(index, *flaw) for flaw in flaws_of(change)]
        if not found:
            try:
                planner.step(change)
            except _Refused as problem:
                found = [Flaw(index, problem.field, problem.value, problem.reason)]
        flaws.extend(found)
        if len(flaws) >= FLAWS_MAX:
            break
    if flaws:
        raise InvalidChanges(flaws)
    return planner.made


def _check(expected: Expected, lookup: Lookup) -> None:
    if expected.account is not None:
        stored: Account | History | None = lookup.stored_account(expected.account)
        subject = f"account {expected.account!r}"
    else:
        stored = lookup.stored_history(expected.tenant or "")
        subject = f"tenant {expected.tenant!r}"
    tag = tag_of(stored)
    if tag == expected.tag or (expected.tag is None and stored):
        return
    if expected.tag == "0":
        raise PreconditionFailed(f"{subject} is there already; read it, and change what you mean")
    told = "is not there" if not stored else "was changed by somebody else"
    raise PreconditionFailed(f"{subject} {told}; read it again, then decide anew")


class _Planner:
    """Takes one change after the other."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self.made = Plan()

    def step(self, change: Change) -> None:
        """Add a change to the plan. Raises `_Refused`."""
        match change:
            case SetAccount():
                self._set(change)
            case RemoveAccount():
                self._remove(change.id)
            case Assign():
                self._assign(change)

    def _account(self, account_id: str) -> Account | None:
        if account_id in self.made.accounts:
            return self.made.accounts[account_id]
        return self._lookup.stored_account(account_id)

    def _history(self, tenant: str) -> History:
        if tenant in self.made.histories:
            return self.made.histories[tenant]
        return self._lookup.stored_history(tenant)

    def _set(self, change: SetAccount) -> None:
        known = self._account(change.id)
        account = known or Account(change.id)
        given = {
            name: value
            for name in ("name", "zone", "billing_anchor", "labels", "status")
            if (value := getattr(change, name)) is not None
        }
        if "labels" in given:
            given["labels"] = tuple(sorted(given["labels"]))
        account = replace(account, **given)
        if account == known:
            self.made.counts["unchanged"] += 1
            return
        self.made.accounts[change.id] = account
        self.made.counts["accounts_changed" if known else "accounts_created"] += 1

    def _remove(self, account_id: str) -> None:
        if self._account(account_id) is None:
            raise _Refused("account", account_id, "is not there")
        named = [
            *(
                t
                for t in self._lookup.stored_tenants_of(account_id)
                if t not in self.made.histories
            ),
            *(t for t, h in self.made.histories.items() if any(a == account_id for _, a in h)),
        ]
        if named:
            raise _Refused(
                "account",
                account_id,
                f"is in the history of {len(named)} tenants (such as {named[0]!r}), which bills "
                f"rest on; set its status to {AccountStatus.CLOSED} instead",
            )
        self.made.accounts[account_id] = None
        self.made.counts["accounts_removed"] += 1

    def _assign(self, change: Assign) -> None:
        if change.account is not None and self._account(change.account) is None:
            raise _Refused("account", change.account, "is not there; make the account first")
        known = self._history(change.tenant)
        start = BEGINNING if change.start is None else change.start
        wanted = assigned(known, change.account, start)
        if change.start is None and known and wanted != known:
            raise _Refused(
                "from",
                "",
                f"is missing: tenant {change.tenant!r} is mapped already; say from when on this "
                "applies",
            )
        if wanted == known:
            self.made.counts["unchanged"] += 1
            return
        self.made.histories[change.tenant] = wanted
        self.made.counts["tenants_changed"] += 1
