"""Metadata from a body, made ready for `meterstream.compat.plain`, which makes attributes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from itertools import islice
from typing import Any, Final, cast

from meterstream.compat.plain import METADATA_MAX, attributes_of, text_of
from meterstream_schemas.checks import check_text
from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import (
    ATTRIBUTE_NAME_BYTES_MAX,
    ATTRIBUTE_VALUE_BYTES_MAX,
    ATTRIBUTES_MAX,
    ID_BYTES_MAX,
)
from meterstream_services.clients.beginning import beginning

FITTING_BYTES_MAX: Final = 14_000
"""Of an event's 16 KiB, for all of its metadata."""


def metadata_attributes(metadata: object, *, prefix: str) -> dict[str, str]:
    """The attributes that metadata are; numbers as they were sent, containers as JSON."""
    return attributes_of(readable(metadata), prefix=prefix)[0]


def fitting(texts: Mapping[str, str]) -> dict[str, str]:
    """Texts as attributes under their own names: what is too long is cut, what is too much left.

    So an event counts whatever its metadata are; a name without a letter is left out.
    """
    kept: dict[str, str] = {}
    room = FITTING_BYTES_MAX
    for name, value in texts.items():
        attribute, text = _fitting_name(name), text_of(value)
        room -= len(attribute.encode()) + len(text.encode()) + 4
        if room < 0 or len(kept) == ATTRIBUTES_MAX:
            break
        if attribute:
            kept[attribute] = text
    return kept


def _fitting_name(name: str) -> str:
    seen = "".join(letter if letter.isprintable() else "?" for letter in name)
    return seen.encode("utf-8", "replace")[:ATTRIBUTE_NAME_BYTES_MAX].decode("utf-8", "ignore")


def id_in(metadata: object, name: str) -> str | None:
    """The id that metadata hold under a name: text, or a number; None for anything else.

    It is found whatever stands around it, also where it is not kept as an attribute.
    """
    if not isinstance(metadata, Mapping):
        return None
    told = cast("Mapping[str, Any]", metadata).get(name)
    if isinstance(told, bool) or not isinstance(told, str | int | Decimal):
        return None
    return as_id(str(told)) if told != "" else None


def as_id(told: str, *, bytes_max: int = ID_BYTES_MAX) -> str:
    """A text as an id; ``sha256:`` and its digest where it is too long or cannot be written."""
    try:
        return check_text(told, field="id", bytes_max=bytes_max)
    except InvalidEvent:  # It names something all the same.
        digest = hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()
        return f"sha256:{digest}"


def readable(metadata: object) -> object:
    """Of metadata what `attributes_of` keeps, without values that only `parse_json` makes."""
    if not isinstance(metadata, Mapping):
        return metadata
    members = cast("Mapping[str, Any]", metadata)
    return {name: _readable(value) for name, value in islice(members.items(), METADATA_MAX)}


def _readable(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    return beginning(value, ATTRIBUTE_VALUE_BYTES_MAX) if isinstance(value, dict | list) else value
