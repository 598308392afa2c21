"""``GET /v1/events``: the events of customers that counted, the newest first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from starlette.exceptions import HTTPException
from starlette.responses import Response

from meterstream.compat.stripemeter_events import TYPE
from meterstream_schemas.quantity import to_decimal
from meterstream_services.clients.eventlog import Listed
from meterstream_services.clients.exact_json import exact_response
from meterstream_services.clients.shaped_routes import need, shaped
from meterstream_services.clients.stripemeter.customers import REFERENCE, subject_of, tenant_of
from meterstream_services.clients.stripemeter.errors import error
from meterstream_services.clients.stripemeter.events import CUSTOMER_MAX
from meterstream_services.http.guarding import PrincipalOf, foreign_tenant
from meterstream_services.http.parts import PartsOf
from meterstream_services.keys.principal import Principal, Scope

router = APIRouter(include_in_schema=False, route_class=shaped(error))

HOUR: Final = 3_600 * 1_000_000
SEEN_MAX: Final = 20_000
"""Events of the time that are looked through for one answer."""
DAYS: Final = 31
"""How far back is looked unless `from` says."""
Text = Annotated[str | None, Query(max_length=CUSTOMER_MAX)]


@router.get("/v1/events")
def events(
    *,
    parts: PartsOf,
    principal: PrincipalOf,
    tenantId: Text = None,  # noqa: N803 - the wire's name
    customerRef: Text = None,  # noqa: N803 - the wire's name
    resourceId: Annotated[str | None, Query(max_length=4_096)] = None,  # noqa: N803 - the wire's name
    metric: Text = None,
    start: Annotated[str | None, Query(alias="from", max_length=64)] = None,
    end: Annotated[str | None, Query(alias="to", max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10_000)] = 0,
) -> Response:
    """Each event once, whoever sent it how often; what was refused or taken back is not there."""
    need(principal, Scope.READ)
    if parts.log is None:
        raise HTTPException(503, "this service reads no log; it was started without a broker")
    until = _time(end, "to", parts.now() + 2 * HOUR)
    since = _time(start, "from", until - DAYS * 24 * HOUR)
    customers = _customers(principal, customerRef)
    wanted = (("metric", metric), ("account", tenantId))
    subject = subject_of(resourceId) if resourceId else resourceId
    # Most questions are answered by the first few; a rare metric needs a longer look.
    seen = enough = offset + limit + 1
    while True:
        found = parts.log.events(customers, (TYPE,), since, until, limit=seen, newest_first=True)
        fitting = [
            listed
            for listed in found
            if all(value in (None, listed.event.attributes.get(name)) for name, value in wanted)
            and subject in (None, listed.event.subject)
        ]
        if len(fitting) >= enough or len(found) < seen:
            break
        if seen >= SEEN_MAX:
            raise HTTPException(422, "too many events in this time; name from and to for less")
        seen = min(seen * 10, SEEN_MAX)
    return exact_response(
        {
            "events": [_shown(each) for each in fitting[offset : offset + limit]],
            "limit": limit,
            "offset": offset,
            "hasMore": len(fitting) >= enough,
        }
    )


def _customers(principal: Principal, customer: str | None) -> frozenset[str]:
    """Whose events; those of all tenants of a key that names some."""
    if customer is not None:
        tenant = tenant_of(customer) if customer else customer
        if not principal.may_use(tenant):
            raise foreign_tenant(customer)
        return frozenset({tenant})
    if principal.tenants is None:
        raise HTTPException(400, "customerRef: is missing; name the customer")
    return principal.tenants


def _shown(listed: Listed) -> dict[str, Any]:
    event = listed.event
    return {
        "id": f"{listed.partition}-{listed.offset}",
        "tenantId": event.attributes.get("account"),
        "metric": event.attributes.get("metric"),
        "customerRef": event.attributes.get(REFERENCE, event.tenant),
        "resourceId": event.subject,
        "quantity": to_decimal(event.quantity, event.scale),
        "ts": _text_of(event.time),
        "meta": {
            name.removeprefix("meta."): value
            for name, value in event.attributes.items()
            if name.startswith("meta.")
        },
        "idempotencyKey": event.key,
        "createdAt": _text_of(listed.appended),
    }


def _time(told: str | None, name: str, default: int) -> int:
    """Microseconds UTC of an ISO time; without a zone it is UTC."""
    if told is None:
        return default
    try:
        found = datetime.fromisoformat(told)
        aware = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise HTTPException(400, f"{name}: is no ISO 8601 time") from None
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _text_of(time: int) -> str:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return (epoch + timedelta(microseconds=time)).isoformat().replace("+00:00", "Z")
