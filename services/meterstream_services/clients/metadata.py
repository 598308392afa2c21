"""Metadata from a body, made ready for `meterstream.compat.plain`, which makes attributes of it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast

from meterstream.compat.plain import attributes_of
from meterstream_services.clients.exact_json import exact_text


def metadata_attributes(metadata: object, *, prefix: str) -> dict[str, str]:
    """The attributes that metadata are; numbers as they were sent, containers as JSON."""
    return attributes_of(readable(metadata), prefix=prefix)[0]


def readable(metadata: object) -> object:
    """Metadata without values that only `parse_json` makes."""
    if not isinstance(metadata, Mapping):
        return metadata
    members = cast("Mapping[str, Any]", metadata)
    return {name: _readable(value) for name, value in members.items()}


def _readable(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    return exact_text(value) if isinstance(value, dict | list) else value
