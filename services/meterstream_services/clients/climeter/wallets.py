"""Wallets: prepaid balances, free calls, prices; every change is one step of the book.

A wallet is one entry of its tenant::

    {"balance": "2.00", "used": {"ocr": 3}, "topups": ["t-1"],
     "open": {EVENT KEY: {"cost", "free", "tool", "time", "attributes", "caller_key", "state"}},
     "done": {CALLER'S KEY: COST}}

A call is charged and metered, or neither. Money and event lie in different systems, so each call
goes through ``open``, in which it stands with its event from the moment it is charged::

    begin ──▶ charged ──(the event is kept)──▶ settled: gone from ``open``
                 │
                 ├──(the event is refused)────▶ refunded, gone from ``open``
                 └──(nobody knows)────────────▶ refunded, ``undone``: its VOID is owed

What a killed process left ``charged`` is offered again under its key, which counts once; what is
``undone`` gets its VOID, so that the event takes back itself should it be in the log after all. The
answer of success is given only after the event is kept.

Plain functions on the entry; `meterstream_services.clients.climeter.consumer` calls them.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

from meterstream.compat.ledger import EXACT
from meterstream_services.clients.book import Content
from meterstream_services.clients.exact_json import plain

WALLET: Final = "climeter.wallet"
TOOL: Final = "climeter.tool"
OPEN_MAX: Final = 16
"""Calls of one wallet that are under way at once."""
DONE_MAX: Final = 50
"""Calls with a key of the caller's that a wallet remembers."""
TOPUPS_MAX: Final = 100
TOOLS_MAX: Final = 300
"""Tools whose free calls a wallet counts."""


class Tool(NamedTuple):
    """What a call of a tool costs. One that nobody defined costs nothing."""

    price: Decimal = Decimal(0)
    free_calls: int = 0
    checkout_url: str = ""


class Charge(NamedTuple):
    """What a call took. ``is_known``: it was answered before, under its key."""

    cost: Decimal
    is_known: bool = False


class InsufficientBalance(Exception):
    """The wallet does not cover the call; nothing was taken."""

    def __init__(self, balance: Decimal, tool: Tool) -> None:
        super().__init__(f"the wallet holds {balance:f} and the call costs {tool.price:f}")
        self.balance = balance
        self.tool = tool


class CallsUnderWay(Exception):
    """Too many calls of a wallet, or the same one, are not settled yet."""


def tool_of(content: Content | None) -> Tool:
    """A tool from its entry."""
    if content is None:
        return Tool()
    return Tool(Decimal(content["price"]), content["free_calls"], content["checkout_url"])


def begun(
    wallet: Content | None, call: str, tool: Tool, event: Mapping[str, Any]
) -> tuple[Content, Charge]:
    """The wallet once a call is charged, and what it took.

    ``call`` is the key of its event, which nothing else has. ``event`` has ``tool``, ``time``,
    ``attributes`` and ``caller_key``: a call that was answered under it is known. Raises
    `InsufficientBalance` and `CallsUnderWay`.
    """
    content = wallet or {}
    key: str | None = event["caller_key"]
    done: dict[str, str] = content.get("done", {})
    if key is not None and key in done:
        return content, Charge(Decimal(done[key]), is_known=True)
    opened: dict[str, Any] = content.get("open", {})
    if len(opened) >= OPEN_MAX or (key is not None and _is_charged(opened, key)):
        raise CallsUnderWay
    name = event["tool"]
    used: dict[str, int] = content.get("used", {})
    is_free = used.get(name, 0) < tool.free_calls and (name in used or len(used) < TOOLS_MAX)
    cost = Decimal(0) if is_free else tool.price
    balance = balance_of(content)
    if cost > balance:
        raise InsufficientBalance(balance, tool)
    if is_free:
        used = {**used, name: used.get(name, 0) + 1}
    entry = {**event, "cost": plain(cost), "free": is_free, "state": "charged"}
    changed = {
        **content,
        "balance": plain(EXACT.subtract(balance, cost)),
        "used": used,
        "open": {**opened, call: entry},
    }
    return changed, Charge(cost)


def settled(wallet: Content | None, call: str) -> Content | None:
    """The wallet once a call's event is kept."""
    entry, content = _without(wallet, call)
    if entry is None or content is None:
        return wallet
    if entry["caller_key"] is not None and entry["state"] == "charged":
        done = {**content.get("done", {}), entry["caller_key"]: entry["cost"]}
        content["done"] = dict(list(done.items())[-DONE_MAX:])
    return content


def refunded(wallet: Content | None, call: str, *, owes_void: bool) -> Content | None:
    """The wallet once a call has its price back; it stays open as long as its VOID is owed."""
    entry, content = _without(wallet, call)
    if entry is None or content is None or entry["state"] != "charged":
        return wallet
    content["balance"] = plain(EXACT.add(balance_of(content), Decimal(entry["cost"])))
    if entry["free"]:
        used = content["used"]
        content["used"] = {**used, entry["tool"]: max(0, used.get(entry["tool"], 0) - 1)}
    if owes_void:
        content["open"] = {**content["open"], call: {**entry, "state": "undone"}}
    return content


def balance_of(wallet: Content | None) -> Decimal:
    """What a wallet holds."""
    return Decimal((wallet or {}).get("balance", "0"))


def remaining(wallet: Content | None, name: str, tool: Tool) -> dict[str, Any]:
    """What a wallet holds and what that covers of a tool; None where calls cost nothing."""
    balance = balance_of(wallet)
    used = (wallet or {}).get("used", {}).get(name, 0)
    calls = int(EXACT.divide_int(max(balance, Decimal(0)), tool.price)) if tool.price else None
    return {
        "balance": balance,
        "calls_remaining": calls,
        "free_calls_remaining": max(0, tool.free_calls - used),
    }


def topped_up(wallet: Content | None, topup: str, amount: Decimal) -> Content:
    """The wallet with an amount added to it, once for each id."""
    content = wallet or {}
    ids: list[str] = content.get("topups", [])
    if topup in ids:
        return content
    return {
        **content,
        "balance": plain(EXACT.add(balance_of(content), amount)),
        "topups": [*ids, topup][-TOPUPS_MAX:],
    }


def _is_charged(opened: Mapping[str, Any], key: str) -> bool:
    return any(
        entry["caller_key"] == key and entry["state"] == "charged" for entry in opened.values()
    )


def _without(wallet: Content | None, call: str) -> tuple[dict[str, Any] | None, Content | None]:
    """An open call, and the wallet without it."""
    if wallet is None or call not in wallet.get("open", {}):
        return None, wallet
    opened = dict(wallet["open"])
    entry = opened.pop(call)
    return entry, {**wallet, "open": opened}
