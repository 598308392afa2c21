"""Unimeter's questions and their answers as bytes, both ways: figures, alerts, events.

::

    usage      u64 account · i64 start ns · i64 end ns · code[64] · u8 filters · 7 pad
               · filters of one value, as a metric has them
    breakdown  the same with u8 keys · 7 pad · keys * key[32]
    figure     u128 sum · u64 count · u64 greatest · u64 last · i64 last ns · u64 flags
    cell       u8 keys · 7 pad · 4 * key[32] · 4 * value[32] · figure
    alert      u64 offset · u64 account · metric[64] · threshold[32] · u64 value · i64 ns · 8 pad
    logged     u64 offset · i64 ns · u64 account · code[64] · u64 value · u8 operation · 7 pad

Lists are rows without a count before them, as the published Python client reads them; with
``counted`` as the vendor's server writes them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from meterstream_services.clients.unimeter.wire import (
    U64_MAX,
    BadFrame,
    exactly,
    padded,
    part,
    rows_of,
    text,
    u64,
)
from meterstream_services.clients.unimeter.wire_metrics import FILTER

GROUPS_MAX: Final = 4

_QUESTION: Final = struct.Struct("<Qqq64sB7x")
_REALTIME: Final = struct.Struct("<Q64s")
_SPAN: Final = struct.Struct("<Qqq")
_SINCE: Final = struct.Struct("<QQ")
_FIGURE: Final = struct.Struct("<QQQQQqQ")
_CELL: Final = struct.Struct("<B7x128s128s")
_ALERT: Final = struct.Struct("<QQ64s32sQq8x")
_LOGGED: Final = struct.Struct("<QqQ64sQB7x")
_COUNT: Final = struct.Struct("<II")


class UsageForm(NamedTuple):
    """A question for a figure. Times are nanoseconds; filters all hold."""

    account: int
    code: str
    start: int
    end: int
    filters: Mapping[str, str]


class BreakdownForm(NamedTuple):
    """A question for the figures of all combinations of some properties' values."""

    account: int
    code: str
    start: int
    end: int
    keys: tuple[str, ...]


class Figure(NamedTuple):
    """A figure. ``last_at`` is nanoseconds; bit n of ``flags``: threshold n is reached."""

    sum: int = 0
    events: int = 0
    greatest: int = 0
    last: int = 0
    last_at: int = 0
    flags: int = 0


class Cell(NamedTuple):
    """The figure of one combination of properties' values."""

    properties: tuple[tuple[str, str], ...]
    figure: Figure


class AlertRow(NamedTuple):
    """A threshold that was reached: ``offset`` in the log of alerts, ``at`` in nanoseconds."""

    offset: int
    account: int
    metric: str
    threshold: str
    value: int
    at: int


class LoggedRow(NamedTuple):
    """An event of the log."""

    offset: int
    at: int
    account: int
    code: str
    value: int
    operation: int


def decode_usage(payload: bytes) -> UsageForm:
    """A question for a figure. Raises `BadFrame`."""
    account, start, end, code, filters = part(_QUESTION, payload, 0, "a question")
    if len(payload) != _QUESTION.size + filters * FILTER.size:
        raise BadFrame("the count of filters is not that of the payload")
    found: dict[str, str] = {}
    for key, count, values in FILTER.iter_unpack(payload[_QUESTION.size :]):
        if count != 1:
            raise BadFrame("a filter of a question has one value")
        found[text(key)] = text(values[:32])
    return UsageForm(account, text(code), start, end, found)


def encode_usage(asked: UsageForm) -> bytes:
    """The payload of USAGE_QUERY."""
    base = _QUESTION.pack(
        asked.account, asked.start, asked.end, padded(asked.code, 64), len(asked.filters)
    )
    return base + b"".join(
        FILTER.pack(padded(key, 32), 1, padded(value, 32)) for key, value in asked.filters.items()
    )


def decode_breakdown(payload: bytes) -> BreakdownForm:
    """A question for combinations. Raises `BadFrame`."""
    account, start, end, code, keys = part(_QUESTION, payload, 0, "a question")
    if len(payload) != _QUESTION.size + keys * 32:
        raise BadFrame("the count of keys is not that of the payload")
    if not 1 <= keys <= GROUPS_MAX:
        raise BadFrame(f"a breakdown is by 1 to {GROUPS_MAX} keys")
    parts = [payload[at : at + 32] for at in range(_QUESTION.size, len(payload), 32)]
    return BreakdownForm(account, text(code), start, end, tuple(map(text, parts)))


def encode_breakdown(asked: BreakdownForm) -> bytes:
    """The payload of USAGE_QUERY_BREAKDOWN."""
    code = padded(asked.code, 64)
    base = _QUESTION.pack(asked.account, asked.start, asked.end, code, len(asked.keys))
    return base + b"".join(padded(key, 32) for key in asked.keys)


def decode_realtime(payload: bytes) -> tuple[int, str]:
    """The account and code of USAGE_REALTIME. Raises `BadFrame`."""
    account, code = exactly(_REALTIME, payload)
    return account, text(code)


def encode_realtime(account: int, code: str) -> bytes:
    """The payload of USAGE_REALTIME."""
    return _REALTIME.pack(account, padded(code, 64))


def decode_span(payload: bytes) -> tuple[int, int, int]:
    """Account, since and until (ns) of EVENTS_LIST. Raises `BadFrame`."""
    account, since, until = exactly(_SPAN, payload)
    return account, since, until


def encode_span(account: int, since: int, until: int) -> bytes:
    """The payload of EVENTS_LIST."""
    return _SPAN.pack(account, since, until)


def decode_since(payload: bytes) -> tuple[int, int]:
    """Account (0: all) and offset of ALERTS_LIST. Raises `BadFrame`."""
    account, offset = exactly(_SINCE, payload)
    return account, offset


def encode_since(account: int, offset: int) -> bytes:
    """The payload of ALERTS_LIST."""
    return _SINCE.pack(account, offset)


def encode_figure(figure: Figure) -> bytes:
    """A figure; what is beyond a field, or below 0, is its bound."""
    total = min(max(figure.sum, 0), 2**128 - 1)
    return _FIGURE.pack(
        total & U64_MAX,
        total >> 64,
        u64(figure.events),
        u64(figure.greatest),
        u64(figure.last),
        min(max(figure.last_at, 0), 2**63 - 1),
        u64(figure.flags),
    )


def decode_figure(payload: bytes) -> Figure:
    """What `encode_figure` wrote. Raises `BadFrame`."""
    low, high, *others = exactly(_FIGURE, payload)
    return Figure(high << 64 | low, *others)


def encode_cells(cells: Iterable[Cell]) -> bytes:
    """The answer to USAGE_QUERY_BREAKDOWN."""
    return b"".join(
        _CELL.pack(
            len(properties),
            b"".join(padded(key, 32) for key, _ in properties).ljust(128, b"\0"),
            b"".join(padded(value, 32) for _, value in properties).ljust(128, b"\0"),
        )
        + encode_figure(figure)
        for properties, figure in cells
    )


def decode_cells(payload: bytes) -> list[Cell]:
    """What `encode_cells` wrote. Raises `BadFrame`."""
    size = _CELL.size + _FIGURE.size
    if len(payload) % size:
        raise BadFrame("a row is cut")
    cells: list[Cell] = []
    for at in range(0, len(payload), size):
        count, keys, values = _CELL.unpack_from(payload, at)
        pairs = [
            (text(keys[n * 32 : n * 32 + 32]), text(values[n * 32 : n * 32 + 32]))
            for n in range(min(count, GROUPS_MAX))
        ]
        figure = decode_figure(payload[at + _CELL.size : at + size])
        cells.append(Cell(tuple(pairs), figure))
    return cells


def encode_alert(alert: AlertRow) -> bytes:
    """An alert as a row of 136 bytes."""
    return _ALERT.pack(
        alert.offset,
        alert.account,
        padded(alert.metric, 64),
        padded(alert.threshold, 32),
        u64(alert.value),
        alert.at,
    )


def encode_alerts(alerts: Sequence[AlertRow], *, counted: bool = False) -> bytes:
    """The answer to ALERTS_LIST."""
    rows = b"".join(map(encode_alert, alerts))
    return _COUNT.pack(len(alerts), 0) + rows if counted else rows


def decode_alerts(payload: bytes) -> list[AlertRow]:
    """The rows without a count. Raises `BadFrame`."""
    return [
        AlertRow(offset, account, text(metric), text(threshold), value, at)
        for offset, account, metric, threshold, value, at in rows_of(_ALERT, payload)
    ]


def encode_alert_push(alert: AlertRow, *, node: int = 0) -> bytes:
    """The payload of ALERT_PUSH."""
    return encode_alert(alert) + bytes([node]) + bytes(7)


def encode_logged(rows: Sequence[LoggedRow]) -> bytes:
    """The answer to EVENTS_LIST: the count, then rows of 104 bytes."""
    return _COUNT.pack(len(rows), 0) + b"".join(
        _LOGGED.pack(
            row.offset, row.at, row.account, padded(row.code, 64), u64(row.value), row.operation
        )
        for row in rows
    )


def decode_logged(payload: bytes) -> list[LoggedRow]:
    """What `encode_logged` wrote. Raises `BadFrame`."""
    count, _ = part(_COUNT, payload, 0, "the count")
    rows = rows_of(_LOGGED, payload[_COUNT.size :])
    if len(rows) != count:
        raise BadFrame("the count of rows is not that of the payload")
    return [
        LoggedRow(offset, at, account, text(code), value, operation)
        for offset, at, account, code, value, operation in rows
    ]
