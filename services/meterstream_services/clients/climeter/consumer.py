"""``/v1/consumer``: calls that are paid before they are made, and what a wallet holds.

The steps, and what becomes of a call that stops between two of them, are drawn in `.wallets`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from functools import partial
from typing import Any, Final, NamedTuple

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from meterstream.compat.climeter import TYPE
from meterstream_schemas.events import EventKind
from meterstream_services.clients.book import Book, BookUnavailable, Content
from meterstream_services.clients.climeter import wallets
from meterstream_services.clients.climeter.errors import error
from meterstream_services.clients.climeter.events import KEYS, Called, InvalidItem, offer_of
from meterstream_services.clients.climeter.ingest import problem_of
from meterstream_services.clients.climeter.payer import tenant_of
from meterstream_services.clients.climeter.slugs import NAME_MAX, AskedTool
from meterstream_services.clients.climeter.wallets import (
    TOOL,
    WALLET,
    CallsUnderWay,
    Charge,
    InsufficientBalance,
)
from meterstream_services.clients.exact_json import exact_response
from meterstream_services.clients.metadata import id_in
from meterstream_services.clients.shaped_routes import ObjectOf, away, need, shaped
from meterstream_services.gateway.port import Door, Offer, Patience, Ruling
from meterstream_services.http.guarding import PrincipalOf
from meterstream_services.http.parts import Parts, PartsOf
from meterstream_services.http.rates import charge, too_fast
from meterstream_services.http.threads import Work, in_thread
from meterstream_services.keys.principal import ALL, Scope

router = APIRouter(include_in_schema=False, route_class=shaped(error))

METADATA_BYTES_MAX: Final = 2_000
"""Of a call's metadata, as attributes; what is more is left out, from the end."""
STALE_SECONDS: Final = 60
"""Age from which on a call that is not settled was left by somebody who will not come back."""
_WALLETS_MAX: Final = 1_000
_log: Final = logging.getLogger("meterstream.http")


class _Call(NamedTuple):
    """A call that is to be charged: whose, which, and its event."""

    tenant: str
    offer: Offer
    tool: str
    caller_key: str | None

    @property
    def id(self) -> str:
        """The key of its event, which no other call has."""
        assert self.offer.key is not None
        return self.offer.key

    @property
    def owner(self) -> str:
        """See `owner_of`."""
        return owner_of(self.tenant)

    def event(self) -> Content:
        """What an open call keeps of its event."""
        return {
            "tool": self.tool,
            "time": self.offer.time,
            "attributes": dict(self.offer.attributes or {}),
            "caller_key": self.caller_key,
        }


@router.get("/v1/consumer/balance")
def balance(
    parts: PartsOf,
    principal: PrincipalOf,
    tool: AskedTool,
) -> Response:
    """What the wallet holds, and what that covers of a tool."""
    need(principal, Scope.READ)
    tenant = tenant_of(principal)
    wallet = parts.book.get(owner_of(tenant), WALLET, tenant)
    told = {"tool": tool, **wallets.remaining(wallet, tool, _tool(parts.book, tool))}
    return exact_response(told)


@router.post("/v1/consumer/call")
async def call(
    request: Request, body: ObjectOf, parts: PartsOf, principal: PrincipalOf
) -> Response:
    """Charge a call and meter it; success is answered when both are done."""
    need(principal, Scope.INGEST)
    made = _call(body, tenant_of(principal), parts.now())
    wait_seconds = charge(request, 1)
    if wait_seconds is not None:
        return too_fast(request.scope["path"], wait_seconds)
    if parts.door is None:
        raise away(parts)
    try:
        taken = await in_thread(Work.BOOK, _begin, parts.book, made)
    except InsufficientBalance as problem:
        return _insufficient(problem)
    except CallsUnderWay:
        raise HTTPException(
            503, "calls of this wallet are not settled yet; try again", {"retry-after": "1"}
        ) from None
    if not taken.is_known:
        refusal = await _meter(parts, parts.door, made)
        if refusal is not None:
            return refusal
    told = await in_thread(Work.BOOK, _left, parts.book, made)
    answer = {
        "success": True,
        "balance_remaining": told["balance"],
        "calls_remaining": told["calls_remaining"],
        "free_calls_remaining": told["free_calls_remaining"],
        "cost": taken.cost,
    }
    return exact_response(answer)


async def sweep(parts: Parts, ending: asyncio.Event | None = None) -> None:
    """Bring to an end what killed processes left open, of all wallets, or of some if ``ending``."""
    if parts.door is None:
        return
    after = ""
    while True:
        page = await in_thread(
            Work.BOOK, partial(parts.book.all, None, WALLET, after=after, limit=_WALLETS_MAX)
        )
        for _, tenant, wallet in page:
            if ending is not None and ending.is_set():
                return
            await _finish(parts, parts.door, tenant, wallet)
        if len(page) < _WALLETS_MAX:
            return
        after = page[-1][1]


def owner_of(tenant: str) -> str:
    """In whose name a wallet is kept: as the keys of that one tenant have it."""
    return f"tenant:{tenant}"


async def _meter(parts: Parts, door: Door, made: _Call) -> Response | None:
    """Offer the event of a call that is charged; None when it is settled, else the answer."""
    [fate] = await door.take([made.offer], Patience.LOG_OR_SPOOL)
    if fate.is_kept:
        try:
            await in_thread(Work.BOOK, _change, parts.book, made, wallets.settled)
        except BookUnavailable:
            # It is charged and metered; the next sweep only has to find its event again.
            _log.warning("a CLIMeter call is not settled: the book is away")
        return None
    is_unknown = fate.ruling is Ruling.UNAVAILABLE
    refund = partial(wallets.refunded, owes_void=is_unknown)
    await in_thread(Work.BOOK, _change, parts.book, made, refund)
    if is_unknown:
        raise away(parts)
    return error(409 if fate.ruling is Ruling.CONFLICT else 422, problem_of(fate))


async def _finish(parts: Parts, door: Door, tenant: str, wallet: Content) -> None:
    """Settle what is old of a wallet's open calls, or take it back."""
    for name, entry in dict(wallet.get("open", {})).items():
        if parts.now() - entry["time"] < STALE_SECONDS * 1_000_000:
            continue
        is_undone = entry["state"] == "undone"
        kind = EventKind.VOID if is_undone else EventKind.USAGE
        offer = Offer(
            TYPE, tenant, 1, entry["time"], kind, attributes=entry["attributes"], key=name
        )
        [fate] = await door.take([offer], Patience.LOG_OR_SPOOL)
        if fate.ruling is Ruling.UNAVAILABLE:
            return
        made = _Call(tenant, offer, entry["tool"], entry["caller_key"])
        end = wallets.settled
        if not fate.is_kept and not is_undone:
            end = partial(wallets.refunded, owes_void=False)
        await in_thread(Work.BOOK, _change, parts.book, made, end)


def _call(body: Content, tenant: str, now: int) -> _Call:
    """The call that a body asks for. Raises 422."""
    tool, command = body.get("tool_id"), body.get("event_name") or "call"
    for name, value in (("tool_id", tool), ("event_name", command)):
        if not isinstance(value, str) or not 0 < len(value) <= NAME_MAX:
            raise HTTPException(422, f"{name}: is no text of 1 to {NAME_MAX} characters")
    metadata = body.get("metadata")
    try:
        offer = offer_of(tenant, Called(str(tool), str(command)), metadata, now)
    except InvalidItem as problem:
        raise HTTPException(422, str(problem)) from None
    named = (id_in(metadata, name) for name in KEYS)
    caller_key = next((key for key in named if key is not None), None)
    offer = offer._replace(key=f"call_{secrets.token_hex(16)}", attributes=_short(offer))
    return _Call(tenant, offer, str(tool), caller_key)


def _short(offer: Offer) -> dict[str, str]:
    """Attributes that a wallet has room for."""
    room, kept = METADATA_BYTES_MAX, dict[str, str]()
    for name, value in (offer.attributes or {}).items():
        room -= len(name.encode()) + len(value.encode())
        if room >= 0:
            kept[name] = value
    return kept


def _begin(book: Book, made: _Call) -> Charge:
    tool = _tool(book, made.tool)
    taken: list[Charge] = []

    def change(wallet: Content | None) -> Content | None:
        taken.clear()
        content, charged = wallets.begun(wallet, made.id, tool, made.event())
        taken.append(charged)
        return content

    book.change(made.owner, WALLET, made.tenant, change)
    return taken[0]


def _change(book: Book, made: _Call, end: Any) -> None:  # noqa: ANN401 - one of `wallets`
    book.change(made.owner, WALLET, made.tenant, lambda wallet: end(wallet, made.id))


def _left(book: Book, made: _Call) -> dict[str, Any]:
    try:
        wallet = book.get(made.owner, WALLET, made.tenant)
        return wallets.remaining(wallet, made.tool, _tool(book, made.tool))
    except BookUnavailable:
        return {"balance": None, "calls_remaining": None, "free_calls_remaining": None}


def _tool(book: Book, name: str) -> wallets.Tool:
    return wallets.tool_of(book.get(ALL, TOOL, name) if name else None)


def _insufficient(problem: InsufficientBalance) -> Response:
    return exact_response(
        {
            "error": "insufficient_balance",
            "message": str(problem),
            "checkout_url": problem.tool.checkout_url,
            "balance": problem.balance,
            "cost": problem.tool.price,
        },
        402,
    )
