"""Raw records to columns, natively; what the native decoder cannot vouch for, record by record.

Constraints. The native decoder (pyruhvro) is ~18 times the speed of the exact one, but it names no
culprit when one record of a batch is bad, it lets text through that is not UTF-8, and it ignores
bytes that follow a record.

So a natively decoded batch is believed only when its text is valid and when the canonical encoding
of what was decoded has exactly as many bytes as there were: Avro's canonical form is the shortest
one, so an equal sum means that every record was canonical and nothing followed it. (An int of more
than 32 bits, which it cuts, is the exception.) Otherwise the batch is cut in two and each half
tried again; small pieces go through `codec.decode_body`, which says for every single record whether
it is an event, and why not.

The usual batch, of one writer schema and with nothing amiss, is decoded with its frames on: see
`framing`.
"""

from __future__ import annotations

from typing import Final, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyruhvro

from meterstream_aggregator.batch import (
    ARROW_SCHEMA,
    ArrowArray,
    ArrowColumns,
    Batch,
    arrow_of_events,
    batch_of_columns,
)
from meterstream_aggregator.refusals import Reason, Refusal
from meterstream_consumers import framing
from meterstream_consumers.records import RawBatch
from meterstream_consumers.vouching import canonical_bytes, has_plain_text, ints_are_sure
from meterstream_schemas import codec, wire
from meterstream_schemas.errors import UndecodableRecord, UnknownSchema
from meterstream_schemas.events import EVENT_BYTES_MAX, MeterEvent
from meterstream_schemas.registry import WriterSchemas

_EXACT_RECORDS_MAX: Final = 32
"""Pieces of a bad batch as small as this are decoded record by record."""


class Decoded(NamedTuple):
    """The events of a raw batch, and (row of the raw batch, why) for those that are none."""

    batch: Batch
    refused: list[tuple[int, Refusal]]


class Decoder:
    """Decodes batches; keeps parsed writer schemas. Raises `SchemaUnavailable` to be waited out."""

    def __init__(self, schemas: WriterSchemas) -> None:
        self._schemas = schemas
        self._parsed: dict[int, tuple[str, codec.Schema]] = {}
        self._framed: dict[bytes, str | None] = {}

    def decode(self, raw: RawBatch) -> Decoded:
        """All events of a raw batch in its order, and every record that is not one."""
        usual = self._usual(raw)
        if usual is not None:
            return Decoded(batch_of_columns(usual, *raw.places()), [])
        refused: list[tuple[int, Refusal]] = []
        bodies, by_schema = self._sort(raw, refused)
        if len(by_schema) == 1 and not refused:
            # One writer schema, nothing amiss in the frames. No row needs to be named.
            [schema_id] = by_schema
            whole = native_columns(bodies, self._parsed[schema_id][0])
            if whole is not None:
                return Decoded(batch_of_columns(whole, *raw.places()), refused)
        pieces: list[ArrowColumns] = []
        rows: list[int] = []
        for schema_id, of_schema in by_schema.items():
            piece = _Piece(self._parsed[schema_id], bodies, refused)
            piece.decode(of_schema)
            pieces.extend(piece.columns)
            rows.extend(piece.rows)
        columns = _joined(pieces)
        at = np.array(rows, dtype=np.int64)
        if len(by_schema) > 1:
            order = np.argsort(at, kind="stable")
            columns, at = columns.take(pa.array(order)), at[order]
        whole = len(at) == len(raw)
        refused.sort(key=lambda pair: pair[0])
        places = raw.places() if whole else (place[at] for place in raw.places())
        return Decoded(batch_of_columns(columns, *places), refused)

    def _usual(self, raw: RawBatch) -> ArrowColumns | None:
        """The columns of a batch of one writer schema with nothing amiss; None for any other."""
        values = cast("list[bytes]", raw.values)
        framed, header = self._frame_of(raw.values)
        if framed is None:
            return None
        try:
            sizes = list(map(len, values))
        except TypeError:  # a record without a value
            return None
        if max(sizes) > EVENT_BYTES_MAX:
            return None
        decoded = _natively(values, framed)
        if decoded is None or not framing.all_framed(decoded, header):
            return None
        return _vouched(decoded, sum(sizes) - wire.HEADER_BYTES * len(sizes))

    def _frame_of(self, values: list[bytes | None]) -> tuple[str | None, bytes]:
        """The schema of records with their frame, and that frame, by the first and the last."""
        ends = {(value or b"")[: wire.HEADER_BYTES] for value in (*values[:1], *values[-1:])}
        header = ends.pop() if len(ends) == 1 else b""
        if not header or not framing.can_be_fields(header):
            return None, header
        if header not in self._framed:
            if self._learn(header) is not None:
                return None, header
            text, _ = self._parsed[int.from_bytes(header[1:], "big")]
            self._framed[header] = framing.with_frame(text)
        return self._framed[header], header

    def _sort(
        self, raw: RawBatch, refused: list[tuple[int, Refusal]]
    ) -> tuple[list[bytes], dict[int, list[int]]]:
        """Avro bodies by raw row, and the rows of each schema id."""
        suitable = list(range(len(raw)))
        if None in raw.values or not _fit(cast("list[bytes]", raw.values)):
            unsuitable = {row: why for row in suitable if (why := _unsuitable(raw.values[row]))}
            refused.extend(unsuitable.items())
            suitable = [row for row in suitable if row not in unsuitable]
            known = [b"" if row in unsuitable else value for row, value in enumerate(raw.values)]
        else:
            known = raw.values
        values = cast("list[bytes]", known)
        by_header: dict[bytes, list[int]] = {}
        headers = {value[:5] for value in values}
        if len(headers) == 1:
            by_header[headers.pop()] = suitable
        else:
            for row in suitable:
                by_header.setdefault(values[row][:5], []).append(row)
        by_schema: dict[int, list[int]] = {}
        for header, rows in by_header.items():
            why = self._learn(header)
            if why is None:
                by_schema[int.from_bytes(header[1:], "big")] = rows
            else:
                refused.extend((row, why) for row in rows)
        return [value[5:] for value in values], by_schema

    def _learn(self, header: bytes) -> Refusal | None:
        try:
            schema_id, _ = wire.split(header)
            if schema_id not in self._parsed:
                text = self._schemas.schema_text(schema_id)
                self._parsed[schema_id] = (text, codec.parse_text(text))
        except UndecodableRecord as problem:
            return Refusal(Reason.UNDECODABLE, str(problem))
        except UnknownSchema as problem:
            return Refusal(Reason.UNKNOWN_SCHEMA, str(problem))
        return None


class _Piece:
    """Decodes rows of one writer schema: natively while it can, exactly where it must."""

    def __init__(
        self,
        schema: tuple[str, codec.Schema],
        bodies: list[bytes],
        refused: list[tuple[int, Refusal]],
    ) -> None:
        self._text, self._parsed = schema
        self._bodies = bodies
        self._refused = refused
        self.columns: list[ArrowColumns] = []
        self.rows: list[int] = []

    def decode(self, rows: list[int]) -> None:
        everything = len(rows) == len(self._bodies)
        bodies = self._bodies if everything else [self._bodies[row] for row in rows]
        columns = native_columns(bodies, self._text)
        if columns is not None:
            self.columns.append(columns)
            self.rows.extend(rows)
        elif len(rows) <= _EXACT_RECORDS_MAX:
            self._decode_exactly(rows)
        else:
            middle = len(rows) // 2
            self.decode(rows[:middle])
            self.decode(rows[middle:])

    def _decode_exactly(self, rows: list[int]) -> None:
        events: list[MeterEvent] = []
        for row in rows:
            try:
                event = codec.decode_body(self._bodies[row], self._parsed)
            except UndecodableRecord as problem:
                self._refused.append((row, Refusal(Reason.UNDECODABLE, str(problem))))
                continue
            if _natively(self._bodies[row : row + 1], self._text) is None:
                # fastavro reads a negative enum or union index as Python does, from the end, and
                # lets an integer of any length run over.
                why = Refusal(Reason.UNDECODABLE, "an index or an integer is out of its range")
                self._refused.append((row, why))
                continue
            events.append(event)
            self.rows.append(row)
        self.columns.append(arrow_of_events(events))


def native_columns(bodies: list[bytes], schema_text: str) -> ArrowColumns | None:
    """The columns of these Avro bodies, or None where the native decoder cannot vouch for them."""
    decoded = _natively(bodies, schema_text)
    return None if decoded is None else _vouched(decoded, sum(map(len, bodies)))


def _vouched(decoded: ArrowColumns, size: int) -> ArrowColumns | None:
    """The columns of bodies that have so many bytes together, if they are those of events."""
    try:
        columns = _projected(decoded)
    except (ValueError, pa.ArrowException, KeyError):
        # A writer schema with other fields or types than ours: the exact decoder reads it.
        return None
    if canonical_bytes(columns) != size or not ints_are_sure(columns):
        return None
    return columns


def _natively(bodies: list[bytes], schema_text: str) -> ArrowColumns | None:
    """What the native decoder makes of the bodies; None when it refuses one, or reads no text."""
    try:
        decoded = pyruhvro.deserialize_array(bodies, schema_text)  # pyright: ignore[reportAttributeAccessIssue] - compiled
        decoded.validate(full=not has_plain_text(decoded))
    except (ValueError, pa.ArrowException):
        return None
    except BaseException as problem:
        # A panic of the native decoder is a BaseException of its own; it means the same.
        if type(problem).__name__ != "PanicException":
            raise
        return None
    return decoded


def _projected(decoded: ArrowColumns) -> ArrowColumns:
    """The columns in our order and types: times as integers."""
    columns: list[ArrowArray] = []
    for field in ARROW_SCHEMA:
        column = decoded.column(field.name)
        if pa.types.is_timestamp(column.type):
            column = column.view(pa.int64())
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=ARROW_SCHEMA)


def _joined(pieces: list[ArrowColumns]) -> ArrowColumns:
    if len(pieces) == 1:
        return pieces[0]
    if not pieces:
        return arrow_of_events([])
    return pa.concat_batches(pieces)


def _fit(values: list[bytes]) -> bool:
    sizes = list(map(len, values))
    return not sizes or (min(sizes) >= wire.HEADER_BYTES and max(sizes) <= EVENT_BYTES_MAX)


def _unsuitable(value: bytes | None) -> Refusal | None:
    if value is None:
        return Refusal(Reason.UNDECODABLE, "the record has no value (a tombstone)")
    if len(value) > EVENT_BYTES_MAX:
        return Refusal(
            Reason.TOO_LARGE, f"{len(value)} bytes; an event has at most {EVENT_BYTES_MAX}"
        )
    if len(value) < wire.HEADER_BYTES:
        return Refusal(Reason.UNDECODABLE, f"{len(value)} bytes are too short for a framed record")
    return None
