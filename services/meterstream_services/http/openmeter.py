"""The two ends that OpenMeter's clients use most: events in, and a meter's usage out.

``POST /api/v1/events`` takes CloudEvents, one or an array, also as plain JSON, where
``specversion`` may be missing. The subject is the tenant, as OpenMeter counts by subject; a key of
one tenant, and the extension ``tenant``, say it better. The answer has no body (204), so it cannot
speak of single events: what can be seen to be wrong refuses the request, and nothing is taken.

On the same path meter-lib 0.0.3 posts its bare events; they are told by their shape.

``GET /api/v1/meters/{slug}/query`` answers as `meterstream_services.http.openmeter_question` says.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from meterstream_schemas.checks import check_attributes, check_text, check_time
from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import ID_BYTES_MAX, TENANT_BYTES_MAX, TYPE_BYTES_MAX
from meterstream_schemas.quantity import parse_amount
from meterstream_services.clients.meter_lib.legacy import FIELDS, record_legacy
from meterstream_services.gateway.port import Offer, Patience, Ruling
from meterstream_services.http.guarding import foreign_tenant, principal_of
from meterstream_services.http.ingest import (
    CLOUD_EVENT,
    CLOUD_EVENTS,
    JSON_TYPES,
    body_of,
    check_count,
    door_of,
    media_type_of,
)
from meterstream_services.http.ingest_answers import unavailable
from meterstream_services.http.ingest_cloud import SPEC_VERSION, cloud_offer
from meterstream_services.http.ingest_described import CLOUD_EVENT as DESCRIBED
from meterstream_services.http.ingest_native import ForeignTenant
from meterstream_services.http.ingest_taking import check_rate
from meterstream_services.http.openmeter_question import router as question
from meterstream_services.http.parts import Parts
from meterstream_services.http.problems import Problem, documented
from meterstream_services.keys.principal import Principal

router = APIRouter(tags=["OpenMeter"])
router.include_router(question)

_TYPES: Final = (CLOUD_EVENT, CLOUD_EVENTS, "application/json")
_EXAMPLE: Final[dict[str, Any]] = {
    "specversion": "1.0",
    "type": "api.request",
    "source": "/checkout",
    "id": "4711",
    "subject": "acme",
    "data": {"route": "/pay"},
}
_EVENT: Final[dict[str, Any]] = DESCRIBED | {"example": _EXAMPLE}
_EVENTS: Final[dict[str, Any]] = {"type": "array", "maxItems": 1000, "items": _EVENT}


@router.post(
    "/api/v1/events",
    summary="Record CloudEvents as OpenMeter does",
    status_code=204,
    response_class=Response,
    responses=documented(400, 403, 409, 413, 415, 429, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                CLOUD_EVENT: {"schema": _EVENT},
                CLOUD_EVENTS: {"schema": _EVENTS},
                "application/json": {"schema": {"anyOf": [_EVENT, _EVENTS]}, "example": _EXAMPLE},
            },
        }
    },
)
async def record(request: Request) -> Response:
    """Record one event or an array of them; answered when the log has them."""
    parts = request.app.state.parts
    assert isinstance(parts, Parts)
    try:
        return await _record(request, parts)
    except ClientDisconnect:
        return Response(status_code=400)


async def _record(request: Request, parts: Parts) -> Response:
    principal, media_type = principal_of(request), media_type_of(request)
    if media_type not in JSON_TYPES | {CLOUD_EVENT, CLOUD_EVENTS}:
        raise Problem(
            415,
            "unknown-media-type",
            f"content type {media_type[:64]!r} is not read here; send one of {', '.join(_TYPES)}",
            headers={"accept": ", ".join(_TYPES)},
        )
    body = await body_of(request)
    if type(body) is dict and "specversion" not in body and body.keys() >= FIELDS:
        return await record_legacy(request, parts, principal, body)
    items = body if type(body) is list else [body]
    check_count(items)
    door = door_of(parts)
    offers = _offers(items, principal)
    if not offers:
        return Response(status_code=204)
    check_rate(request, len(offers))
    fates = await door.take(offers, Patience.LOG)
    counts = Counter(fate.ruling for fate in fates)
    if counts[Ruling.UNAVAILABLE]:
        raise unavailable(door)
    if counts[Ruling.REFUSED]:
        errors = [
            {"field": f"{index}.{fate.field}", "reason": fate.reason}
            for index, fate in enumerate(fates)
            if fate.ruling is Ruling.REFUSED
        ]
        raise _refused(errors)
    if counts[Ruling.CONFLICT]:
        conflicts = [i for i, fate in enumerate(fates) if fate.ruling is Ruling.CONFLICT]
        raise Problem(
            409,
            "key-conflict",
            f"source and id of {len(conflicts)} events were used for other content; the others "
            "were taken",
            errors=[{"field": f"{index}.id", "reason": "used before"} for index in conflicts[:100]],
        )
    return Response(status_code=204)


def _offers(items: list[Any], principal: Principal) -> list[Offer]:
    """The offers of all items. Raises `Problem` where one of them could not be counted."""
    offers: list[Offer] = []
    errors: list[dict[str, str]] = []
    for index, item in enumerate(items):
        if type(item) is dict:
            item.setdefault("specversion", SPEC_VERSION)
        try:
            offer = cloud_offer(item, principal, subject_may_be_tenant=True)
            _check(offer)
            offers.append(offer)
        except ForeignTenant as problem:
            raise foreign_tenant(problem.tenant) from None
        except InvalidEvent as problem:
            errors.append({"field": f"{index}.{problem.field}", "reason": problem.problem})
    if errors:
        raise _refused(errors)
    return offers


def _refused(errors: list[dict[str, Any]]) -> Problem:
    first = errors[0]
    return Problem(
        400, "refused-event", f"{first['field']}: {first['reason']}", errors=errors[:100]
    )


def _check(offer: Offer) -> None:
    """What the door will ask of an event, asked before any of a request is taken."""
    check_text(offer.type, field="type", bytes_max=TYPE_BYTES_MAX)
    check_text(offer.tenant, field="subject", bytes_max=TENANT_BYTES_MAX)
    parse_amount(offer.quantity)
    if offer.time is not None:
        check_time(offer.time)
    for field, text in (("session", offer.session), ("subject", offer.subject), ("id", offer.key)):
        if text is not None:
            check_text(text, field=field, bytes_max=ID_BYTES_MAX)
    if offer.attributes is not None:
        check_attributes(offer.attributes)
