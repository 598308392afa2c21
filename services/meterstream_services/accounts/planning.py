"""What a list of changes makes of the directory, decided here for every implementation. Pure.

The plan works on what `Lookup` finds and on its own earlier steps, so that an import may make an
account in one row and use it in the next. Every flaw is collected before anything is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from meterstream_services.accounts.errors import Flaw, InvalidChanges, PreconditionFailed
from meterstream_services.accounts.history import (
    BEGINNING,
    History,
    account_at,
    assigned,
    replaced,
    restored,
)
from meterstream_services.accounts.model import (
    Account,
    AccountStatus,
    Assign,
    Change,
    Merge,
    Move,
    RemoveAccount,
    SetAccount,
    SetExternalId,
    Unmerge,
    flaws_of,
    tag_of,
)
from meterstream_services.accounts.plans import Lookup, Plan
from meterstream_services.accounts.port import Expected

FLAWS_MAX: Final = 1000
"""Flaws that are collected before a list of changes is given up."""

_FIELDS: Final = ("name", "zone", "billing_anchor", "labels", "status")


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
            case Move():
                self._move(change)
            case Merge():
                self._merge(change)
            case Unmerge():
                self._unmerge(change.account)
            case SetExternalId():
                self._set_external(change)

    def _account(self, account_id: str) -> Account | None:
        if account_id in self.made.accounts:
            return self.made.accounts[account_id]
        return self._lookup.stored_account(account_id)

    def _there(self, account_id: str, field_: str = "account") -> Account:
        found = self._account(account_id)
        if found is None:
            raise _Refused(field_, account_id, "is not there; make the account first")
        return found

    def _history(self, tenant: str) -> History:
        if tenant in self.made.histories:
            return self.made.histories[tenant]
        return self._lookup.stored_history(tenant)

    def _tenants_of(self, account_id: str) -> list[str]:
        stored = self._lookup.stored_tenants_of(account_id)
        planned = self.made.histories
        return [
            *(t for t in stored if t not in planned),
            *(t for t, h in planned.items() if any(who == account_id for _, who in h)),
        ]

    def _put_account(self, account_id: str, account: Account | None, known: Account | None) -> None:
        self.made.was_account.setdefault(account_id, known)
        self.made.accounts[account_id] = account

    def _put_history(self, tenant: str, wanted: History, known: History) -> bool:
        if wanted == known:
            return False
        self.made.was_history.setdefault(tenant, known)
        self.made.histories[tenant] = wanted
        self.made.counts["tenants_changed"] += 1
        return True

    def _set(self, change: SetAccount) -> None:
        known = self._account(change.id)
        account = known or Account(change.id)
        given = {name: value for name in _FIELDS if (value := getattr(change, name)) is not None}
        if "labels" in given:
            given["labels"] = tuple(sorted(given["labels"]))
        account = replace(account, **given)
        was_merged = known is not None and known.status is AccountStatus.MERGED
        if was_merged != (account.status is AccountStatus.MERGED):
            told = (
                f"is not for an account that was merged into {account.merged_into!r}; leave it "
                "out, or undo the merge first"
                if was_merged
                else "is what a merge makes; merge the account into another"
            )
            raise _Refused("status", account.status, told)
        if account == known:
            self.made.counts["unchanged"] += 1
            return
        self._put_account(change.id, account, known)
        self.made.counts["accounts_changed" if known else "accounts_created"] += 1

    def _remove(self, account_id: str) -> None:
        known = self._account(account_id)
        if known is None:
            raise _Refused("account", account_id, "is not there")
        named = self._tenants_of(account_id)
        if named:
            raise _Refused(
                "account",
                account_id,
                f"is in the history of {len(named)} tenants (such as {named[0]!r}), which bills "
                f"rest on; set its status to {AccountStatus.CLOSED} instead",
            )
        keys = {*self._lookup.stored_externals_of(account_id), *self.made.externals}
        for key in sorted(keys):
            if self._external(key) == account_id:
                self._put_external(key, None)
        self._put_account(account_id, None, known)
        self.made.counts["accounts_removed"] += 1

    def _assign(self, change: Assign) -> None:
        account = None if change.account is None else self._there(change.account)
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
        if wanted != known:
            _not_merged(account, "account")
        if not self._put_history(change.tenant, wanted, known):
            self.made.counts["unchanged"] += 1

    def _move(self, change: Move) -> None:
        account = self._there(change.account)
        known = self._history(change.tenant)
        found = account_at(known, change.start)
        if found == change.account:
            self.made.counts["unchanged"] += 1
            return
        if change.source is not None and found != change.source:
            told = "none" if found is None else repr(found)
            raise _Refused(
                "tenant", change.tenant, f"belongs to {told} then, not to {change.source!r}"
            )
        _not_merged(account, "account")
        self._put_history(change.tenant, assigned(known, change.account, change.start), known)

    def _merge(self, change: Merge) -> None:
        account, into = self._there(change.account), self._there(change.into, "into")
        if change.account == change.into:
            raise _Refused("into", change.into, "is the account itself; name another")
        if account.merged_into not in {None, change.into}:
            raise _Refused(
                "account", change.account, f"was merged into {account.merged_into!r} already"
            )
        _not_merged(into, "into")
        start = change.start
        if account.merged_from is not None:
            start = min(start, account.merged_from)
        moved = [
            self._put_history(
                tenant, replaced(known, change.account, change.into, change.start), known
            )
            for tenant in self._tenants_of(change.account)
            for known in (self._history(tenant),)
        ]
        merged = replace(
            account, status=AccountStatus.MERGED, merged_into=into.id, merged_from=start
        )
        if merged != account:
            self._put_account(change.account, merged, account)
            self.made.counts["accounts_changed"] += 1
        elif not any(moved):
            self.made.counts["unchanged"] += 1

    def _unmerge(self, account_id: str) -> None:
        account = self._there(account_id)
        if account.merged_into is None or account.merged_from is None:
            self.made.counts["unchanged"] += 1
            return
        for tenant in self._tenants_of(account_id):
            known = self._history(tenant)
            wanted = restored(known, account_id, account.merged_into, account.merged_from)
            self._put_history(tenant, wanted, known)
        opened = replace(account, status=AccountStatus.ACTIVE, merged_into=None, merged_from=None)
        self._put_account(account_id, opened, account)
        self.made.counts["accounts_changed"] += 1

    def _external(self, key: tuple[str, str]) -> str | None:
        if key in self.made.externals:
            return self.made.externals[key]
        return self._lookup.stored_external(*key)

    def _put_external(self, key: tuple[str, str], account: str | None) -> None:
        self.made.was_external.setdefault(key, self._external(key))
        self.made.externals[key] = account
        self.made.counts["external_ids_changed"] += 1

    def _set_external(self, change: SetExternalId) -> None:
        key = (change.system, change.external_id)
        known = self._external(key)
        if known == change.account:
            self.made.counts["unchanged"] += 1
            return
        if change.account is not None:
            self._there(change.account)
            if known is not None:
                raise _Refused(
                    "external_id",
                    change.external_id,
                    f"means account {known!r} in {change.system!r} already; take it away there "
                    "first",
                )
        self._put_external(key, change.account)


def _not_merged(account: Account | None, field_: str) -> None:
    if account is not None and account.merged_into is not None:
        raise _Refused(
            field_, account.id, f"was merged into {account.merged_into!r}; name that one"
        )
