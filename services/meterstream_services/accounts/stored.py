"""Accounts and histories in the directory's tables: how rows are read, and what planning reads."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from meterstream_services.accounts.history import History
from meterstream_services.accounts.model import (
    Account,
    AccountStatus,
    Assign,
    Change,
    Move,
    SetAccount,
    SetExternalId,
)
from meterstream_services.sql.port import Reading, Row

ACCOUNT_COLUMNS: Final = "id, name, zone, billing_anchor, labels, status, merged_into, merged_from"
ACCOUNT_QUERY: Final = f"SELECT {ACCOUNT_COLUMNS} FROM account"  # noqa: S608 - names of columns

_SURROGATE_OR_NUL: Final = re.compile("[\x00\ud800-\udfff]")
AT_ONCE: Final = 500
"""Ids that one statement asks for."""

_Key = TypeVar("_Key")
_Found = TypeVar("_Found")


class Stored:
    """What is stored, as planning asks for it; what ``changes`` name is read in few statements."""

    def __init__(self, session: Reading, changes: Sequence[Change] = ()) -> None:
        self._session = session
        self._accounts: dict[str, Account | None] = {}
        self._histories: dict[str, History] = {}
        self._externals: dict[tuple[str, str], str | None] = {}
        if len(changes) > 1:
            self._read_ahead(changes)

    def _read_ahead(self, changes: Sequence[Change]) -> None:
        accounts: dict[str, None] = {}
        tenants: dict[str, None] = {}
        externals: dict[str, dict[str, None]] = {}
        for change in changes:
            match change:
                case SetAccount():
                    accounts[change.id] = None
                case Assign() | Move():
                    tenants[change.tenant] = None
                    if change.account is not None:
                        accounts[change.account] = None
                case SetExternalId():
                    externals.setdefault(change.system, {})[change.external_id] = None
                case _:
                    pass
        accounts, tenants = _storable(accounts), _storable(tenants)
        externals = {
            system: _storable(ids) for system, ids in externals.items() if _storable([system])
        }
        for row in _rows_in(self._session, f"{ACCOUNT_QUERY} WHERE id IN", [*accounts]):
            self._accounts[row[0]] = account_of_row(row)
        found = read_histories(self._session, [*tenants])
        self._accounts = {each: self._accounts.get(each) for each in accounts}
        self._histories = {tenant: found.get(tenant, ()) for tenant in tenants}
        for system, ids in externals.items():
            query = (
                "SELECT external_id, account FROM external_id WHERE system = ? AND external_id IN"
            )
            meant: dict[str, str] = dict(_rows_in(self._session, query, [*ids], system))
            self._externals.update({(system, each): meant.get(each) for each in ids})

    def stored_account(self, account_id: str) -> Account | None:
        """For planning: one account."""

        def read() -> Account | None:
            rows = self._session.rows(f"{ACCOUNT_QUERY} WHERE id = ?", (account_id,))
            return account_of_row(rows[0]) if rows else None

        return _once(self._accounts, account_id, read)

    def stored_history(self, tenant: str) -> History:
        """For planning: one history."""
        return _once(
            self._histories, tenant, lambda: read_histories(self._session, [tenant]).get(tenant, ())
        )

    def stored_tenants_of(self, account_id: str) -> Sequence[str]:
        """For planning: tenants whose history names an account."""
        found = self._session.rows(
            "SELECT DISTINCT tenant FROM tenancy WHERE account = ? ORDER BY tenant", (account_id,)
        )
        return [row[0] for row in found]

    def stored_external(self, system: str, external_id: str) -> str | None:
        """For planning: the account that an external id means."""

        def read() -> str | None:
            rows = self._session.rows(
                "SELECT account FROM external_id WHERE system = ? AND external_id = ?",
                (system, external_id),
            )
            return rows[0][0] if rows else None

        return _once(self._externals, (system, external_id), read)

    def stored_externals_of(self, account_id: str) -> Sequence[tuple[str, str]]:
        """For planning: the external ids of an account."""
        found = self._session.rows(
            "SELECT system, external_id FROM external_id WHERE account = ?"
            " ORDER BY system, external_id",
            (account_id,),
        )
        return [(system, external_id) for system, external_id in found]


def _once(known: dict[_Key, _Found], key: _Key, read: Callable[[], _Found]) -> _Found:
    if key not in known:
        known[key] = read()
    return known[key]


def _storable(names: Iterable[str]) -> dict[str, None]:
    """Those that a database can be asked for; planning refuses the others."""
    return {name: None for name in names if _SURROGATE_OR_NUL.search(name) is None}


def _rows_in(session: Reading, query: str, ids: Sequence[str], *first: str) -> Iterator[Row]:
    for at in range(0, len(ids), AT_ONCE):
        some = ids[at : at + AT_ONCE]
        yield from session.rows(f"{query} ({', '.join('?' * len(some))})", (*first, *some))


def read_histories(session: Reading, tenants: Sequence[str]) -> dict[str, History]:
    """The histories of those tenants that have one."""
    found: dict[str, list[tuple[int, str | None]]] = {}
    query = "SELECT tenant, start, account FROM tenancy WHERE tenant IN"
    for tenant, start, account in _rows_in(session, query, tenants):
        found.setdefault(tenant, []).append((start, account))
    return {
        tenant: tuple(sorted(entries, key=lambda entry: entry[0]))
        for tenant, entries in found.items()
    }


def row_of_account(account: Account) -> tuple[str | int | None, ...]:
    """An account as its row, in the order of `ACCOUNT_COLUMNS`."""
    return (
        account.id,
        account.name,
        account.zone,
        account.billing_anchor,
        json.dumps(account.labels),
        account.status.value,
        account.merged_into,
        account.merged_from,
    )


def account_of_row(row: Sequence[Any]) -> Account:
    """The account that a row is."""
    account_id, name, zone, billing_anchor, labels, status, merged_into, merged_from = row
    return Account(
        account_id,
        name,
        zone,
        billing_anchor,
        tuple((label, value) for label, value in json.loads(labels)),
        AccountStatus(status),
        merged_into,
        merged_from,
    )
