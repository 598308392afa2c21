"""Records of meter-lib through the door: all of a request, or none where that can be helped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from meterstream_schemas.errors import InvalidEvent
from meterstream_services.clients.shaped_routes import away
from meterstream_services.gateway.port import Fate, Offer, Patience, Ruling
from meterstream_services.http.parts import Parts
from meterstream_services.http.rates import charge, too_fast
from meterstream_services.keys.principal import Principal

MEDIA_TYPE: Final = "application/vnd.kafka.v2+json"


async def take(
    request: Request, parts: Parts, principal: Principal, offered: Sequence[Sequence[Offer]]
) -> Response:
    """Offer what each record means, and answer as Kafka's REST proxy does, where all are kept.

    The client looks at nothing but the status, so one record that is not kept makes the answer an
    error: 422, 409 or 503. Raises these.
    """
    offers = [offer for one in offered for offer in one]
    if parts.door is None:
        raise away(parts)
    wait_seconds = charge(request, len(offers), principal=principal)
    if wait_seconds is not None:
        return too_fast(request.scope["path"], wait_seconds)
    has_keys = all(offer.key is not None for offer in offers)
    fates = await parts.door.take(offers, Patience.LOG if has_keys else Patience.LOG_OR_SPOOL)
    for fate in fates:
        _check(fate, parts)
    told = iter(fates)
    last = [[next(told) for _ in one][-1] for one in offered]
    return JSONResponse(_offsets(last), media_type=MEDIA_TYPE)


def _check(fate: Fate, parts: Parts) -> None:
    match fate.ruling:
        case Ruling.REFUSED:
            raise InvalidEvent(fate.field or "record", fate.reason or "cannot be counted")
        case Ruling.CONFLICT:
            raise HTTPException(409, "its idempotency_key was used for another event")
        case Ruling.UNAVAILABLE:
            raise away(parts)
        case _:
            pass


def _offsets(fates: Sequence[Fate]) -> Mapping[str, Any]:
    """Where the records are; null while only the spool has one."""
    return {
        "offsets": [
            {
                "partition": fate.partition,
                "offset": fate.offset,
                "error_code": None,
                "error": None,
            }
            for fate in fates
        ],
        "key_schema_id": None,
        "value_schema_id": None,
    }
