"""Numbers for series, kept from batch to batch: a series is named once, not once per commit.

Each text (a tenant, a group value) gets a small code when it is first seen. The codes of a series,
side by side in one integer, are looked up among those of its definition in sorted order: some
thousand series at a time, without a Python object for any that is known. Where 62 bits are too few
for the codes there are no numbers, and whoever asked names its series.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from math import prod
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from meterstream_aggregator.catalogue import Meter
from meterstream_aggregator.changes import Numbered, SeriesKey

Int64Array: TypeAlias = npt.NDArray[np.int64]

_PACKED_MAX: Final = 2**62
_TENANT: Final = ""
_PARTITIONS: Final = 2**16


class SeriesNames:
    """The numbers of series, and their keys by number. One thread.

    Forgets nothing: its owner drops the whole of it when ``len`` has become too much.
    """

    def __init__(self) -> None:
        self.keys: Final[list[SeriesKey]] = []
        self._texts: dict[str, _Texts] = {}
        self._known: dict[str, _Known] = {}

    def __len__(self) -> int:
        return len(self.keys) + sum(map(len, self._texts.values()))

    def numbered(
        self,
        meter: Meter,
        partition: Int64Array,
        tenants: tuple[Int64Array, list[str]],
        groups: Sequence[tuple[Int64Array, list[str]]],
    ) -> Numbered | None:
        """Numbers of distinct series of a definition; None where their codes do not fit.

        Each column is codes and the texts that they stand for.
        """
        named = [(_TENANT, tenants), *zip(meter.group_by, groups, strict=True)]
        columns = [partition]
        widths = [_PARTITIONS]
        for name, (codes, values) in named:
            texts = self._texts.setdefault(name, _Texts())
            columns.append(texts.codes(values)[codes])
            widths.append(texts.room)
        if prod(widths) >= _PACKED_MAX or int(partition.max(initial=0)) >= _PARTITIONS:
            return None
        known = self._known.get(meter.version)
        if known is None:
            known = self._known[meter.version] = _Known(widths)
        known.widen(widths)
        packed = known.pack(columns)
        numbers = known.find(packed)
        new = np.flatnonzero(numbers < 0)
        if len(new):
            numbers[new] = known.add(packed[new], len(self.keys))
            told = zip(
                partition[new].tolist(),
                _taken(tenants, new),
                repeat(meter.name),
                zip(*(_taken(group, new) for group in groups), strict=True)
                if groups
                else repeat(()),
                repeat(meter.version),
            )
            self.keys.extend(map(SeriesKey._make, told))
        return Numbered(self.keys, numbers)


class _Texts(dict[str, int]):
    """Codes of the texts of one column, in the order in which they came."""

    def __init__(self) -> None:
        super().__init__()
        self._last: tuple[list[str], Int64Array] = ([], np.empty(0, dtype=np.int64))

    @property
    def room(self) -> int:
        """A power of two above every code: it changes seldom."""
        return 1 << max(len(self), 16).bit_length()

    def codes(self, values: list[str]) -> Int64Array:
        """The code of each text. The very same list may come again: each meter has it."""
        if self._last[0] is not values:
            codes = [self.setdefault(value, len(self)) for value in values]
            self._last = values, np.array(codes, dtype=np.int64)
        return self._last[1]


class _Known:
    """The numbers of one definition's series, by their packed codes in order."""

    def __init__(self, widths: list[int]) -> None:
        self._widths = widths
        self._packed = np.empty(0, dtype=np.int64)
        self._numbers = np.empty(0, dtype=np.int64)

    def pack(self, columns: list[Int64Array]) -> Int64Array:
        """Codes side by side."""
        packed = columns[0]
        for column, width in zip(columns[1:], self._widths[1:], strict=True):
            packed = packed * width + column
        return packed

    def widen(self, widths: list[int]) -> None:
        """Make room for codes up to these widths, which never fall."""
        if widths == self._widths:
            return
        columns: list[Int64Array] = []
        rest = self._packed
        for width in reversed(self._widths[1:]):
            rest, column = np.divmod(rest, width)
            columns.append(column)
        # The order stays what it is: it is that of the columns, whatever their widths.
        self._widths = widths
        self._packed = self.pack([rest, *reversed(columns)])

    def find(self, packed: Int64Array) -> Int64Array:
        """Their numbers; -1 for those that are new."""
        if not len(self._packed):
            return np.full(len(packed), -1, dtype=np.int64)
        at = np.searchsorted(self._packed, packed)
        at[at == len(self._packed)] = 0
        return np.where(self._packed[at] == packed, self._numbers[at], -1)

    def add(self, packed: Int64Array, first: int) -> Int64Array:
        """Number new ones from ``first`` on, in their order."""
        numbers = np.arange(first, first + len(packed))
        order = np.argsort(packed)
        at = np.searchsorted(self._packed, packed[order])
        self._packed = np.insert(self._packed, at, packed[order])
        self._numbers = np.insert(self._numbers, at, numbers[order])
        return numbers


def _taken(column: tuple[Int64Array, list[str]], rows: Int64Array) -> list[str]:
    codes, values = column
    return [values[code] for code in codes[rows].tolist()]
