"""Unimeter's protocol as functions on bytes, both ways: frames, events, results, the map.

Little-endian throughout; texts are UTF-8 in fields of a fixed width, padded with NUL::

    request    u32 magic · u8 version · u8 op · u16 partition · u32 payload bytes · u32 request id
    response   u8 status · 3 pad · u32 request id · u32 payload bytes
    push       the same 12 bytes: the op in place of the status, request id 0

    events     u32 events · u32 properties · events * 96 B · properties * 96 B in the events' order
    event      code[64] · u64 account · i64 time ns (0: now) · u64 value · u8 operation
               · u8 properties · 6 pad
    property   key[32] · value[64]
    result     u32 stored · u32 duplicates · u64 last offset
    map        256 * (leader[24] · replica[24] · replica[24] · 24 pad), each ``host:port``

Metrics are in `wire_metrics`, questions and their answers in `wire_questions`. Whatever the bytes,
a function that decodes returns or raises `BadFrame`, and makes no more than it was given.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple

MAGIC: Final = 0xC0FFEE01
VERSION: Final = 1
REQUEST_BYTES: Final = 16
RESPONSE_BYTES: Final = 12
EVENT_BYTES: Final = 96
PROPERTY_BYTES: Final = 96
CODE_BYTES: Final = 64
ADDRESS_BYTES: Final = 24
PARTITIONS: Final = 256
ANY_PARTITION: Final = 0xFFFF
U64_MAX: Final = 2**64 - 1

_REQUEST: Final = struct.Struct("<IBBHII")
_RESPONSE: Final = struct.Struct("<B3xII")
_COUNTS: Final = struct.Struct("<II")
_EVENT: Final = struct.Struct("<64sQqQBB6x")
_PROPERTY: Final = struct.Struct("<32s64s")
_RESULT: Final = struct.Struct("<IIQ")


class BadFrame(Exception):
    """These bytes are not what their op carries. ``reason`` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Op(IntEnum):
    """What a request asks for, and what a push is."""

    INGEST_ASYNC = 0x00
    INGEST_SYNC = 0x01
    GET_PARTITION_MAP = 0x10
    METRIC_PUT = 0x20
    METRIC_DELETE = 0x21
    METRIC_LIST = 0x22
    USAGE_QUERY = 0x30
    USAGE_REALTIME = 0x31
    EVENTS_LIST = 0x32
    ALERTS_LIST = 0x33
    ALERT_PUSH_ENABLE = 0x34
    ALERT_PUSH = 0x35
    USAGE_QUERY_BREAKDOWN = 0x36
    CLUSTER_STATUS = 0x40
    CLUSTER_REBALANCE = 0x41


class Status(IntEnum):
    """How a response begins. Any other number ends the published client's reader."""

    OK = 0
    DUPLICATE = 1
    ERR = 2
    UNKNOWN_METRIC = 3
    REDIRECT = 4
    NOT_LEADER = 5
    BACKPRESSURE = 6


class RequestHeader(NamedTuple):
    """The first 16 bytes of a request. ``op`` may be one that nobody knows."""

    op: int
    request_id: int
    payload_bytes: int
    version: int = VERSION
    partition: int = ANY_PARTITION


class ResponseHeader(NamedTuple):
    """The first 12 bytes of a response; ``status`` is the op where the request id is 0."""

    status: int
    request_id: int
    payload_bytes: int


class EventRow(NamedTuple):
    """One event as it lies in a frame: ``code`` with its padding, ``at`` in nanoseconds."""

    code: bytes
    account: int
    at: int
    value: int
    operation: int
    properties: int


class Result(NamedTuple):
    """What became of the events of a frame."""

    stored: int
    duplicates: int
    last_offset: int


def text(field: bytes) -> str:
    """The text of a padded field. Raises `BadFrame` where it is no UTF-8.

    The published client cuts texts by bytes: a character that is cut at the end is left out.
    """
    content = field.partition(b"\0")[0]
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as problem:
        whole = problem.reason == "unexpected end of data" and len(content) == len(field) - 1
        if whole:
            return content[: problem.start].decode("utf-8")
    raise BadFrame("a text is not UTF-8")


def padded(content: str, width: int) -> bytes:
    """A text as a field, cut to one byte less than its width, as the published client does."""
    return content.encode("utf-8", "replace")[: width - 1].ljust(width, b"\0")


def decode_request(header: bytes) -> RequestHeader:
    """The header of a request. Raises `BadFrame` where it is none of this protocol."""
    if len(header) != REQUEST_BYTES:
        raise BadFrame("a header has 16 bytes")
    magic, version, op, partition, size, request_id = _REQUEST.unpack(header)
    if magic != MAGIC:
        raise BadFrame("the magic number is wrong")
    if version != VERSION:
        raise BadFrame(f"version {version} is not known")
    return RequestHeader(op, request_id, size, version, partition)


def encode_request(
    op: int, payload: bytes, request_id: int, *, partition: int = ANY_PARTITION
) -> bytes:
    """A whole request."""
    return _REQUEST.pack(MAGIC, VERSION, op, partition, len(payload), request_id) + payload


def decode_response(header: bytes) -> ResponseHeader:
    """The header of a response or push. Raises `BadFrame` where it is cut."""
    if len(header) != RESPONSE_BYTES:
        raise BadFrame("a response's header has 12 bytes")
    return ResponseHeader(*_RESPONSE.unpack(header))


def encode_response(status: Status, request_id: int, payload: bytes = b"") -> bytes:
    """A whole response."""
    return _RESPONSE.pack(status, request_id, len(payload)) + payload


def encode_push(op: Op, payload: bytes) -> bytes:
    """A whole push."""
    return _RESPONSE.pack(op, 0, len(payload)) + payload


def event_rows(payload: bytes) -> tuple[list[tuple[bytes, int, int, int, int, int]], bytes]:
    """The events of a frame as plain tuples (see `EventRow`), and the bytes of their properties.

    Raises `BadFrame` where the counts are not what the bytes hold.
    """
    if len(payload) < _COUNTS.size:
        raise BadFrame("the counts of the events are cut")
    events, properties = _COUNTS.unpack_from(payload)
    middle = _COUNTS.size + events * EVENT_BYTES
    if len(payload) != middle + properties * PROPERTY_BYTES:
        raise BadFrame("the counts of events and properties are not those of the payload")
    rows = list(_EVENT.iter_unpack(memoryview(payload)[_COUNTS.size : middle]))
    if sum(row[5] for row in rows) != properties:
        raise BadFrame("the events' counts of properties do not add up")
    return rows, payload[middle:]


def property_pairs(content: bytes) -> dict[str, str]:
    """Properties by name. Raises `BadFrame` where one is no UTF-8, or the bytes are cut."""
    if len(content) % PROPERTY_BYTES:
        raise BadFrame("a property is cut")
    return {text(key): text(value) for key, value in _PROPERTY.iter_unpack(content)}


def encode_events(events: Iterable[tuple[EventRow, Mapping[str, str]]]) -> bytes:
    """The payload of events, each with its properties; their counts are made from these."""
    rows: list[bytes] = []
    properties: list[bytes] = []
    for row, pairs in events:
        rows.append(_EVENT.pack(*row._replace(properties=len(pairs))))
        properties += [padded(key, 32) + padded(value, 64) for key, value in pairs.items()]
    return b"".join([_COUNTS.pack(len(rows), len(properties)), *rows, *properties])


def encode_result(result: Result) -> bytes:
    """A result as 16 bytes; an offset that is none is 0."""
    return _RESULT.pack(result.stored, result.duplicates, max(result.last_offset, 0))


def decode_result(payload: bytes) -> Result:
    """What `encode_result` wrote. Raises `BadFrame`."""
    if len(payload) != _RESULT.size:
        raise BadFrame("a result has 16 bytes")
    return Result(*_RESULT.unpack(payload))


def encode_map(leaders: Sequence[str] | str) -> bytes:
    """The map of the partitions: one address for all, or one for each. Replicas stay empty.

    Raises `ValueError` for an address that does not fit: at most 23 bytes.
    """
    addresses = [leaders] * PARTITIONS if isinstance(leaders, str) else list(leaders)
    if len(addresses) != PARTITIONS:
        raise ValueError(f"a map has {PARTITIONS} partitions")
    return b"".join(encode_address(one) + bytes(3 * ADDRESS_BYTES) for one in addresses)


def decode_map(payload: bytes) -> list[tuple[str, str, str]]:
    """Leader and replicas of each partition. Raises `BadFrame`."""
    row = 4 * ADDRESS_BYTES
    if len(payload) != PARTITIONS * row:
        raise BadFrame("a map has 24,576 bytes")
    rows = [payload[at : at + row] for at in range(0, len(payload), row)]
    return [(text(row[:24]), text(row[24:48]), text(row[48:72])) for row in rows]


def encode_address(address: str) -> bytes:
    """``host:port`` as 24 bytes. Raises `ValueError` where it does not fit."""
    content = address.encode("ascii", "replace")
    if len(content) >= ADDRESS_BYTES or not content:
        raise ValueError(
            f"{address} does not fit into Unimeter's map of partitions: at most "
            f"{ADDRESS_BYTES - 1} characters; advertise an IPv4 address and a port"
        )
    return content.ljust(ADDRESS_BYTES, b"\0")


def part(shape: struct.Struct, payload: bytes, at: int, what: str) -> tuple[Any, ...]:
    """Some fields of a payload. Raises `BadFrame` where they are cut."""
    if len(payload) < at + shape.size:
        raise BadFrame(f"{what} is cut")
    return shape.unpack_from(payload, at)


def exactly(shape: struct.Struct, payload: bytes) -> tuple[Any, ...]:
    """All fields of a payload. Raises `BadFrame` where it is shorter or longer."""
    if len(payload) != shape.size:
        raise BadFrame(f"{len(payload)} bytes, where {shape.size} belong")
    return shape.unpack(payload)


def rows_of(shape: struct.Struct, payload: bytes) -> list[tuple[Any, ...]]:
    """Rows without a count. Raises `BadFrame` where the last is cut."""
    if len(payload) % shape.size:
        raise BadFrame("a row is cut")
    return list(shape.iter_unpack(payload))


def u64(number: int) -> int:
    """A number, or the bound of 64 bits that it is beyond."""
    return min(max(number, 0), U64_MAX)
