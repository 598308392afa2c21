"""From what CLIMeter's clients send to offers. Decision 23 says what an event is. Pure.

The client throws a whole batch away that is refused. So each event is judged for itself; see
`.reading` for what is read at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, cast

from meterstream.compat.climeter import TYPE
from meterstream.compat.plain import attributes_of, text_of
from meterstream_services.clients.metadata import id_in, readable
from meterstream_services.gateway.port import Offer

DIAGNOSTIC: Final = "_diagnostic"
"""The tool that ``climeter diagnose`` calls: nobody's."""
FUTURE_MAX: Final = 300 * 1_000_000
"""Clocks go wrong; an event further ahead has the time of its arrival."""
KEYS: Final = ("idempotency_key", "event_id")
REQUEST: Final = "request_id"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Called(NamedTuple):
    """What was called, and how it ended."""

    tool: str
    command: str
    status: str = "success"


class InvalidItem(ValueError):
    """One event cannot be read; its message is a sentence about it."""


def read_event(event: object, tenant: str, *, now: int) -> Offer | None:
    """The offer that an event is; None for one that nobody wants counted. Raises `InvalidItem`."""
    if not isinstance(event, dict):
        raise InvalidItem("an event is a JSON object")
    sent = cast("dict[str, Any]", event)
    command = _named(sent, "command", "event_name")
    tool = _named(sent, "tool_slug", "tool_id") or command
    if tool == DIAGNOSTIC:
        return None
    if not command:
        raise InvalidItem("neither command nor event_name is there; send one of them")
    status = _named(sent, "status") or "success"
    time = time_of(sent.get("timestamp"), now)
    return offer_of(tenant, Called(tool, command, status), sent.get("metadata"), time)


def offer_of(tenant: str, called: Called, metadata: object, time: int | None) -> Offer:
    """The event of one call, whatever its metadata are."""
    attributes = {
        "tool": text_of(called.tool),
        "command": text_of(called.command),
        "status": text_of(called.status),
        **attributes_of(readable(metadata), prefix="metadata.")[0],
    }
    key = _key(metadata, attributes, time)
    return Offer(TYPE, tenant, 1, time, attributes=attributes, key=key)


def time_of(told: object, now: int) -> int | None:
    """Microseconds UTC; None, for the time of arrival, of none and of one that lies ahead.

    Raises `InvalidItem` for what is no ISO 8601 time.
    """
    if told is None or told == "":
        return None
    try:
        found = datetime.fromisoformat(told) if isinstance(told, str) else None
        if found is None:
            raise InvalidItem("timestamp: is no ISO 8601 text")
        aware = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidItem("timestamp: is no ISO 8601 time") from None
    time = (aware - _EPOCH) // timedelta(microseconds=1)
    return None if time > now + FUTURE_MAX else time


def _named(sent: Mapping[str, Any], *names: str) -> str:
    """The first of these fields that has text in it."""
    return next((text for name in names if isinstance(text := sent.get(name), str) and text), "")


def _key(metadata: object, attributes: Mapping[str, str], time: int | None) -> str | None:
    """The key that metadata name, if any; wherever it stands among them.

    A request's id is no event's: two calls of one request are two events. So what distinguishes
    them becomes part of the key, and only a batch that is sent again repeats it.
    """
    for name in KEYS:
        key = id_in(metadata, name)
        if key is not None:
            return key
    request = id_in(metadata, REQUEST)
    if request is None:
        return None
    content = json.dumps([request, time, sorted(attributes.items())])
    return f"request:{hashlib.sha256(content.encode()).hexdigest()[:32]}"
