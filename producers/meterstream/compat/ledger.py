"""Money beside usage: balances, allowances and payments, as a port and as a local ledger.

Some documented calls mean something only with a party that holds money: a wallet that is charged, a
user's monthly limit, an instant payment. Here they work against `Ledger`. `LocalLedger` is its
implementation for development and for small hosts; whoever has a payment service gives a ledger of
their own to `meterstream.compat.wiring.use`.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from meterstream.compat.json_file import JsonFile
from meterstream.errors import MeterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

EXACT: Final = Context(prec=200, traps=[Inexact])
"""Sums that are never rounded, whatever context the host works in."""
PAYMENTS_MAX: Final = 10_000
"""Payments that a local ledger keeps; the oldest leave, and their effect on the balance stays."""


class Payment(NamedTuple):
    """One movement of a balance: positive amounts add to it, negative ones are taken from it."""

    id: str
    account: str
    amount: Decimal
    time: datetime
    description: str
    details: Mapping[str, str]


class Allowance(NamedTuple):
    """What a user of a project may use, and used since the last reset."""

    threshold: Decimal
    used: Decimal
    since: datetime


class Insufficient(MeterError):
    """A movement would take more than there is. Nothing was moved."""

    def __init__(self, account: str, balance: Decimal, amount: Decimal) -> None:
        super().__init__(f"{account!r} has {balance}, which does not cover {amount}")
        self.account = account
        self.balance = balance
        self.amount = amount


class Ledger(Protocol):
    """The port. Implementations are safe from any thread; amounts are `Decimal`."""

    def balance(self, account: str) -> Decimal | None:
        """What an account holds; None for one that never moved."""
        ...

    def move(
        self,
        account: str,
        amount: Decimal,
        *,
        description: str = "",
        details: Mapping[str, str] | None = None,
        id: str | None = None,  # noqa: A002 - a payment's own field
        floor: Decimal | None = None,
    ) -> Payment:
        """Add an amount (or take a negative one) and note it in the journal.

        An ``id`` that is known already moves nothing and returns the payment noted then. Raises
        `Insufficient` where the balance would fall below ``floor``; None is no floor.
        """
        ...

    def payments(self, account: str | None = None, *, limit: int = 100) -> Sequence[Payment]:
        """The latest payments, newest first."""
        ...

    def allowance(self, project: str, user: str) -> Allowance | None:
        """What a user may use; None where nothing was ever set or used."""
        ...

    def change_allowance(
        self,
        project: str,
        user: str,
        *,
        threshold: Decimal | None = None,
        add: Decimal = Decimal(0),
        reset: bool = False,
    ) -> Allowance:
        """Set the threshold, reset what was used to nothing, add to it: in this order."""
        ...


class LocalLedger:
    """A `Ledger` in one JSON file, or in memory without a path. Blocks on the disk."""

    def __init__(self, path: Path | None = None) -> None:
        self._file: Final = JsonFile(path)

    def balance(self, account: str) -> Decimal | None:
        """See `Ledger`."""
        text = self._file.read().get("balances", {}).get(account)
        return None if text is None else Decimal(text)

    def move(
        self,
        account: str,
        amount: Decimal,
        *,
        description: str = "",
        details: Mapping[str, str] | None = None,
        id: str | None = None,  # noqa: A002 - a payment's own field
        floor: Decimal | None = None,
    ) -> Payment:
        """See `Ledger`. An id is known as long as its payment is among the ones kept."""
        _check(amount)
        with self._file.changed() as document:
            journal: list[Any] = document.setdefault("payments", [])
            if id is not None:
                for noted in reversed(journal):
                    if noted["id"] == id:
                        return _payment(noted)
            balances = document.setdefault("balances", {})
            before = Decimal(balances.get(account, "0"))
            after = EXACT.add(before, amount)
            if floor is not None and after < floor:
                raise Insufficient(account, before, -amount)
            balances[account] = format(after, "f")
            noted = {
                "id": os.urandom(16).hex() if id is None else id,
                "account": account,
                "amount": format(amount, "f"),
                "time": datetime.now(UTC).isoformat(),
                "description": description,
                "details": dict(details or {}),
            }
            journal.append(noted)
            del journal[:-PAYMENTS_MAX]
        return _payment(noted)

    def payments(self, account: str | None = None, *, limit: int = 100) -> Sequence[Payment]:
        """See `Ledger`."""
        journal = self._file.read().get("payments", [])
        found = (noted for noted in reversed(journal) if account in {None, noted["account"]})
        return [_payment(noted) for _, noted in zip(range(limit), found, strict=False)]

    def allowance(self, project: str, user: str) -> Allowance | None:
        """See `Ledger`."""
        noted = self._file.read().get("allowances", {}).get(project, {}).get(user)
        return None if noted is None else _allowance(noted)

    def change_allowance(
        self,
        project: str,
        user: str,
        *,
        threshold: Decimal | None = None,
        add: Decimal = Decimal(0),
        reset: bool = False,
    ) -> Allowance:
        """See `Ledger`."""
        _check(add, Decimal(0) if threshold is None else threshold)
        now = datetime.now(UTC).isoformat()
        with self._file.changed() as document:
            users = document.setdefault("allowances", {}).setdefault(project, {})
            noted = users.setdefault(user, {"threshold": "0", "used": "0", "since": now})
            if threshold is not None:
                noted["threshold"] = format(threshold, "f")
            if reset:
                noted |= {"used": "0", "since": now}
            noted["used"] = format(EXACT.add(Decimal(noted["used"]), add), "f")
        return _allowance(noted)


def _check(*amounts: Decimal) -> None:
    for amount in amounts:
        if not amount.is_finite():
            raise ValueError(f"{amount} is no amount; pass a finite Decimal")


def _payment(noted: Mapping[str, Any]) -> Payment:
    return Payment(
        id=noted["id"],
        account=noted["account"],
        amount=Decimal(noted["amount"]),
        time=datetime.fromisoformat(noted["time"]),
        description=noted["description"],
        details=noted["details"],
    )


def _allowance(noted: Mapping[str, Any]) -> Allowance:
    return Allowance(
        threshold=Decimal(noted["threshold"]),
        used=Decimal(noted["used"]),
        since=datetime.fromisoformat(noted["since"]),
    )
