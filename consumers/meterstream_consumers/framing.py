"""Framed records decoded as they are: the five bytes of a frame as five fields before the record.

A byte below 128 is a whole Avro integer, and a frame of such bytes is five of them, so that the
native decoder reads frame and body in one go: nothing is sliced off, and no set of headers is made.
Whether every record has this frame is seen in the columns of those fields. A byte of 128 or more
runs on into what follows it; records with such a schema id are decoded without their frames.
"""

from __future__ import annotations

import json
from typing import Final

from meterstream_aggregator.batch import ArrowColumns

_FIELD: Final = "meterstream_frame_"


def can_be_fields(header: bytes) -> bool:
    """Whether each byte of a frame is an Avro integer of its own."""
    return max(header) < 0x80


def with_frame(schema_text: str) -> str | None:
    """The schema of a record with its frame as first fields; None for what is no plain record."""
    schema = json.loads(schema_text)
    if not isinstance(schema, dict) or "fields" not in schema:
        return None
    frame = [{"name": f"{_FIELD}{at}", "type": "int"} for at in range(5)]
    return json.dumps({**schema, "fields": [*frame, *schema["fields"]]})


def all_framed(decoded: ArrowColumns, header: bytes) -> bool:
    """Whether every record says these integers in its frame.

    Each may say them in more bytes than one: then the batch has more bytes than is canonical.
    """
    for at, byte in enumerate(header):
        said = decoded.column(f"{_FIELD}{at}").to_numpy()
        if (said != _unzigzag(byte)).any():
            return False
    return True


def _unzigzag(byte: int) -> int:
    return (byte >> 1) ^ -(byte & 1)
