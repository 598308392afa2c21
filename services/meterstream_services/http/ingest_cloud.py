"""CloudEvents 1.0 into an `Offer`: structured, batched and binary, by one set of rules.

=====================  ==========================================================================
CloudEvents            our event
=====================  ==========================================================================
``type``               ``type``
``source`` and ``id``  ``key``: ``ce:LENGTH:SOURCE:ID``, LENGTH in characters so that no two pairs
                       share one; hashed where that is too long for a key
extension ``tenant``   ``tenant``; without it the key's only one
``subject``            ``subject``
``time``               ``time``
``data``               its members are ``attributes``: scalars as exact text, members of objects
                       by their path joined with dots, arrays as JSON without spaces
extensions             ``quantity``, ``session``, ``kind``
=====================  ==========================================================================

An optional attribute that is null is not there. Other extensions are no part of the event, as
CloudEvents wants it of receivers that do not know them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import ATTRIBUTES_MAX, ID_BYTES_MAX, EventKind
from meterstream_services.gateway.port import Offer
from meterstream_services.http.ingest_native import (
    event_kind,
    json_name,
    microseconds,
    optional_text,
    quantity_of,
    required_text,
    scalar_text,
    tenant_for,
)
from meterstream_services.http.json_bodies import BadJson, parse_json
from meterstream_services.keys.principal import Principal

SPEC_VERSION: Final = "1.0"
_HEADER: Final = "ce-"


def cloud_offer(
    item: object, principal: Principal, *, subject_may_be_tenant: bool = False
) -> Offer:
    """The offer that a CloudEvent in JSON means. Raises `InvalidEvent`.

    ``subject_may_be_tenant``: where neither an extension nor the key says the tenant, the subject
    does, and is no subject then, as OpenMeter has it.
    """
    if type(item) is not dict:
        raise InvalidEvent("event", f"{json_name(item)} is no event; send an object")
    event: dict[str, Any] = item
    version = event.get("specversion")
    if version != SPEC_VERSION:
        shown = repr(version[:20]) if type(version) is str else json_name(version)
        raise InvalidEvent("specversion", f"{shown} is not read here; send {SPEC_VERSION!r}")
    kind = event_kind(event.get("kind"))
    if kind is EventKind.VOID and event.get("time") is None:
        raise InvalidEvent(
            "time", "is missing; a void repeats its event: same source and id, time and content"
        )
    tenant, subject = event.get("tenant"), optional_text(event.get("subject"), "subject")
    if subject_may_be_tenant and tenant is None and principal.sole_tenant is None:
        tenant, subject = subject, None
        if tenant is None:
            raise InvalidEvent("subject", "is missing; name who used it")
    return Offer(
        required_text(event.get("type"), "type"),
        tenant_for(tenant, principal),
        quantity_of(event, kind),
        microseconds(event.get("time")),
        kind,
        optional_text(event.get("session"), "session"),
        subject,
        _attributes(event),
        cloud_key(_name(event, "source"), _name(event, "id")),
    )


def cloud_key(source: str, event_id: str) -> str:
    """The caller's key that a pair of source and id is: no two pairs have the same."""
    key = f"ce:{len(source)}:{source}:{event_id}"
    if len(key) * 4 > ID_BYTES_MAX and len(key.encode(errors="surrogatepass")) > ID_BYTES_MAX:
        # The length stays in what is hashed; a digest has no second colon, so it is no plain key.
        digest = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
        return f"ce:sha256-{digest}"
    return key


def from_headers(headers: Mapping[str, str], media_type: str, body: bytes) -> dict[str, Any]:
    """The event of a request in binary mode, as structured mode has it. Raises `InvalidEvent`."""
    event: dict[str, Any] = {}
    for header, value in headers.items():
        if header.startswith(_HEADER):
            event[header.removeprefix(_HEADER)] = _header_text(header, value)
    for taken in ("data", "data_base64"):
        if taken in event:
            raise InvalidEvent(taken, "is no attribute; send data as the body")
    if media_type:
        event["datacontenttype"] = media_type
    if body:
        _needs_json(event)
        event["data"] = _parsed(body)
    return event


def is_json_type(media_type: str) -> bool:
    """Whether a media type, in lower case and without parameters, is JSON."""
    return media_type in {"application/json", "text/json"} or media_type.endswith("+json")


def _name(event: Mapping[str, object], field: str) -> str:
    text = required_text(event.get(field), field)
    if not text:
        raise InvalidEvent(field, "is empty; pass at least one character")
    return text


def _header_text(header: str, value: str) -> str:
    """A header's value: UTF-8, percent-encoded where it is not plain ASCII."""
    try:
        return unquote_to_bytes(value.encode("latin-1")).decode()
    except UnicodeDecodeError:
        raise InvalidEvent(header[:64], "is not percent-encoded UTF-8") from None


def _attributes(event: Mapping[str, Any]) -> dict[str, str] | None:
    data = event.get("data")
    packed = event.get("data_base64")
    if data is None and packed is None:
        return None
    _needs_json(event)
    if packed is not None:
        if data is not None:
            raise InvalidEvent("data", "is there twice, as data and as data_base64; send one")
        data = _unpacked(packed)
    if data is None:
        return None
    if type(data) is not dict:
        raise InvalidEvent("data", f"{json_name(data)} has no names; send an object, or no data")
    found: dict[str, str] = {}
    for name, text in _flat(data, ""):
        if name in found:
            raise InvalidEvent("data", f"two members are called {name[:64]!r}; rename one")
        found[name] = text
        if len(found) > ATTRIBUTES_MAX:
            raise InvalidEvent("data", f"has more than {ATTRIBUTES_MAX} members; send fewer")
    return found


def _flat(members: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for name, value in members.items():
        if type(value) is dict:
            yield from _flat(value, f"{path}{name}.")
        elif type(value) is list:
            yield f"{path}{name}", _compact(value)
        elif value is not None:
            yield f"{path}{name}", scalar_text(value) or ""


def _compact(value: object) -> str:
    """JSON without spaces and with every digit."""
    if type(value) is list:
        return f"[{','.join(map(_compact, value))}]"
    if type(value) is dict:
        members = (f"{_compact(name)}:{_compact(each)}" for name, each in value.items())
        return f"{{{','.join(members)}}}"
    if type(value) is Decimal:
        return scalar_text(value) or ""
    return json.dumps(value, ensure_ascii=False)


def _needs_json(event: Mapping[str, Any]) -> None:
    told = event.get("datacontenttype")
    if told is None:
        return
    media_type = required_text(told, "datacontenttype").partition(";")[0].strip().lower()
    if not is_json_type(media_type):
        raise InvalidEvent("datacontenttype", f"{media_type[:64]!r} has no members; send JSON data")


def _unpacked(packed: object) -> Any:  # noqa: ANN401 - whatever the sender wrote
    try:
        return _parsed(base64.b64decode(required_text(packed, "data_base64"), validate=True))
    except (binascii.Error, ValueError) as problem:
        if isinstance(problem, InvalidEvent):
            raise
        raise InvalidEvent("data_base64", "is not base64; mend it, or send data") from None


def _parsed(body: bytes) -> Any:  # noqa: ANN401 - whatever the sender wrote
    try:
        return parse_json(body)
    except BadJson as problem:
        raise InvalidEvent("data", problem.reason) from None
