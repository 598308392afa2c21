"""A batch of records as columns: texts as codes into a short list, numbers as numpy arrays.

Rows are in log order within each partition. Rare questions about one row are answered by `event`,
which gives the plain `MeterEvent` back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meterstream_aggregator.dedup import ProducerKey
from meterstream_schemas.events import EventKind, MeterEvent

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
ArrowColumns: TypeAlias = Any
"""A `pyarrow.RecordBatch`: pyarrow publishes no types."""
ArrowArray: TypeAlias = Any
"""A `pyarrow.Array`."""

KINDS: Final = tuple(EventKind)
KIND_CODES: Final = {kind.value: code for code, kind in enumerate(KINDS)}
USAGE_CODE: Final = KIND_CODES[EventKind.USAGE]
MARK_CODE: Final = KIND_CODES[EventKind.MARK]
VOID_CODE: Final = KIND_CODES[EventKind.VOID]

ARROW_SCHEMA: Final = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("tenant", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("time", pa.int64(), nullable=False),
        pa.field("quantity", pa.int64(), nullable=False),
        pa.field("scale", pa.int32(), nullable=False),
        pa.field("session", pa.string()),
        pa.field("subject", pa.string()),
        pa.field("attributes", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("producer", pa.string(), nullable=False),
        pa.field("lane", pa.int32(), nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("key", pa.string()),
    ]
)
"""The columns a decoder hands over; field order is the Avro field order."""


class LogRecord(NamedTuple):
    """One decoded event and where the log has it. ``append_time`` is microseconds UTC."""

    partition: int
    offset: int
    append_time: int
    event: MeterEvent


class Codes(NamedTuple):
    """A text column: ``values[codes[row]]``; code -1 where the text is absent."""

    codes: Int64Array
    values: list[str]

    def matching(self, wanted: frozenset[str]) -> BoolArray:
        """Rows whose text is one of ``wanted``; an absent text is the empty one."""
        hits = np.array([value in wanted for value in self.values] + ["" in wanted], dtype=np.bool_)
        return hits[self.codes]


class Amounts(NamedTuple):
    """A column of amounts. ``unreadable``: there is a text, and it is not a plain decimal."""

    quantity: Int64Array
    scale: Int64Array
    present: BoolArray
    unreadable: BoolArray


@dataclass(slots=True)
class Batch:
    """Columns of equal length. ``kind`` holds indices into `KINDS`."""

    partition: Int64Array
    offset: Int64Array
    append_time: Int64Array
    kind: npt.NDArray[np.int8]
    tenant: Codes
    type: Codes
    producer: Codes
    time: Int64Array
    quantity: Int64Array
    scale: Int64Array
    lane: Int64Array
    sequence: Int64Array
    columns: ArrowColumns
    amounts: dict[str, Amounts] = field(default_factory=dict)
    """Attributes read as amounts, by name; filled by `values.column_amounts`."""
    _attributes: dict[str, Codes] = field(default_factory=dict)
    _sessions: Codes | None = None
    _senders: tuple[Int64Array, Int64Array] | None = None
    _sender_keys: list[ProducerKey] | None = None

    def __len__(self) -> int:
        return len(self.time)

    def has_key(self) -> BoolArray:
        """Rows that carry a caller's key."""
        return _not_null(self.columns.column("key"))

    def senders(self) -> tuple[Int64Array, Int64Array]:
        """The distinct (partition, producer), packed, and which of them each row has.

        The partition times the number of the batch's producers, plus the producer's code.
        """
        if self._senders is None:
            width = len(self.producer.values)
            self._senders = distinct(self.partition * width + self.producer.codes)
        return self._senders

    def sender_keys(self) -> list[ProducerKey]:
        """The distinct `senders` by name."""
        if self._sender_keys is None:
            names = self.producer.values
            pairs = [divmod(pair, len(names)) for pair in self.senders()[0].tolist()]
            self._sender_keys = [ProducerKey(partition, names[code]) for partition, code in pairs]
        return self._sender_keys

    def sessions(self) -> Codes:
        """The session ids as a column."""
        if self._sessions is None:
            encoded = self.columns.column("session").dictionary_encode()
            codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            self._sessions = Codes(codes.astype(np.int64), encoded.dictionary.to_pylist())
        return self._sessions

    def attribute(self, name: str) -> Codes:
        """One attribute as a column; of a name that a row holds twice the last counts."""
        known = self._attributes.get(name)
        if known is None:
            known = self._attributes[name] = self._read_attribute(name)
        return known

    def event(self, row: int) -> MeterEvent:
        """The plain event of one row (about 20 µs: for rare rows only)."""
        cells = [column[row].as_py() for column in self.columns.columns]
        cells[0] = KINDS[self.kind[row]]
        cells[3] = int(self.time[row])
        cells[8] = dict(cells[8])
        return MeterEvent(*cells)

    def events(self, rows: Int64Array) -> list[MeterEvent]:
        """The plain events of many rows (about 3 µs each)."""
        taken = self.columns.take(pa.array(rows))
        lists: list[list[Any]] = [column.to_pylist() for column in taken.columns]
        lists[0] = [KINDS[code] for code in self.kind[rows].tolist()]
        lists[3] = self.time[rows].tolist()
        lists[8] = [dict(pairs) for pairs in lists[8]]
        return list(map(MeterEvent._make, zip(*lists, strict=True)))

    def _read_attribute(self, name: str) -> Codes:
        maps = self.columns.column("attributes")
        offsets = np.asarray(maps.offsets)
        first = int(offsets[0])
        names = maps.keys.slice(first, int(offsets[-1]) - first)
        is_named = pc.equal(names, name)  # pyright: ignore[reportAttributeAccessIssue] - made at import
        places = np.flatnonzero(np.asarray(is_named))
        codes = np.full(len(self), -1, dtype=np.int64)
        if not len(places):
            return Codes(codes, [])
        rows = np.repeat(np.arange(len(self)), np.diff(offsets))
        if len(places) == len(rows):
            found = _codes(maps.items.slice(first, len(rows)))
        else:
            found = _codes(maps.items.take(pa.array(places + first)))
            rows = rows[places]
        codes[rows] = found.codes
        return Codes(codes, found.values)


def log_times(
    partition: Int64Array, append_time: Int64Array, before: Mapping[int, int]
) -> Int64Array:
    """Append times that never fall within a partition: the highest up to each row.

    ``before`` is the highest before these rows, for each of their partitions. The very array where
    nothing falls, as is usual (about 3 ns a row).
    """
    if not len(append_time) or rises(partition, append_time, before, by=0):
        return append_time
    risen = append_time.copy()
    for of in np.unique(partition).tolist():
        rows = partition == of
        risen[rows] = np.maximum(np.maximum.accumulate(append_time[rows]), before[of])
    return risen


def rises(partition: Int64Array, values: Int64Array, floors: Mapping[int, int], *, by: int) -> bool:
    """Whether values rise by at least ``by`` from row to row within every partition.

    The first of each is at least what ``floors`` has for its partition; False where it has none.
    Looks inside the runs of rows of one partition, then from run to run.
    """
    turns = partition[1:] != partition[:-1]
    if ((values[1:] < values[:-1] + by) & ~turns).any():
        return False
    begins = np.flatnonzero(np.r_[True, turns])
    order = np.argsort(partition[begins], kind="stable")
    first, of = begins[order], partition[begins][order]
    last = np.r_[begins[1:], len(partition)][order] - 1
    starts = np.r_[True, of[1:] != of[:-1]]
    floor = np.r_[0, values[last[:-1]] + by]
    if not floors.keys() >= set(of.tolist()):
        return False
    floor[starts] = [floors[each] for each in of[starts].tolist()]
    return bool((values[first] >= floor).all())


def appended_after(
    before: Mapping[int, int], partition: Int64Array, append_time: Int64Array
) -> dict[int, int]:
    """The highest append time per partition once records with these places are folded."""
    after = dict(before)
    if len(partition):
        highest = np.zeros(int(partition.max()) + 1, dtype=np.int64)
        np.maximum.at(highest, partition, append_time)
        for of in np.flatnonzero(np.bincount(partition)).tolist():
            after[of] = max(after[of], int(highest[of]))
    return after


def batch_of_columns(
    columns: ArrowColumns, partition: Int64Array, offset: Int64Array, append_time: Int64Array
) -> Batch:
    """A batch from decoded columns (times may be timestamps) and their log positions."""
    kinds = _codes(columns.column("kind"))
    of_kind = np.array([KIND_CODES.get(name, 0) for name in kinds.values] or [0], dtype=np.int8)
    return Batch(
        partition=partition,
        offset=offset,
        append_time=append_time,
        kind=of_kind[kinds.codes],
        tenant=_codes(columns.column("tenant")),
        type=_codes(columns.column("type")),
        producer=_codes(columns.column("producer")),
        time=_integers(columns.column("time")),
        quantity=_integers(columns.column("quantity")),
        scale=_integers(columns.column("scale")),
        lane=_integers(columns.column("lane")),
        sequence=_integers(columns.column("sequence")),
        columns=columns,
    )


def batch_of_records(records: Sequence[LogRecord]) -> Batch:
    """A batch from plain events: for records that only the exact decoder could read, and tests."""
    return batch_of_columns(
        arrow_of_events([record.event for record in records]),
        np.array([record.partition for record in records], dtype=np.int64),
        np.array([record.offset for record in records], dtype=np.int64),
        np.array([record.append_time for record in records], dtype=np.int64),
    )


def distinct(values: Int64Array) -> tuple[Int64Array, Int64Array]:
    """The distinct values in order of appearance, and for each value which of them it is.

    By hashing: several times the speed of `numpy.unique`, which sorts.
    """
    encoded = pa.array(values).dictionary_encode()
    return encoded.dictionary.to_numpy(), encoded.indices.to_numpy().astype(np.int64)


def ordered(values: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Rows so that equal values lie side by side, and where in that order each value begins.

    Values are at least 0; rows of one value stay in their order. Value and row are sorted as one
    integer, which takes half as long as `distinct`. Values ascend, unless they leave too few bits.
    """
    bits = len(values).bit_length()
    if int(values.max(initial=0)).bit_length() + bits > 63:
        _, values = distinct(values)
    both = np.sort((values << bits) | np.arange(len(values)))
    order, held = both & ((1 << bits) - 1), both >> bits
    begins = np.flatnonzero(np.r_[len(values) > 0, held[1:] != held[:-1]])
    return order, begins


def distinct_maps(batch: Batch, rows: Int64Array) -> tuple[Int64Array, list[dict[str, str]]]:
    """The distinct attributes of some rows, and for each row which of them it has.

    What differs only in order may count as different.
    """
    if not len(rows):
        return rows, []
    maps = batch.columns.column("attributes").take(pa.array(rows))
    offsets = np.asarray(maps.offsets)
    first, last = int(offsets[0]), int(offsets[-1])
    counts = np.diff(offsets).astype(np.int64)
    code = counts
    if last > first:
        names = _codes(maps.keys.slice(first, last - first))
        texts = _codes(maps.items.slice(first, last - first))
        found, entry = distinct(names.codes * len(texts.values) + texts.codes)
        for at in range(int(counts.max())):
            there = counts > at
            code = code * len(found)
            code[there] += entry[offsets[:-1][there] - first + at]
            _, code = distinct(code)
    _, code = distinct(code)
    one = np.empty(int(code.max()) + 1, dtype=np.int64)
    one[code] = np.arange(len(code))
    return code, [dict(pairs) for pairs in maps.take(pa.array(one)).to_pylist()]


def arrow_of_events(events: Sequence[MeterEvent]) -> ArrowColumns:
    """Plain events as the columns of `ARROW_SCHEMA`."""
    rows: list[dict[str, Any]] = [
        event._asdict() | {"kind": event.kind.value, "attributes": list(event.attributes.items())}
        for event in events
    ]
    return pa.RecordBatch.from_pylist(rows, schema=ARROW_SCHEMA)


def _codes(column: ArrowArray) -> Codes:
    encoded = column.dictionary_encode()
    return Codes(
        encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64),
        encoded.dictionary.to_pylist(),
    )


def _integers(column: ArrowArray) -> Int64Array:
    if pa.types.is_timestamp(column.type):
        column = column.view(pa.int64())
    values: Int64Array = column.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    return values


def _not_null(column: ArrowArray) -> BoolArray:
    if column.null_count == len(column):
        return np.zeros(len(column), dtype=np.bool_)
    valid: BoolArray = column.is_valid().to_numpy(zero_copy_only=False)
    return valid
