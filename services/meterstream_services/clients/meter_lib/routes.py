"""The routes that meter-lib calls: the lookup of customers, and Kafka's REST proxy."""

from __future__ import annotations

from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Header, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from meterstream_schemas.errors import InvalidEvent
from meterstream_services.clients.meter_lib.customers import (
    asked_tenant,
    customer_id,
    customer_of,
    sender_of,
)
from meterstream_services.clients.meter_lib.errors import error
from meterstream_services.clients.meter_lib.reading import offers_of
from meterstream_services.clients.meter_lib.strangers import body_of
from meterstream_services.clients.meter_lib.taking import take
from meterstream_services.clients.shaped_routes import need, shaped
from meterstream_services.gateway.port import Offer
from meterstream_services.http.guarding import PrincipalOf, foreign_tenant
from meterstream_services.http.json_bodies import parse_json
from meterstream_services.http.parts import Parts, PartsOf
from meterstream_services.http.threads import Work, in_thread
from meterstream_services.keys.principal import Principal, Scope

router = APIRouter(include_in_schema=False, route_class=shaped(error))

TOPIC: Final = "usage-events"
"""Where all versions of the client post to."""
RECORDS_MAX: Final = 1000


@router.get("/metering/v1alpha1/customer-accounts/tenant/{tenant:path}")
@router.get("/v1alpha1/customer-accounts/tenant/{tenant:path}")
@router.get("/api/v1/customer-accounts/tenant/{tenant:path}")
def look_up(
    tenant: str,
    parts: PartsOf,
    principal: PrincipalOf,
    x_tenant_id: Annotated[str | None, Header()] = None,
) -> Response:
    """The customer of a tenant. Its ``id`` is what events are to be sent with."""
    need(principal, Scope.INGEST)
    asked = asked_tenant(tenant, x_tenant_id)
    if not principal.may_use(asked):
        raise foreign_tenant(asked)
    account = customer_of(parts, asked)
    identity = customer_id(parts, asked, principal)
    return JSONResponse({"id": identity, "tenant_id": asked, "account_id": account})


@router.post("/topics/{topic}")
async def produce(topic: str, request: Request, parts: PartsOf, principal: PrincipalOf) -> Response:
    """Take records, as Kafka's REST proxy does in its second version."""
    if topic != TOPIC:
        raise HTTPException(404, f"there is no topic {topic[:64]!r} here; post to {TOPIC}")
    body = await body_of(request, parts, principal)
    offered, sender = await in_thread(Work.TAKING, _offered, body, parts, principal)
    return await take(request, parts, sender, offered)


def _offered(
    body: bytes, parts: Parts, principal: Principal
) -> tuple[list[list[Offer]], Principal]:
    """What each record of a body means, and who sends them. Raises as the route does."""
    whole = parse_json(body)
    if not isinstance(whole, dict):
        raise HTTPException(422, "the body is no JSON object; send one")
    offered: list[list[Offer]] = []
    sender = principal
    for value in _values(cast("dict[str, Any]", whole)):
        tenant, sender = sender_of(parts, value.get("customer_id"), principal)
        offered.append(offers_of(value, tenant))
    return offered, sender


def _values(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The values of all records; an event that stands bare is one of them. Raises 422."""
    if "records" not in body and "meter_id" in body:
        return [body]
    records = body.get("records")
    if not isinstance(records, list) or not records:
        raise HTTPException(422, "records: is no list with records in it; send at least one")
    if len(records) > RECORDS_MAX:
        raise HTTPException(413, f"records: {len(records)} of them; send at most {RECORDS_MAX}")
    given: list[Any] = records
    return [_value(record) for record in given]


def _value(record: object) -> dict[str, Any]:
    value = cast("dict[str, Any]", record).get("value") if isinstance(record, dict) else None
    if not isinstance(value, dict):
        raise InvalidEvent("records", "one has no value that is a JSON object")
    return cast("dict[str, Any]", value)
