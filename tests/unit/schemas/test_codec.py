"""The reference codec: events survive it, hostile bytes do not escape it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_schemas import codec, wire
from meterstream_schemas.errors import UndecodableRecord
from meterstream_schemas.events import EventKind, MeterEvent
from tests.unit.schemas.events_made import EVENTS

SCHEMA = codec.parse_text(codec.bundled_text(codec.LATEST_ID))
PLAIN = MeterEvent(
    kind=EventKind.USAGE,
    tenant="acme",
    type="api.request",
    time=1_790_000_000_000_000,
    quantity=15,
    scale=1,
    session=None,
    subject="u42",
    attributes={"route": "/pay", "region": "eu"},
    producer="0" * 32,
    lane=4,
    sequence=1,
    key="k-1",
)


@given(EVENTS)
def test_an_event_survives_the_codec(event: MeterEvent) -> None:
    """What is written is read, field for field."""
    record = codec.encode(event, SCHEMA)
    schema_id, body = wire.split(record)

    assert schema_id == codec.LATEST_ID
    assert codec.decode_body(body, SCHEMA) == event


def test_a_symbol_of_a_newer_writer_reads_as_unknown() -> None:
    """A kind that this version does not know stops nobody."""
    newer = codec.bundled_text(1).replace('"MARK"', '"MARK", "SNAPSHOT"')
    body = codec.encode_body(PLAIN, SCHEMA)
    body = b"\x0e" + body[1:]  # The eighth symbol, in zigzag.

    assert codec.decode_body(body, codec.parse_text(newer)).kind is EventKind.UNKNOWN


def test_bytes_after_the_record_are_refused() -> None:
    """A record that is longer than its event is not an event."""
    body = codec.encode_body(PLAIN, SCHEMA)

    with pytest.raises(UndecodableRecord, match="2 bytes follow the record"):
        codec.decode_body(body + b"\x00\x00", SCHEMA)


def test_every_truncation_is_refused() -> None:
    """No prefix of a record passes for a whole one."""
    body = codec.encode_body(PLAIN, SCHEMA)

    for size in range(len(body)):
        with pytest.raises(UndecodableRecord):
            codec.decode_body(body[:size], SCHEMA)


@given(EVENTS, st.randoms(use_true_random=False))
def test_mutated_bytes_are_an_event_or_undecodable(
    event: MeterEvent, source: random.Random
) -> None:
    """Bytes changed, cut out or put in raise UndecodableRecord and nothing else."""
    body = bytearray(codec.encode_body(event, SCHEMA))
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(body) + 1)
        match source.randrange(3):
            case 0:
                body[at : at + 1] = bytes([source.randrange(256)])
            case 1:
                del body[at : at + source.randint(1, 5)]
            case _:
                body[at:at] = source.randbytes(source.randint(1, 5))

    try:
        decoded = codec.decode_body(bytes(body), SCHEMA)
    except UndecodableRecord:
        return

    # A long of ten bytes may say more than 64 bits: what passes must be a value we can keep.
    assert -(2**63) <= decoded.quantity < 2**63
    assert -(2**63) <= decoded.time < 2**63
    assert codec.decode_body(codec.encode_body(decoded, SCHEMA), SCHEMA) == decoded


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_an_event_or_undecodable(body: bytes) -> None:
    """Whatever the bytes are, nothing but UndecodableRecord comes out."""
    try:
        decoded = codec.decode_body(body, SCHEMA)
    except UndecodableRecord:
        return

    assert codec.decode_body(codec.encode_body(decoded, SCHEMA), SCHEMA) == decoded


HEAD = (
    '{"type": "record", "name": "MeterEvent", "fields": [{"name": "kind", "type": "string"},'
    '{"name": "tenant", "type": "string"}, {"name": "type", "type": "string"},'
    '{"name": "time", "type": "long"}, {"name": "quantity", "type": "long"},'
    '{"name": "scale", "type": "int"}'
)


@pytest.mark.parametrize(
    ("schema", "size"),
    [
        ('"string"', 1),
        ('{"type": "map", "values": "long"}', 1),
        ('{"type": "record", "name": "Other", "fields": []}', 0),
        (HEAD.replace('"tenant", "type": "string"', '"tenant", "type": "long"') + "]}", 6),
        (HEAD.replace('"type", "type": "string"', '"type", "type": "null"') + "]}", 5),
        (HEAD.replace('"time", "type": "long"', '"time", "type": "double"') + "]}", 13),
        (HEAD.replace('"quantity", "type": "long"', '"quantity", "type": "float"') + "]}", 9),
        (HEAD.replace('"scale", "type": "int"', '"scale", "type": "boolean"') + "]}", 6),
        (HEAD + ', {"name": "key", "type": "bytes"}]}', 7),
        (HEAD + ', {"name": "attributes", "type": {"type": "array", "items": "int"}}]}', 7),
        (HEAD + ', {"name": "attributes", "type": "null"}]}', 6),
    ],
)
def test_a_foreign_schema_yields_no_event(schema: str, size: int) -> None:
    """Data of another shape are undecodable, not an event with odd values in it."""
    with pytest.raises(UndecodableRecord, match="not a meter event"):
        codec.decode_body(bytes(size), codec.parse_text(schema))


def test_attributes_of_another_type_yield_no_event() -> None:
    """A map of numbers is not a map of text."""
    schema = HEAD + ', {"name": "attributes", "type": {"type": "map", "values": "long"}}]}'

    with pytest.raises(UndecodableRecord, match="not a meter event"):
        codec.decode_body(bytes(6) + b"\x02\x02a\x02\x00", codec.parse_text(schema))


def test_an_older_writer_without_the_later_fields_is_read() -> None:
    """What a field's default says holds for records that lack the field."""
    decoded = codec.decode_body(bytes(6), codec.parse_text(HEAD + "]}"))

    assert (decoded.key, decoded.sequence, decoded.attributes) == (None, 0, {})
