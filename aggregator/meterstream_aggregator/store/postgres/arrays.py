"""Columns as PostgreSQL's binary arrays, straight out of numpy: no Python object for an element.

The format of a one-dimensional array: five integers (dimensions, a flag for NULLs, the elements'
type, how many, the first one's index), then per element its length in bytes and itself, all
big-endian.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import pq
from psycopg.adapt import Buffer, Dumper

_HEADER: Final = struct.Struct("!iiiii")
_INT8: Final = 20
_INT8_ARRAY: Final = 1016
_ELEMENT: Final = np.dtype([("size", ">i4"), ("value", ">i8")])


class Integers(NamedTuple):
    """A column of int64, to be given to a statement as one ``bigint[]``."""

    values: npt.NDArray[np.int64]


class IntegersDumper(Dumper):
    """How `Integers` go to the server."""

    format = pq.Format.BINARY
    oid = _INT8_ARRAY

    def dump(self, obj: Integers) -> Buffer:
        """The bytes of the array."""
        values = obj.values
        elements = np.empty(len(values), dtype=_ELEMENT)
        elements["size"] = 8
        elements["value"] = values
        dimensions = 1 if len(values) else 0
        return _HEADER.pack(dimensions, 0, _INT8, len(values), 1)[: 12 + 8 * dimensions] + (
            elements.tobytes()
        )


def register(connection: psycopg.Connection[Any]) -> None:
    """Let a session take `Integers`."""
    connection.adapters.register_dumper(Integers, IntegersDumper)
