"""What vouches for natively decoded columns: plain text, sure integers, and their canonical length.

Constraints. All of it runs over every batch, so each check looks at whole buffers, and first for
what is usual: text in ASCII, lengths of one byte.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

from meterstream_aggregator.batch import ArrowArray, ArrowColumns

PLAIN_ROWS_MIN: Final = 4096
"""Fewer rows are validated sooner than looked at. Tests look at any number of them."""
_INT_SURE: Final = 2**27
_ONE_BYTE: Final = 64
"""Integers from minus this to below this take one byte."""

_Integers: TypeAlias = np.ndarray[Any, np.dtype[np.signedinteger[Any]]]


def has_plain_text(columns: ArrowColumns) -> bool:
    """Whether there are many rows, and all of their text is surely UTF-8."""
    return len(columns) >= PLAIN_ROWS_MIN and all(map(is_plain, columns.columns))


def is_plain(column: ArrowArray) -> bool:
    """Whether a column's text is surely UTF-8, because it is ASCII; False for types unlooked at.

    Much cheaper than a full validation, which in a column of plain text would find nothing else.
    """
    if pa.types.is_primitive(column.type):
        return True
    if pa.types.is_map(column.type):
        return _rises(column) and is_plain(column.keys) and is_plain(column.items)
    if not pa.types.is_string(column.type) or not _rises(column):
        return False
    text = column.buffers()[2]
    return text is None or int(np.frombuffer(text, dtype=np.int8).min(initial=0)) >= 0


def _rises(column: ArrowArray) -> bool:
    """Whether the offsets of texts or maps never fall."""
    if not len(column):
        return True
    offsets = _offsets(column)
    return bool((offsets[1:] >= offsets[:-1]).all())


def canonical_bytes(columns: ArrowColumns) -> int:
    """How long the canonical Avro form of the whole batch is, in bytes."""
    rows = len(columns)
    total = rows  # the enum: one byte each
    for name in ("tenant", "type", "producer"):
        total += _text_bytes(columns.column(name))
    for name in ("session", "subject", "key"):
        column = columns.column(name)
        total += rows  # the branch of the union
        if column.null_count < rows:
            total += _text_bytes(column.drop_null())
    for name in ("time", "quantity", "scale", "lane", "sequence"):
        total += _long_bytes(columns.column(name).to_numpy())
    attributes = columns.column("attributes")
    offsets = np.asarray(attributes.offsets)
    counts = np.diff(offsets)
    total += rows + _long_bytes(counts[counts > 0])  # each map ends with an empty block
    entries = slice(int(offsets[0]), int(offsets[-1]))
    for texts in (attributes.keys, attributes.items):
        total += _text_bytes(texts[entries])
    return total


def ints_are_sure(columns: ArrowColumns) -> bool:
    """False where an int is so large that it may be one of 33 bits or more, cut to 32.

    The native decoder cuts without a word. What was cut has five bytes or more, so a value whose
    canonical form has four at the most cannot be one of those.
    """
    ints = [columns.column(name).to_numpy() for name in ("scale", "lane")]
    return all(low.min() >= -_INT_SURE and low.max() < _INT_SURE for low in ints if len(low))


def _text_bytes(column: ArrowArray) -> int:
    """Length prefixes and bytes of a text column without nulls."""
    if not len(column):
        return 0
    offsets = _offsets(column)
    return int(offsets[-1] - offsets[0]) + _long_bytes(np.diff(offsets))


def _offsets(column: ArrowArray) -> _Integers:
    """Where each text or map of a column begins, and where the last one ends."""
    first = column.offset
    return np.frombuffer(column.buffers()[1], dtype=np.int32)[first : first + len(column) + 1]


def _long_bytes(values: _Integers) -> int:
    """Bytes of zigzag varints."""
    if not len(values) or (values.min() >= -_ONE_BYTE and values.max() < _ONE_BYTE):
        return len(values)
    wide = values.astype(np.int64, copy=False)
    zigzag = ((wide << 1) ^ (wide >> 63)).view(np.uint64)
    total, least, largest = len(values), int(zigzag.min()), int(zigzag.max())
    for bits in range(7, 64, 7):
        if largest < 1 << bits:
            break
        if least >= 1 << bits:
            total += len(values)
        else:
            total += int(np.count_nonzero(zigzag >= np.uint64(1 << bits)))
    return total
