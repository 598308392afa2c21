"""Confluent framing: one zero byte, the schema id as four big-endian bytes, the Avro body."""

from __future__ import annotations

import struct
from typing import Final

from meterstream_schemas.errors import UndecodableRecord

HEADER_BYTES: Final = 5
_HEADER: Final = struct.Struct(">bI")


def header(schema_id: int) -> bytes:
    """The five bytes in front of every body written with ``schema_id``."""
    return _HEADER.pack(0, schema_id)


def split(record: bytes) -> tuple[int, bytes]:
    """Schema id and Avro body of a framed record.

    Raises `UndecodableRecord` when the first byte is not zero or the header is cut short.
    """
    if len(record) < HEADER_BYTES:
        raise UndecodableRecord(f"{len(record)} bytes are too short for a framed record")
    if record[0] != 0:
        raise UndecodableRecord(
            f"first byte is {record[0]:#04x}, not the 0x00 of Confluent framing"
        )
    return int.from_bytes(record[1:HEADER_BYTES], "big"), record[HEADER_BYTES:]
