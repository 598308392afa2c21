"""Unimeter's metrics as bytes, both ways.

::

    metric     code[64] · u8 aggregation · u8 recurring · u8 filters · pad · field[64]
               · filters * 292 B · u8 thresholds · 7 pad · thresholds * 48 B
               · u8 period · u8 cycle day · 6 pad; what follows the filters may be left out
    filter     key[32] · u8 values · 3 pad · 8 * value[32]
    threshold  code[32] · u64 value · u8 recurring · 7 pad

A list is rows without a count before them, as the published Python client reads them; with
``counted`` as the vendor's server writes them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from meterstream_services.clients.unimeter.wire import BadFrame, padded, part, rows_of, text

VALUES_MAX: Final = 8
FILTER: Final = struct.Struct("<32sB3x256s")

_METRIC: Final = struct.Struct("<64sBBBx64s")
_THRESHOLD: Final = struct.Struct("<32sQB7x")
_COUNT: Final = struct.Struct("<II")
_SECTION: Final = struct.Struct("<BB6x")


class FilterForm(NamedTuple):
    """A filter that a metric declares."""

    key: str
    values: tuple[str, ...]


class ThresholdForm(NamedTuple):
    """A threshold that a metric declares."""

    code: str
    value: int
    recurring: bool


class MetricForm(NamedTuple):
    """A metric as METRIC_PUT carries it. Numbers of enumerations are as they came."""

    code: str
    aggregation: int
    recurring: bool = False
    field: str = ""
    filters: tuple[FilterForm, ...] = ()
    thresholds: tuple[ThresholdForm, ...] = ()
    period: int = 0
    cycle_day: int = 0


def decode_metric(payload: bytes) -> MetricForm:
    """A metric. Raises `BadFrame`."""
    if len(payload) < _METRIC.size:
        raise BadFrame("a metric is cut")
    code, aggregation, recurring, filters, field = _METRIC.unpack_from(payload)
    at = _METRIC.size
    declared: list[FilterForm] = []
    for _ in range(filters):
        key, count, values = part(FILTER, payload, at, "a filter")
        parts = [values[n * 32 : n * 32 + 32] for n in range(min(count, VALUES_MAX))]
        declared.append(FilterForm(text(key), tuple(map(text, parts))))
        at += FILTER.size
    watched: list[ThresholdForm] = []
    period = cycle_day = 0
    if at < len(payload):
        thresholds, _ = part(_SECTION, payload, at, "the count of thresholds")
        at += _SECTION.size
        for _ in range(thresholds):
            name, value, again = part(_THRESHOLD, payload, at, "a threshold")
            watched.append(ThresholdForm(text(name), value, bool(again)))
            at += _THRESHOLD.size
    if at < len(payload):
        period, cycle_day = part(_SECTION, payload, at, "the period")
        at += _SECTION.size
    if at != len(payload):
        raise BadFrame("a metric is longer than its counts say")
    return MetricForm(
        text(code), aggregation, bool(recurring), text(field), tuple(declared), tuple(watched),
        period, cycle_day,
    )  # fmt: skip


def encode_metric(metric: MetricForm) -> bytes:
    """The payload of METRIC_PUT."""
    parts = [_metric_row(metric, filters=len(metric.filters))]
    for key, values in metric.filters:
        content = b"".join(padded(value, 32) for value in values[:VALUES_MAX])
        parts.append(FILTER.pack(padded(key, 32), len(values), content.ljust(256, b"\0")))
    parts.append(_SECTION.pack(len(metric.thresholds), 0))
    for code, value, recurring in metric.thresholds:
        parts.append(_THRESHOLD.pack(padded(code, 32), value, recurring))
    parts.append(_SECTION.pack(metric.period, metric.cycle_day))
    return b"".join(parts)


def encode_metrics(metrics: Sequence[MetricForm], *, counted: bool = False) -> bytes:
    """The answer to METRIC_LIST: rows of 132 bytes, or whole metrics behind their count."""
    if counted:
        return _COUNT.pack(len(metrics), 0) + b"".join(map(encode_metric, metrics))
    return b"".join(_metric_row(metric, filters=0) for metric in metrics)


def decode_metrics(payload: bytes) -> list[tuple[str, int]]:
    """Code and aggregation of the rows without a count. Raises `BadFrame`."""
    return [(text(row[0]), row[1]) for row in rows_of(_METRIC, payload)]


def decode_code(payload: bytes) -> str:
    """The code that METRIC_DELETE carries. Raises `BadFrame`."""
    if len(payload) != 64:
        raise BadFrame("a code has 64 bytes")
    return text(payload)


def _metric_row(metric: MetricForm, *, filters: int) -> bytes:
    return _METRIC.pack(
        padded(metric.code, 64),
        metric.aggregation,
        metric.recurring,
        filters,
        padded(metric.field, 64),
    )
