"""One event to Avro bytes and back, record by record: the exact path, and the reference.

The worker decodes batches natively and the SDK encodes from cached fragments; both must agree
with this module byte for byte, and fall back to it.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, cast

import fastavro
import fastavro.types

from meterstream_schemas import wire
from meterstream_schemas.bundled import BUNDLED_FILES, LATEST_ID, bundled_text
from meterstream_schemas.errors import UndecodableRecord
from meterstream_schemas.events import EventKind, MeterEvent

if TYPE_CHECKING:
    from meterstream_schemas.vetting import Json

__all__ = [
    "BUNDLED_FILES",
    "LATEST_ID",
    "Schema",
    "bundled_text",
    "decode_body",
    "encode",
    "encode_body",
    "parse_text",
]

Schema = fastavro.types.Schema


def parse_text(text: str) -> Schema:
    """A schema ready for fastavro, with logical types left out: times stay integers."""
    return fastavro.parse_schema(cast("Schema", _without_logical_types(json.loads(text))))


def encode_body(event: MeterEvent, schema: Schema) -> bytes:
    """The Avro body of an event. The event must have passed the door's checks."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, event._asdict(), strict=True)
    return out.getvalue()


def encode(event: MeterEvent, schema: Schema, schema_id: int = LATEST_ID) -> bytes:
    """A framed record."""
    return wire.header(schema_id) + encode_body(event, schema)


def decode_body(body: bytes, schema: Schema) -> MeterEvent:
    """The event in an Avro body written with ``schema``; all bytes must belong to it.

    Raises `UndecodableRecord`, and nothing else, for whatever the bytes are.
    """
    source = io.BytesIO(body)
    try:
        record: Any = fastavro.schemaless_reader(source, schema, None)
    except Exception as problem:
        # fastavro raises many unrelated types on hostile bytes; all mean the same to a caller.
        words = str(problem) or "the record ends too early"
        raise UndecodableRecord(f"{type(problem).__name__}: {words}"[:200]) from problem
    unread = len(body) - source.tell()
    if unread:
        raise UndecodableRecord(f"{unread} bytes follow the record")
    try:
        return _event(record)
    except (KeyError, ValueError, TypeError) as problem:
        raise UndecodableRecord(f"not a meter event: {problem!r}"[:200]) from problem


def _event(record: dict[str, Any]) -> MeterEvent:
    kind = record["kind"]
    attributes = record.get("attributes", {})
    if type(attributes) is not dict:
        raise TypeError("attributes is no map")
    for value in attributes.values():
        _text("attributes", value)
    return MeterEvent(
        kind=EventKind(kind) if kind in EventKind.__members__ else EventKind.UNKNOWN,
        tenant=_text("tenant", record["tenant"]),
        type=_text("type", record["type"]),
        time=_integer("time", record["time"], bits=64),
        quantity=_integer("quantity", record["quantity"], bits=64),
        scale=_integer("scale", record["scale"], bits=32),
        session=_optional_text("session", record.get("session")),
        subject=_optional_text("subject", record.get("subject")),
        attributes=attributes,
        producer=_text("producer", record.get("producer", "")),
        lane=_integer("lane", record.get("lane", 0), bits=32),
        sequence=_integer("sequence", record.get("sequence", 0), bits=64),
        key=_optional_text("key", record.get("key")),
    )


def _text(name: str, value: object) -> str:
    if type(value) is not str:
        raise TypeError(f"{name} is no text")
    return value


def _optional_text(name: str, value: object) -> str | None:
    return None if value is None else _text(name, value)


def _integer(name: str, value: object, *, bits: int) -> int:
    """A varint may say more than its type holds, and another writer's schema anything at all."""
    if type(value) is not int:
        raise TypeError(f"{name} is no integer")
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise ValueError(f"{name} does not fit {bits} bits")
    return value


def _without_logical_types(node: Json) -> Json:
    if isinstance(node, dict):
        return {
            name: _without_logical_types(value)
            for name, value in node.items()
            if name != "logicalType"
        }
    if isinstance(node, list):
        return [_without_logical_types(item) for item in node]
    return node
