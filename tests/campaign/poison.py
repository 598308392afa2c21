"""Ten kinds of records that no worker should trust, with the reason under which each is refused."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from meterstream_schemas.events import EventKind
from tests.integration.hostile_records import HEADER, encode, good, varint

if TYPE_CHECKING:
    import random


class Poison(NamedTuple):
    """One record, and its reason."""

    value: bytes | None
    reason: str
    key: bytes | None = b"k"


def poison(chance: random.Random, now: int) -> list[Poison]:
    """All kinds in a random order; ``now`` in microseconds UTC."""
    event = good(1, tenant="poison", lane=0, time=now)
    foreign = event._replace(producer="", sequence=0)
    record = encode(event)
    deep = HEADER + varint(1) * 200  # As a recursive schema would be nested.
    nulls = HEADER + varint(1) + (varint(3) + b"abc") * 2 + varint(2**40) + b"\x00" * 8
    found = [
        Poison(b"\x01" + record[1:], "undecodable"),
        Poison(
            struct.pack(">bI", 0, chance.randrange(1_000, 2**31)) + record[5:], "unknown_schema"
        ),
        Poison(record[: chance.randrange(6, len(record) - 1)], "undecodable"),
        Poison(record + chance.randbytes(chance.randrange(1, 40)), "undecodable"),
        Poison(encode(foreign._replace(type="nobody.reads")), "unknown_type"),
        Poison(encode(foreign._replace(kind=EventKind.VOID)), "invalid_key"),
        Poison(encode(foreign._replace(time=now + 7_200_000_000)), "invalid_time"),
        Poison(deep, "undecodable"),
        Poison(nulls, "undecodable"),
        Poison(HEADER + bytes(200_000), "too_large"),
        Poison(b"\x07garbage", "undecodable", chance.randbytes(900_000)),
        Poison(None, "undecodable"),
    ]
    chance.shuffle(found)
    return found
