"""CLIMeter's wallet: calls that are paid before they are made, against the ledger's port.

Prices are declared, since the published client has them in its dashboard: a definition of kind
``climeter.tool`` under the tool's slug, ``{"price": "0.40", "free_calls": 3, "checkout_url": ""}``.
A tool without one costs nothing. Wallets are filled by ``wiring.ledger().move(account, amount)``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from meterstream.compat import wiring
from meterstream.compat.ledger import Insufficient
from meterstream.errors import MeterError

TOOL: Final = "climeter.tool"
_FREE: Final = "climeter free calls of "


class InsufficientBalanceError(MeterError):
    """The wallet does not cover the call, which was neither charged nor recorded."""

    def __init__(self, message: str, *, checkout_url: str, balance: float, cost: float) -> None:
        super().__init__(message)
        self.checkout_url = checkout_url
        self.balance = balance
        self.cost = cost


def charge(account: str, tool: str) -> dict[str, Any]:
    """Take a free call, or else the price of the tool, from an account."""
    tool_definition = wiring.definitions().get(TOOL, tool) or {}
    price = Decimal(tool_definition.get("price", "0"))
    if _take_free_call(account, tool, int(tool_definition.get("free_calls", 0))):
        cost = Decimal(0)
    else:
        cost = price
        try:
            if price:
                wiring.ledger().move(account, -price, description=tool, floor=Decimal(0))
        except Insufficient as problem:
            raise InsufficientBalanceError(
                str(problem),
                checkout_url=str(tool_definition.get("checkout_url", "")),
                balance=float(problem.balance),
                cost=float(price),
            ) from problem
    left = balance(account, tool)
    return {
        "success": True,
        "balance_remaining": left["balance"],
        "calls_remaining": left["calls_remaining"],
        "free_calls_remaining": left["free_calls_remaining"],
        "cost": float(cost),
    }


def balance(account: str, tool: str) -> dict[str, Any]:
    """What an account holds, and what that covers; amounts are exact until they are shown here."""
    definition = (wiring.definitions().get(TOOL, tool) if tool else None) or {}
    price, held = Decimal(definition.get("price", "0")), wiring.ledger().balance(account)
    allowance = wiring.ledger().allowance(_FREE + tool, account)
    used = Decimal(0) if allowance is None else allowance.used
    return {
        "balance": float(held or 0),
        "calls_remaining": int(max(held or Decimal(0), Decimal(0)) // price) if price else None,
        "free_calls_remaining": max(0, int(definition.get("free_calls", 0)) - int(used)),
    }


def _take_free_call(account: str, tool: str, free_calls: int) -> bool:
    if not free_calls:
        return False
    ledger = wiring.ledger()
    taken = ledger.change_allowance(
        _FREE + tool, account, threshold=Decimal(free_calls), add=Decimal(1)
    )
    if taken.used <= free_calls:
        return True
    ledger.change_allowance(_FREE + tool, account, add=Decimal(-1))
    return False
