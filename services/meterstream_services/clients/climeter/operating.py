"""What operators set: prices of tools, and what is in wallets. Needs an admin's key for all."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import Response

from meterstream_schemas.errors import InvalidQuantity
from meterstream_schemas.events import ID_BYTES_MAX
from meterstream_schemas.quantity import parse_amount
from meterstream_services.clients.book import Content
from meterstream_services.clients.climeter.consumer import owner_of
from meterstream_services.clients.climeter.errors import error
from meterstream_services.clients.climeter.slugs import NAME_MAX
from meterstream_services.clients.climeter.wallets import (
    TOOL,
    WALLET,
    balance_of,
    tool_of,
    topped_up,
)
from meterstream_services.clients.exact_json import exact_response, plain
from meterstream_services.clients.operating import need_operator
from meterstream_services.clients.shaped_routes import ObjectOf, shaped
from meterstream_services.http.guarding import PrincipalOf
from meterstream_services.http.parts import PartsOf
from meterstream_services.keys.principal import ALL

router = APIRouter(
    prefix="/v1/clients/climeter", include_in_schema=False, route_class=shaped(error)
)

FREE_CALLS_MAX: Final = 1_000_000_000
_URL_MAX: Final = 1_000


@router.put("/tools/{tool}")
def set_tool(tool: str, body: ObjectOf, parts: PartsOf, principal: PrincipalOf) -> Response:
    """What a call of a tool costs: ``{"price": "0.40", "free_calls": 3, "checkout_url": ""}``."""
    need_operator(principal)
    _known(body, "price", "free_calls", "checkout_url")
    free_calls, url = body.get("free_calls", 0), body.get("checkout_url", "")
    if type(free_calls) is not int or not 0 <= free_calls <= FREE_CALLS_MAX:
        raise HTTPException(422, f"free_calls: is no whole number up to {FREE_CALLS_MAX}")
    if not isinstance(url, str) or len(url) > _URL_MAX:
        raise HTTPException(422, f"checkout_url: is no text of at most {_URL_MAX} characters")
    price = _amount(body.get("price", 0), "price")
    content: Content = {"price": plain(price), "free_calls": free_calls, "checkout_url": url}
    parts.book.change(ALL, TOOL, _name(tool, "tool"), lambda _: content)
    return exact_response({"tool": tool, **content})


@router.get("/tools/{tool}")
def get_tool(tool: str, parts: PartsOf, principal: PrincipalOf) -> Response:
    """What a call of a tool costs."""
    need_operator(principal)
    content = parts.book.get(ALL, TOOL, _name(tool, "tool"))
    if content is None:
        raise HTTPException(404, "no price was set for this tool: calls of it cost nothing")
    found = tool_of(content)
    return exact_response(
        {
            "tool": tool,
            "price": plain(found.price),
            "free_calls": found.free_calls,
            "checkout_url": found.checkout_url,
        }
    )


@router.put("/wallets/{tenant}")
def set_wallet(tenant: str, body: ObjectOf, parts: PartsOf, principal: PrincipalOf) -> Response:
    """What a tenant's wallet holds from now on: ``{"balance": "10.00"}``."""
    need_operator(principal)
    _known(body, "balance")
    balance = plain(_amount(body.get("balance"), "balance"))
    kept = parts.book.change(
        owner_of(tenant),
        WALLET,
        _name(tenant, "tenant", ID_BYTES_MAX),
        lambda wallet: {**(wallet or {}), "balance": balance},
    )
    return _wallet(tenant, kept)


@router.post("/wallets/{tenant}/topups")
def top_up(tenant: str, body: ObjectOf, parts: PartsOf, principal: PrincipalOf) -> Response:
    """Add to a wallet, once for each id: ``{"id": "payment-7", "amount": "5.00"}``."""
    need_operator(principal)
    _known(body, "id", "amount")
    topup = _name(body.get("id"), "id")
    amount = _amount(body.get("amount"), "amount")
    kept = parts.book.change(
        owner_of(tenant),
        WALLET,
        _name(tenant, "tenant", ID_BYTES_MAX),
        lambda wallet: topped_up(wallet, topup, amount),
    )
    return _wallet(tenant, kept)


@router.get("/wallets/{tenant}")
def get_wallet(tenant: str, parts: PartsOf, principal: PrincipalOf) -> Response:
    """What a tenant's wallet holds."""
    need_operator(principal)
    return _wallet(
        tenant, parts.book.get(owner_of(tenant), WALLET, _name(tenant, "tenant", ID_BYTES_MAX))
    )


def _wallet(tenant: str, content: Content | None) -> Response:
    used: dict[str, Any] = (content or {}).get("used", {})
    return exact_response(
        {
            "tenant": tenant,
            "balance": plain(balance_of(content)),
            "free_calls_used": used,
            "open_calls": len((content or {}).get("open", {})),
        }
    )


def _known(body: Content, *names: str) -> None:
    unknown = sorted(set(body) - set(names))
    if unknown:
        raise HTTPException(422, f"{unknown[0][:64]}: is not known here; send {', '.join(names)}")


def _name(value: object, field: str, most: int = NAME_MAX) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable():
        raise HTTPException(422, f"{field}: is no text of 1 to {most} characters")
    return value


def _amount(value: object, field: str) -> Decimal:
    try:
        amount = parse_amount(value, field=field).decimal()
    except InvalidQuantity as problem:
        raise HTTPException(422, str(problem)) from None
    if amount < 0:
        raise HTTPException(422, f"{field}: is below zero")
    return amount
