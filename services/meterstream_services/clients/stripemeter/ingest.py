"""``POST /v1/events/ingest``: StripeMeter's events into the log, and what became of each."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from meterstream_services.clients.shaped_routes import away, need, shaped
from meterstream_services.clients.stripemeter.errors import error
from meterstream_services.clients.stripemeter.events import InvalidBatch, Told, read_batch
from meterstream_services.gateway.port import Fate, Patience, Ruling
from meterstream_services.http.guarding import PrincipalOf
from meterstream_services.http.json_bodies import parse_json
from meterstream_services.http.parts import PartsOf
from meterstream_services.http.rates import charge, too_fast
from meterstream_services.http.threads import Work, in_thread
from meterstream_services.keys.principal import Forbidden, Principal, Scope

router = APIRouter(include_in_schema=False, route_class=shaped(error))

_CONFLICT: Final = "the idempotency key was used for other content; the first one counts"


@router.post("/v1/events/ingest")
async def ingest(request: Request, parts: PartsOf, principal: PrincipalOf) -> Response:
    """Answered when the log has the events; one that is wrong does not keep the others."""
    need(principal, Scope.INGEST)
    body = await request.body()
    header = request.headers.get("idempotency-key")
    try:
        batch = await in_thread(
            Work.TAKING, lambda: read_batch(parse_json(body), now=parts.now(), header=header)
        )
    except InvalidBatch as problem:
        return error(400, str(problem))
    batch = _own(batch, principal)
    offers = [told.offer for told in batch if told.offer is not None]
    wait_seconds = charge(request, len(offers))
    if wait_seconds is not None:
        return too_fast(request.scope["path"], wait_seconds)
    if parts.door is None:
        raise away(parts)
    # Events whose repetition would count twice had better be kept than refused for a moment.
    is_safe = all(told.is_safe for told in batch)
    fates = await parts.door.take(offers, Patience.LOG if is_safe else Patience.LOG_OR_SPOOL)
    if any(fate.ruling is Ruling.UNAVAILABLE for fate in fates):
        # The SDK sends all of it again under the same keys, and each counts once.
        raise away(parts)
    return answer(batch, fates)


def answer(batch: Sequence[Told], fates: Sequence[Fate]) -> Response:
    """What became of each event, in the vendor's words; 4xx where nothing of it is kept."""
    of_offers = iter(fates)
    results: list[dict[str, str]] = []
    errors: list[dict[str, Any]] = []
    accepted = duplicates = conflicts = 0
    for index, told in enumerate(batch):
        fate = None if told.offer is None else next(of_offers)
        if fate is not None and fate.is_kept:
            is_known = fate.ruling is Ruling.DUPLICATE
            duplicates += is_known
            accepted += not is_known
            status = "duplicate" if is_known else "accepted"
            results.append({"idempotencyKey": told.key, "status": status})
            continue
        conflicts += fate is not None and fate.ruling is Ruling.CONFLICT
        problem = told.problem if fate is None else _problem(fate)
        results.append({"idempotencyKey": told.key, "status": "error", "error": problem})
        errors.append({"index": index, "error": problem})
    content: dict[str, Any] = {
        "accepted": accepted,
        "duplicates": duplicates,
        "requestId": f"req-{secrets.token_hex(8)}",
        "results": results,
    }
    if errors:
        content["errors"] = errors
    if accepted or duplicates:
        return JSONResponse(content)
    first = errors[0]
    content["error"] = content["message"] = f"event {first['index']}: {first['error']}"
    return JSONResponse(content, 409 if conflicts == len(errors) else 400)


def _problem(fate: Fate) -> str:
    if fate.ruling is Ruling.CONFLICT:
        return _CONFLICT
    return f"{fate.field}: {fate.reason}" if fate.field else fate.reason or "it was refused"


def _own(batch: list[Told], principal: Principal) -> list[Told]:
    """Events of other customers than the key is for are errors. Raises `Forbidden` for all such."""
    foreign = "customerRef: this key is not for this customer"
    checked = [
        told
        if told.offer is None or principal.may_use(told.offer.tenant)
        else Told(told.key, None, foreign)
        for told in batch
    ]
    if all(told.problem == foreign for told in checked):
        raise Forbidden("Mismatched customerRef in events: this key is not for this customer")
    return checked
