"""Records that no worker should trust, each with the reason under which it must be refused.

They are the applicable kinds of poison that hurt stream processors: wrong magic, unknown schemas,
truncation, trailing bytes, impossible lengths and branches, oversized maps, compressed bombs, large
keys, tombstones, text that is not UTF-8, and well-formed events that say impossible things.
(Recursion and null arrays need a writer schema of the attacker's; only bundled ones are taken, so
they arrive as unknown schema ids.)
"""

from __future__ import annotations

import random
import struct
from typing import Any, NamedTuple

from meterstream_schemas import codec
from meterstream_schemas.events import EventKind, MeterEvent

SCHEMA = codec.parse_text(codec.bundled_text(codec.LATEST_ID))
HEADER = b"\x00\x00\x00\x00\x01"
BOMB_BYTES = 8_000_000


class Hostile(NamedTuple):
    """One record: what it is called here, its bytes, its Kafka key, and the reason expected."""

    name: str
    value: bytes | None
    reason: str
    key: bytes | None = b"k"


def good(sequence: int, *, tenant: str, lane: int, time: int) -> MeterEvent:
    """An event that must be counted."""
    return MeterEvent(
        kind=EventKind.USAGE,
        tenant=tenant,
        type="api.request",
        time=time,
        quantity=sequence,
        scale=0,
        session=None,
        subject=None,
        attributes={"route": "/"},
        producer="a" * 32,
        lane=lane,
        sequence=sequence,
        key=None,
    )


def encode(event: MeterEvent) -> bytes:
    """The framed record of an event."""
    return codec.encode(event, SCHEMA)


def varint(value: int) -> bytes:
    """Avro's zigzag form of an integer of any size."""
    zigzag = value << 1 if value >= 0 else ((-value) << 1) - 1
    out = bytearray()
    while zigzag >= 0x80:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)
    return bytes(out)


def small_records(event: MeterEvent) -> list[Hostile]:
    """Poison of ordinary size, made from one good event; no number of a good event is used."""
    record = encode(event)
    return [*_not_framed(record), *_not_avro(record, event), *_not_events(event)]


def large_records() -> list[Hostile]:
    """Poison by size: what a topic takes, or takes compressed, and no event may have."""
    noise = random.Random(2)
    many = b"".join(varint(6) + b"%06d" % n + varint(1) + b"v" for n in range(100_000))
    oversized = HEADER + varint(1) + varint(1) + b"a" + varint(1) + b"b" + varint(0) * 3
    oversized += b"\x00\x00" + varint(100_000) + many
    return [
        Hostile("map of 100,000 entries", oversized, "too_large"),
        Hostile("bomb of zeros", HEADER + bytes(BOMB_BYTES), "too_large"),
        Hostile("as large as the topic takes", HEADER + noise.randbytes(1_040_000), "too_large"),
        Hostile("garbage under a large key", b"\x07garbage", "undecodable", b"k" * 900_000),
        Hostile("key of noise", b"\x07garbage", "undecodable", noise.randbytes(1_048_300)),
    ]


def blocked(event: MeterEvent) -> bytes:
    """A good event in another legal spelling: its map in one block that tells its size in bytes."""
    plain = encode(event)
    pairs = [text.encode() for pair in event.attributes.items() for text in pair]
    items = b"".join(varint(len(text)) + text for text in pairs)
    usual = varint(len(event.attributes)) + items
    assert plain.count(usual) == 1
    return plain.replace(usual, varint(-len(event.attributes)) + varint(len(items)) + items)


def _not_framed(record: bytes) -> list[Hostile]:
    return [
        Hostile("tombstone", None, "undecodable"),
        Hostile("tombstone without key", None, "undecodable", None),
        Hostile("empty value", b"", "undecodable"),
        Hostile("four zero bytes", b"\x00" * 4, "undecodable"),
        Hostile("header alone", HEADER, "undecodable"),
        Hostile("wrong magic", b"\x01" + record[1:], "undecodable"),
        Hostile("JSON text", b'{"tenant": "a", "quantity": 1}', "undecodable"),
        Hostile("HTTP", b"GET / HTTP/1.1\r\n\r\n", "undecodable"),
        Hostile("no framing", record[5:], "undecodable"),
        Hostile("schema id 0", b"\x00" * 5 + record[5:], "unknown_schema"),
        Hostile("schema id 4242", struct.pack(">bI", 0, 4242) + record[5:], "unknown_schema"),
        Hostile("highest schema id", b"\x00\xff\xff\xff\xff" + record[5:], "unknown_schema"),
    ]


def _not_avro(record: bytes, event: MeterEvent) -> list[Hostile]:
    usage = varint(1)
    text = varint(3) + b"abc"
    to_session = HEADER + usage + text + text + varint(event.time) + varint(1) + varint(0)
    to_map = to_session + b"\x00\x00"
    after_map = text + varint(0) + varint(1) + b"\x00"
    noise = random.Random(1)
    bodies = {
        "truncated by one byte": record[:-1],
        "cut in the middle": record[: len(record) // 2],
        "one byte follows": record + b"\x00",
        "a second event follows": record + record[5:],
        "enum index 99": HEADER + varint(99) + record[6:],
        "enum index -1": HEADER + varint(-1) + record[6:],
        "negative text length": HEADER + usage + varint(-5) + record[7:],
        "text of a terabyte": HEADER + usage + varint(2**40) + b"abc",
        "integer that never ends": HEADER + usage + text + text + b"\xff" * 64,
        "integer of 70 bits": HEADER + usage + text + text + varint(2**70) + record[-40:],
        "union branch 7": to_session + varint(7) + text + b"\x00\x00" + after_map,
        "union branch -1": to_session + varint(-1) + text + b"\x00\x00" + after_map,
        "union branch -2": to_session + varint(-2) + b"\x00\x00" + after_map,
        "map of 2^62 entries": to_map + varint(2**62) + after_map,
        "map of -2^63 entries": to_map + varint(-(2**63)) + varint(8) + after_map,
        "tenant is not UTF-8": HEADER + usage + varint(2) + b"\xff\xfe" + record[7:],
        "tenant is a lone surrogate": to_map.replace(text, varint(3) + b"\xed\xa0\x80", 1)
        + b"\x00"
        + after_map,
        "attribute is not UTF-8": to_map + varint(1) + text + varint(1) + b"\xc3\x00" + after_map,
        "zeros": HEADER + b"\x00" * 200 + b"\x01",
        "ones": HEADER + b"\xff" * 200,
        "noise": HEADER + b"\xff" + noise.randbytes(300),
    }
    return [Hostile(name, value, "undecodable") for name, value in bodies.items()]


def _not_events(event: MeterEvent) -> list[Hostile]:
    hour = 3_600_000_000
    said: dict[str, tuple[str, dict[str, Any]]] = {
        "type that no meter reads": ("unknown_type", {"type": "nobody.reads"}),
        "session of a type without sessions": (
            "unknown_type", {"kind": EventKind.SESSION_START, "session": "s"},
        ),
        "kind not counted yet": ("unknown_kind", {"kind": EventKind.UNKNOWN}),
        "void that names no event": ("invalid_key", {"kind": EventKind.VOID}),
        "ten years ahead": ("invalid_time", {"time": event.time + 10 * 8_766 * hour}),
        "before metering began": ("invalid_time", {"time": 0}),
        "before 1970": ("invalid_time", {"time": -(2**63)}),
        "at the end of time": ("invalid_time", {"time": 2**63 - 1}),
        "scale 19": ("invalid_quantity", {"scale": 19}),
        "negative scale": ("invalid_quantity", {"scale": -(2**31)}),
        "bytes that are no number": ("invalid_quantity", {"attributes": {"bytes": "NaN"}}),
        "bytes beyond 64 bits": ("invalid_quantity", {"attributes": {"bytes": "1e19"}}),
        "empty tenant": ("invalid_tenant", {"tenant": ""}),
        "tenant with NUL": ("invalid_tenant", {"tenant": "a\x00b"}),
        "tenant of 10,000 bytes": ("invalid_tenant", {"tenant": "t" * 10_000}),
        "lane 256": ("invalid_identity", {"lane": 256}),
        "lane -1": ("invalid_identity", {"lane": -1}),
        "number 0": ("invalid_identity", {"sequence": 0}),
        "producer of 10,000 bytes": ("invalid_identity", {"producer": "p" * 10_000}),
        "empty key": ("invalid_identity", {"key": ""}),
        "mark of an impossible lane": ("invalid_identity", {"kind": EventKind.MARK, "lane": 999}),
    }  # fmt: skip
    hostile: list[Hostile] = []
    for number, (name, (reason, changes)) in enumerate(said.items(), start=900_001):
        fields: dict[str, Any] = {"sequence": number, "producer": "b" * 32, "lane": 3, **changes}
        hostile.append(Hostile(name, encode(event._replace(**fields)), reason))
    return hostile
