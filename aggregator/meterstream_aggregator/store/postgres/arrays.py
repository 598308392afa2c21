"""Columns as PostgreSQL's binary arrays: psycopg's own lists cost a microsecond an element.

The format of a one-dimensional array: five integers (dimensions, whether there are NULLs, the
elements' type, how many, the first one's index), then per element its length in bytes, -1 for NULL,
and itself, all big-endian. Integers come straight out of numpy; texts are joined by loops that run
in C.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import pq
from psycopg.adapt import Buffer, Dumper

_HEADER: Final = struct.Struct("!iiiii")
_LENGTH: Final = struct.Struct("!i")
_LENGTHS: Final = [_LENGTH.pack(length) for length in range(4096)]
_NULL: Final = _LENGTH.pack(-1)
_ELEMENT: Final = np.dtype([("size", ">i4"), ("value", ">i8")])
_BYTEA, _INT8, _TEXT = 17, 20, 25
_BYTEA_ARRAY, _INT8_ARRAY, _TEXT_ARRAY = 1001, 1016, 1009


class Integers(NamedTuple):
    """A column of int64, to be given to a statement as one ``bigint[]``."""

    values: npt.NDArray[np.int64]
    nulls: npt.NDArray[np.bool_] | None = None


class Texts(NamedTuple):
    """A column to be given as one ``text[]``."""

    values: Sequence[str | None]


class Blobs(NamedTuple):
    """A column to be given as one ``bytea[]``."""

    values: Sequence[bytes | None]


Column = Integers | Texts | Blobs


def columns(kinds: str, rows: Iterable[tuple[Any, ...]]) -> list[Column]:
    """The columns of rows, none for no rows. A letter a column: i, t or b for the classes above.

    A bool is an integer here: 0 or 1.
    """
    found = list(zip(*rows, strict=True))
    return [_column(*each) for each in zip(kinds, found, strict=True)] if found else []


def asked(kinds: str, rows: Iterable[tuple[Any, ...]]) -> list[Column]:
    """As `columns`, of what is asked for: a text with a NUL, which no table has, is a NULL.

    It equals nothing. Strangers send such names, and the server takes none.
    """
    return [
        Texts([None if value is None or "\0" in value else value for value in column.values])
        if isinstance(column, Texts)
        else column
        for column in columns(kinds, rows)
    ]


def integers(values: Sequence[int | None]) -> Integers:
    """A column of integers, some of them perhaps NULL."""
    if None not in values:
        return Integers(np.array(values, dtype=np.int64))
    nulls = np.array([value is None for value in values])
    return Integers(np.array([value or 0 for value in values], dtype=np.int64), nulls)


def _column(kind: str, values: Sequence[Any]) -> Column:
    if kind == "i":
        return integers(values)
    return Texts(values) if kind == "t" else Blobs(values)


class IntegersDumper(Dumper):
    """How `Integers` go to the server."""

    format = pq.Format.BINARY
    oid = _INT8_ARRAY

    def dump(self, obj: Integers) -> Buffer:
        """The bytes of the array."""
        elements = np.empty(len(obj.values), dtype=_ELEMENT)
        elements["size"] = 8
        elements["value"] = obj.values
        if obj.nulls is None:
            return _header(_INT8, len(elements), nulls=False) + elements.tobytes()
        elements["size"][obj.nulls] = -1
        kept = np.ones((len(elements), _ELEMENT.itemsize), dtype=bool)
        kept[obj.nulls, _LENGTH.size :] = False
        body = elements.view(np.uint8).reshape(kept.shape)[kept]
        return _header(_INT8, len(elements), nulls=True) + body.tobytes()


class BlobsDumper(Dumper):
    """How `Blobs` go to the server."""

    format = pq.Format.BINARY
    oid = _BYTEA_ARRAY

    def dump(self, obj: Blobs) -> Buffer:
        """The bytes of the array."""
        return _joined(_BYTEA, obj.values)


class TextsDumper(Dumper):
    """How `Texts` go to the server."""

    format = pq.Format.BINARY
    oid = _TEXT_ARRAY

    def dump(self, obj: Texts) -> Buffer:
        """The bytes of the array."""
        if None in obj.values:
            return _joined(_TEXT, [None if v is None else v.encode() for v in obj.values])
        return _joined(_TEXT, list(map(str.encode, obj.values)))  # type: ignore[arg-type]  # no None


def register(connection: psycopg.Connection[Any]) -> None:
    """Let a session take such columns."""
    for kind, dumper in ((Integers, IntegersDumper), (Texts, TextsDumper), (Blobs, BlobsDumper)):
        connection.adapters.register_dumper(kind, dumper)


def _header(kind: int, length: int, *, nulls: bool) -> bytes:
    dimensions = 1 if length else 0
    return _HEADER.pack(dimensions, int(nulls), kind, length, 1)[: 12 + 8 * dimensions]


def _joined(kind: int, values: Sequence[bytes | None]) -> bytes:
    nulls = None in values
    lengths = map(_length, values) if nulls else _lengths(values)  # type: ignore[arg-type]  # no None
    bodies = [value or b"" for value in values] if nulls else values
    parts = chain.from_iterable(zip(lengths, bodies, strict=True))
    return _header(kind, len(values), nulls=nulls) + b"".join(parts)  # type: ignore[arg-type]  # no None


def _lengths(values: Sequence[bytes]) -> Iterable[bytes]:
    sizes = list(map(len, values))
    if max(sizes, default=0) < len(_LENGTHS):
        return map(_LENGTHS.__getitem__, sizes)
    return map(_LENGTH.pack, sizes)


def _length(value: bytes | None) -> bytes:
    return _NULL if value is None else _LENGTH.pack(len(value))
