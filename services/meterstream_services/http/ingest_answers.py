"""What became of offers, as answers: one event's, a batch's, and the lines of a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from starlette.responses import Response

from meterstream_services.gateway.port import Door, Fate, Offer, Ruling
from meterstream_services.http.problems import Problem, problem_response

_CONTENT_TYPE: Final = (b"content-type", b"application/json")
_ACCEPTED: Final = Ruling.ACCEPTED
_STATUSES: Final = {Ruling.ACCEPTED: 201, Ruling.DUPLICATE: 200, Ruling.SPOOLED: 202}
_ASYNC: Final = {"preference-applied": "respond-async"}
_CONFLICT: Final = "this key was used for other content; send what is new under a key of its own"
_AWAY: Final = "the log cannot be reached; send it again later, under the same key"


class JsonResponse(Response):
    """JSON that is bytes already. ``headers`` are beside its type and length."""

    media_type = "application/json"

    def __init__(self, body: bytes, status: int, headers: Mapping[str, str] | None = None) -> None:
        # Not by the original: it makes the same of these few headers, and takes longer.
        self.status_code = status
        self.body = body
        self.background = None
        self.raw_headers = [(b"content-length", b"%d" % len(body)), _CONTENT_TYPE]
        if headers:
            self.raw_headers += [(name.encode(), text.encode()) for name, text in headers.items()]


def single_answer(fate: Fate, offer: Offer, door: Door, *, asked_async: bool) -> Response:
    """The answer about one event. Raises `Problem` where it was not kept."""
    ruling = fate.ruling
    status = _STATUSES.get(ruling)
    if status is not None:
        headers = _ASYNC if asked_async and ruling is Ruling.SPOOLED else None
        return JsonResponse(orjson.dumps(fate_row(fate, offer)), status, headers)
    if ruling is Ruling.CONFLICT:
        raise Problem(409, "key-conflict", _CONFLICT, errors=[_flaw("key", _CONFLICT)])
    if ruling is Ruling.UNAVAILABLE:
        raise unavailable(door)
    raise refused(fate.field or "event", fate.reason or "")


def batch_answer(
    fates: Sequence[Fate], offers: Sequence[Offer | None], door: Door, *, asked_async: bool
) -> Response:
    """The answer about a batch, item by item. Raises `Problem` where the log took none of them.

    200 also where items were refused: 207 is a status of WebDAV, and to those who look at the
    status alone it says no more than 200 does; who sends a batch reads ``results``.
    """
    rulings = [fate[0] for fate in fates]
    if rulings.count(_ACCEPTED) == len(rulings):
        return JsonResponse(orjson.dumps(_all_accepted(fates)), 200)
    counts = {ruling: rulings.count(ruling) for ruling in Ruling}
    if counts[Ruling.UNAVAILABLE] == len(fates):
        raise unavailable(door)
    content: dict[str, Any] = {
        "results": [fate_row(fate, offer) for fate, offer in zip(fates, offers, strict=True)],
        **told_counts(counts),
    }
    headers: dict[str, str] = {}
    if counts[Ruling.UNAVAILABLE]:
        headers["retry-after"] = str(door.retry_after_seconds())
    spooled = asked_async and counts[Ruling.SPOOLED]
    if spooled:
        headers |= _ASYNC
    return JsonResponse(orjson.dumps(content), 202 if spooled else 200, headers)


def _all_accepted(fates: Sequence[Fate]) -> dict[str, Any]:
    """As for any batch; this is what nearly all are told."""
    rows = [
        {"status": "accepted", "partition": partition, "offset": offset}
        for _, partition, offset, _, _ in fates
    ]
    return {"results": rows, "accepted": len(rows), "duplicates": 0, "refused": 0}


def told_counts(counts: dict[Ruling, int]) -> dict[str, int]:
    """How many became what; of the rarer rulings only those that there were."""
    told = {
        "accepted": counts[Ruling.ACCEPTED],
        "duplicates": counts[Ruling.DUPLICATE],
        "refused": counts[Ruling.REFUSED] + counts[Ruling.CONFLICT],
    }
    for name, ruling in (("spooled", Ruling.SPOOLED), ("unavailable", Ruling.UNAVAILABLE)):
        if counts[ruling]:
            told[name] = counts[ruling]
    return told


def fate_row(fate: Fate, offer: Offer | None) -> dict[str, Any]:
    """What became of one event, in JSON."""
    ruling, partition, offset, _, _ = fate
    if ruling is _ACCEPTED:
        return {"status": "accepted", "partition": partition, "offset": offset}
    row: dict[str, Any] = {"status": ruling.value}
    if partition is not None:
        row["partition"] = partition
        row["offset"] = offset
    if ruling is Ruling.REFUSED:
        row["field"] = fate.field
        row["reason"] = fate.reason
    elif ruling is Ruling.CONFLICT:
        row["field"] = "key"
        row["reason"] = _CONFLICT
    elif ruling is Ruling.UNAVAILABLE:
        row["reason"] = _AWAY
    elif ruling is Ruling.SPOOLED and offer is not None and offer.key is not None:
        row["receipt"] = offer.key
    return row


def refused(field: str, reason: str) -> Problem:
    """The problem of an event that can never be counted."""
    return Problem(422, "refused-event", f"{field}: {reason}", errors=[_flaw(field, reason)])


def unavailable(door: Door) -> Problem:
    """The problem while nothing can be taken."""
    return Problem(
        503, "log-unavailable", _AWAY, headers={"retry-after": str(door.retry_after_seconds())}
    )


def problem_line(problem: Problem) -> bytes:
    """A problem as the last line of a stream whose beginning is already in the log."""
    return bytes(problem_response(problem).body).replace(b"\n", b" ") + b"\n"


def fate_line(fate: Fate, offer: Offer | None) -> bytes:
    """What became of one event, as a line."""
    return orjson.dumps(fate_row(fate, offer), option=orjson.OPT_APPEND_NEWLINE)


def _flaw(field: str, reason: str) -> dict[str, str]:
    return {"field": field, "reason": reason}
