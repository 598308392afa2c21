"""What a client of AgentMeter hears of an event's fate, and which key makes its repeats known."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from starlette.exceptions import HTTPException

from meterstream_schemas.checks import check_text
from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import ID_BYTES_MAX
from meterstream_services.clients.shaped_routes import away
from meterstream_services.gateway.port import Fate, Ruling
from meterstream_services.http.parts import Parts

_KEY: Final = "idempotency_key"
_IDS: Final = ("event_id", "request_id")


def key_in(metadata: Mapping[str, str], header: str | None, *, of: str) -> str | None:
    """The key of an event: the header, else the first that its metadata has; None without.

    A request may use several meters: its id is one of the meter type ``of``.
    """
    told = header or metadata.get(_KEY) or None
    if told is None:
        name = next((name for name in _IDS if metadata.get(name)), None)
        if name is None:
            return None
        told = f"{of}:{metadata[name]}"
    try:
        return check_text(told, field="key", bytes_max=ID_BYTES_MAX)
    except InvalidEvent:  # It names the event all the same.
        return f"sha256:{hashlib.sha256(told.encode()).hexdigest()}"


def answer_for(fate: Fate, parts: Parts) -> str | None:
    """Where the log has an event, as an id; None while only the spool has it.

    Raises 409, 503 and `InvalidEvent` where it is not kept.
    """
    match fate.ruling:
        case Ruling.REFUSED:
            raise InvalidEvent(fate.field or "event", fate.reason or "cannot be counted")
        case Ruling.CONFLICT:
            raise HTTPException(409, "this id was used for another event; give each its own")
        case Ruling.UNAVAILABLE:
            raise away(parts)
        case _:
            return None if fate.offset is None else f"{fate.partition}-{fate.offset}"
