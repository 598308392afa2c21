"""``POST /v1/events/batch``: what CLIMeter's client sends in the background.

The client reads no body, and throws a batch away for any 4xx. So a batch that can be read at all is
answered 200, and the events of it that cannot be counted are told in the body, in the log and in
a metric. 503 is for what was not taken; the client then sends the whole batch again, without ids.
What was kept of such a batch is remembered here, and left out when the very same batch comes again.
A batch that is larger than what is ever taken is 503 as well, and in the metric: the client
keeps it for a while, and somebody sees it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from meterstream_services.clients.climeter.bodies import NoRoom, Room, TooLarge, parsed, read_whole
from meterstream_services.clients.climeter.errors import error
from meterstream_services.clients.climeter.payer import tenant_of
from meterstream_services.clients.climeter.reading import EVENTS_MAX, read_batch
from meterstream_services.clients.partly_kept import PartlyKept
from meterstream_services.clients.shaped_routes import away, need, shaped
from meterstream_services.gateway.port import Door, Fate, Offer, Patience, Ruling
from meterstream_services.http.guarding import PrincipalOf
from meterstream_services.http.parts import Parts, PartsOf
from meterstream_services.http.problems import RETRY_SECONDS
from meterstream_services.http.rates import charge, too_fast
from meterstream_services.keys.principal import Scope

router = APIRouter(include_in_schema=False, route_class=shaped(error))

_ERRORS_SHOWN: Final = 100
_log: Final = logging.getLogger("meterstream.http")


@router.post("/v1/events/batch")
async def batch(request: Request, parts: PartsOf, principal: PrincipalOf) -> Response:
    """Answered when the log has the events, or, where it is away for long, the spool."""
    need(principal, Scope.INGEST)
    tenant = tenant_of(principal)
    try:
        with _room(request).held() as take:
            body = await read_whole(request, take)
            digest = hashlib.sha256(tenant.encode() + b"\0" + body).digest()
            read = await parsed(body, lambda whole: read_batch(whole, tenant, parts.now()))
            del body
    except NoRoom:
        raise HTTPException(
            503, "too many large batches are under way; send it again", {"retry-after": "1"}
        ) from None
    except TooLarge as problem:
        raise _refused(parts, str(problem), 1) from None
    if read.events > EVENTS_MAX:
        raise _refused(
            parts, f"there are {read.events} events; send at most {EVENTS_MAX}", read.events
        )
    offers, errors = read.offers, read.errors
    wait_seconds = charge(request, len(offers))
    if wait_seconds is not None:
        return too_fast(request.scope["path"], wait_seconds)
    if parts.door is None:
        raise away(parts)
    fates = await _taken(parts.door, offers, partly_kept(request), digest)
    if fates is None:
        raise away(parts)
    ignored = read.events - len(offers) - len(errors)
    errors |= {index: problem_of(fate) for index, fate in fates.items() if not fate.is_kept}
    parts.metrics.climeter_refused.inc(len(errors))
    return _answer(read.events, fates, errors, ignored=ignored)


def _refused(parts: Parts, reason: str, events: int) -> HTTPException:
    """The answer to a batch that is never taken; ``events`` is 1 where nobody counted them."""
    parts.metrics.climeter_refused.inc(events)
    parts.metrics.limit("body_bytes_max").inc()
    _log.warning("a CLIMeter batch cannot be taken: %s", reason)
    return HTTPException(503, reason, {"retry-after": str(RETRY_SECONDS)})


def _room(request: Request) -> Room:
    """The application's room for large batches; made with the first batch."""
    state = request.app.state
    found = getattr(state, "climeter_room", None)
    if found is None:
        found = state.climeter_room = Room()
    assert isinstance(found, Room)
    return found


async def _taken(
    door: Door, offers: dict[int, Offer], partly: PartlyKept, digest: bytes
) -> dict[int, Fate] | None:
    """What became of each offer; None where some of them were not taken."""
    before = partly.take(digest)
    left = [index for index in offers if index not in before]
    fates = dict.fromkeys(offers, Fate(Ruling.ACCEPTED))
    try:
        told: Sequence[Fate] = await door.take(
            [offers[index] for index in left], Patience.LOG_OR_SPOOL
        )
    except BaseException:
        partly.note(digest, before)
        raise
    fates.update(zip(left, told, strict=True))
    if all(fate.ruling is not Ruling.UNAVAILABLE for fate in told):
        return fates
    kept = [index for index, fate in fates.items() if fate.ruling is not Ruling.UNAVAILABLE]
    partly.note(digest, kept)
    return None


def _answer(
    count: int, fates: dict[int, Fate], errors: dict[int, str], *, ignored: int
) -> Response:
    """200 whatever single events are: for the client any other answer means all of them."""
    duplicates = sum(fate.ruling is Ruling.DUPLICATE for fate in fates.values())
    if errors:
        first = min(errors)
        _log.warning(
            "%d of %d events of a CLIMeter batch cannot be counted; the first: %s",
            len(errors),
            count,
            errors[first],
        )
    told = [{"index": index, "error": errors[index]} for index in sorted(errors)]
    content: dict[str, Any] = {
        "accepted": count - len(errors) - duplicates - ignored,
        "duplicates": duplicates,
        "ignored": ignored,
        "rejected": len(errors),
        "errors": told[:_ERRORS_SHOWN],
    }
    return JSONResponse(content)


def problem_of(fate: Fate) -> str:
    """Why an offer was not taken, for good."""
    if fate.ruling is Ruling.CONFLICT:
        return "its idempotency key was used for other content; the first one counts"
    return f"{fate.field}: {fate.reason}" if fate.field else fate.reason or "it was refused"


def partly_kept(request: Request) -> PartlyKept:
    """The application's memory of batches; made with the first of them."""
    state = request.app.state
    found = getattr(state, "climeter_partly_kept", None)
    if found is None:
        found = state.climeter_partly_kept = PartlyKept()
    assert isinstance(found, PartlyKept)
    return found
