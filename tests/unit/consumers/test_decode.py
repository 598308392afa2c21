"""Native and exact decoding tell the same of every record, in any company."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meterstream_aggregator.batch import batch_of_columns
from meterstream_aggregator.refusals import Reason, Refusal
from meterstream_consumers.decode import Decoder, native_columns
from meterstream_schemas import codec
from meterstream_schemas.errors import SchemaUnavailable, UndecodableRecord, UnknownSchema
from meterstream_schemas.events import EVENT_BYTES_MAX, EventKind, MeterEvent
from meterstream_schemas.registry import BundledSchemas
from meterstream_schemas.wire import header
from tests.integration.hostile_records import HEADER, blocked, good, small_records, varint
from tests.unit.aggregator.making import NOW, boundary, nasty_events, numbered
from tests.unit.consumers.making import SCHEMA, framed, raw_values

if TYPE_CHECKING:
    from collections.abc import Sequence

TEXT = codec.bundled_text(codec.LATEST_ID)
BASES = [
    codec.encode_body(event, SCHEMA)
    for event in (
        numbered(1, tenant="té", attributes={"a": "b", "é": "x" * 70}, key="k"),
        numbered(2**63 - 1, quantity=-(2**63), scale=18, time=NOW, lane=255, subject="u"),
        boundary("START", NOW, subject=""),
    )
]
BLOCKED = blocked(good(7, tenant="t", lane=1, time=NOW))
FRAMES = [
    HEADER, HEADER[:-1] + b"\x03", HEADER[:-1] + b"\x81\x00", b"\x80\x00" + HEADER[1:],
    b"\x01" + HEADER[1:], HEADER[:4], b"",
]  # fmt: skip
INTEGERS = st.sampled_from(
    (-1, -2, 7, 2**31, -(2**31) - 1, 2**32, 2**33 + 1, 2**40, 2**62, 2**63, 2**64 + 1, -(2**63))
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """The body of an event after a few accidents."""
    body = bytearray(draw(st.sampled_from([*BASES, BLOCKED[5:]])))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(body)))
        width = draw(st.sampled_from((0, 1, 1, 2, 10)))
        instead = draw(st.binary(max_size=2) | st.builds(varint, INTEGERS))
        body[at : at + width] = instead
    return bytes(body)


def decoded(values: Sequence[bytes | None]) -> list[MeterEvent | Refusal]:
    """What each record is: an event, or why it is none."""
    batch, refused = Decoder(BundledSchemas()).decode(raw_values(values))
    told: dict[int, MeterEvent | Refusal] = dict(refused)
    assert len(told) == len(refused)
    rows = np.arange(len(batch))
    for offset, event in zip(batch.offset.tolist(), batch.events(rows), strict=True):
        assert offset not in told
        told[offset] = event
    assert batch.offset.tolist() == sorted(batch.offset.tolist())
    return [told[at] for at in range(len(values))]


@settings(max_examples=300)
@given(mutated())
@example(BASES[0][:-1])
@example(BASES[0] + b"\x00")
@example(BASES[1].replace(varint(255), varint(255 + 2**32)))
@example(BASES[1].replace(varint(18), varint(2**31)))
@example(b"\x01" + BASES[0][1:])
def test_native_and_exact_agree(body: bytes) -> None:
    """What the native path vouches for is what the exact one reads; the rest is read exactly."""
    try:
        exact = codec.decode_body(body, SCHEMA)
    except UndecodableRecord:
        exact = None
    columns = native_columns([body], TEXT)

    if columns is not None:
        nothing = np.zeros(1, dtype=np.int64)
        [event] = batch_of_columns(columns, nothing, nothing, nothing).events(nothing)
        assert event == exact
    [told] = decoded([HEADER + body])
    if isinstance(told, MeterEvent):
        assert told == exact
    else:
        assert told.reason is Reason.UNDECODABLE


@settings(max_examples=60)
@given(st.lists(mutated(), min_size=1, max_size=80))
def test_company_changes_nothing(bodies: list[bytes]) -> None:
    """Each record is told the same alone and in a batch, wherever the batch is cut."""
    values = [HEADER + body for body in bodies]

    assert decoded(values) == [each for value in values for each in decoded([value])]


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(FRAMES), mutated()), min_size=1, max_size=12))
@example([(HEADER, BASES[0]), (FRAMES[1], BASES[0]), (HEADER, BASES[0])])
@example([(HEADER, BASES[0]), (FRAMES[2], BASES[0][1:]), (HEADER, BASES[0])])
def test_frames_are_read_as_if_they_were_cut_off(told: list[tuple[bytes, bytes]]) -> None:
    """Whatever frames a batch has, decoding them with their records changes nothing."""
    values = [frame + body for frame, body in told]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Decoder, "_usual", lambda _self, _raw: None)
        apart = decoded(values)

    assert decoded(values) == apart


class _Everything:
    """The one schema under every id."""

    def schema_text(self, schema_id: int) -> str:
        """Whatever the id."""
        assert schema_id
        return TEXT


@pytest.mark.parametrize("schema_id", [1, 63, 64, 127, 128, 300, 2**31, 2**32 - 1])
def test_any_schema_id_is_decoded(schema_id: int) -> None:
    """Those whose frame is five Avro integers with it, the others without."""
    values = [header(schema_id) + body for body in BASES]
    decoder = Decoder(_Everything())

    batch, refused = decoder.decode(raw_values([*values]))

    assert not refused
    assert batch.events(np.arange(3)) == [codec.decode_body(body, SCHEMA) for body in BASES]
    assert bool(decoder._framed) == (max(header(schema_id)) < 128)


@settings(max_examples=100)
@given(st.lists(nasty_events(), max_size=40))
def test_what_was_encoded_comes_back(events: list[MeterEvent]) -> None:
    """Any event that the schema can carry is decoded to the same values, natively."""
    bodies = [codec.encode_body(event, SCHEMA) for event in events]

    assert decoded([framed(event) for event in events]) == events
    usual = [e for e in events if abs(e.scale) < 2**27 and abs(e.lane) < 2**27]
    if len(usual) == len(events):
        assert native_columns(bodies, TEXT) is not None


@pytest.mark.parametrize("bad", range(70))
def test_one_bad_record_hides_no_neighbour(bad: int) -> None:
    """Wherever it stands in a batch, only the bad record is refused."""
    events = [numbered(n + 1) for n in range(70)]
    values: list[bytes | None] = [framed(event) for event in events]
    values[bad] = values[bad][:-2]  # type: ignore[index] # all are bytes here

    told = decoded(values)

    assert isinstance(told.pop(bad), Refusal)
    assert told == events[:bad] + events[bad + 1 :]


def test_known_poison_in_one_batch() -> None:
    """Every kind of poison among good records, with its reason; the good ones are all there."""
    event = numbered(5)
    poison = [
        each for each in small_records(event) if each.reason in {"undecodable", "unknown_schema"}
    ]
    values: list[bytes | None] = []
    for each in poison:
        values += [framed(event), each.value, BLOCKED]

    told = decoded(values)

    assert told[::3] == [event] * len(poison)
    assert {type(each) for each in told[2::3]} == {MeterEvent}
    for each, why in zip(poison, told[1::3], strict=True):
        assert isinstance(why, Refusal), each.name
        assert why.reason == each.reason, each.name
        assert 10 < len(why.detail) < 300, each.name


def test_size_is_judged_before_anything() -> None:
    """The largest record that an event may be is decoded; one byte more is too large."""
    room = EVENT_BYTES_MAX - len(framed(numbered(1, subject="x" * 16_000))) + 16_000
    largest = numbered(1, subject="x" * room)
    assert len(framed(largest)) == EVENT_BYTES_MAX

    told = decoded([framed(largest), framed(largest) + b"\x00", b"\x00" * (EVENT_BYTES_MAX + 1)])

    assert told[0] == largest
    assert [each.reason for each in told[1:] if isinstance(each, Refusal)] == [Reason.TOO_LARGE] * 2


def test_a_batch_of_nothing_good() -> None:
    """All tombstones, all garbage, or no record at all: an empty batch, each row told."""
    assert decoded([]) == []
    assert all(isinstance(each, Refusal) for each in decoded([None] * 40))
    assert all(isinstance(each, Refusal) for each in decoded([b"\x00\x00\x00\x00\x01"] * 70))
    assert all(isinstance(each, Refusal) for each in decoded([None, b"", b"\x07", HEADER]))


OLDER = """{"type": "record", "name": "MeterEvent", "namespace": "meterstream", "fields": [
  {"name": "type", "type": "string"}, {"name": "tenant", "type": "string"},
  {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["USAGE", "LATER"]}},
  {"name": "time", "type": "long"}, {"name": "quantity", "type": "long"},
  {"name": "scale", "type": "int"}, {"name": "extra", "type": ["null", "long"]}]}"""


class _Schemas:
    """The bundled schema, and another writer's as id 9; ids from 100 on are not answered."""

    def schema_text(self, schema_id: int) -> str:
        if schema_id == codec.LATEST_ID:
            return TEXT
        if schema_id == 9:
            return OLDER
        if schema_id >= 100:
            raise SchemaUnavailable("the registry is away")
        raise UnknownSchema(schema_id)


def _older(symbol: int) -> bytes:
    text = varint(3) + b"api" + varint(4) + b"acme" + varint(symbol)
    return b"\x00\x00\x00\x00\x09" + text + varint(NOW) + varint(5) + varint(1) + b"\x00"


def test_another_writers_fields_are_read_exactly() -> None:
    """Other order, absent fields, more fields, a symbol of the future: an event all the same."""
    values = [_older(0), framed(numbered(1)), _older(1), _older(5), b"\x00\x00\x00\x00\x08x"]
    decoder = Decoder(_Schemas())

    batch, refused = decoder.decode(raw_values(values))

    older = MeterEvent(EventKind.USAGE, "acme", "api", NOW, 5, 1, None, None, {}, "", 0, 0, None)
    assert batch.events(np.arange(3)) == [
        older, numbered(1), older._replace(kind=EventKind.UNKNOWN),
    ]  # fmt: skip
    assert batch.offset.tolist() == [0, 1, 2]
    assert [(row, why.reason) for row, why in refused] == [
        (3, Reason.UNDECODABLE), (4, Reason.UNKNOWN_SCHEMA),
    ]  # fmt: skip


def test_a_registry_that_is_away_is_waited_for() -> None:
    """An id that cannot be asked about is neither refused nor guessed: the batch waits."""
    values = [framed(numbered(1)), b"\x00\x00\x00\x00\x64" + b"x"]

    with pytest.raises(SchemaUnavailable, match="away"):
        Decoder(_Schemas()).decode(raw_values(values))
