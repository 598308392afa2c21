"""The fast encoder writes what the reference codec writes, byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st

from meterstream.encoding import FEW, Encoder, Series, attributes_map, mark
from meterstream_schemas import codec, wire
from meterstream_schemas.events import LANES, EventKind, MeterEvent
from tests.unit.producers.reading import SCHEMA
from tests.unit.schemas.events_made import EVENTS

if TYPE_CHECKING:
    from meterstream.encoding import Entry

LONG_TEXT = "é" * 5_000


def entry_of(event: MeterEvent) -> Entry:
    """What stands in the buffer for an event."""
    series = Series(
        kind=list(EventKind).index(event.kind),
        event_type=event.type,
        tenant=event.tenant,
        lane=event.lane,
        producer=event.producer,
        take=lambda: event.sequence,
    )
    return (
        *series.common,
        event.time,
        event.quantity,
        event.scale,
        event.session,
        event.subject,
        attributes_map(event.attributes),
        series.take(),
        event.key,
    )


@given(st.lists(EVENTS, min_size=1, max_size=4), st.integers(0, 2**32 - 1))
@example(
    [MeterEvent(EventKind.USAGE, "", "", 0, 0, 0, LONG_TEXT, "", {"": LONG_TEXT}, "", 0, 1, "")], 0
)
def test_the_fast_encoder_is_the_codec(events: list[MeterEvent], schema_id: int) -> None:
    """Any events, one after another through one encoder or all at once, become the same bytes."""
    encoder = Encoder(wire.header(schema_id))

    for event in events:
        assert encoder.encode(entry_of(event)) == codec.encode(event, SCHEMA, schema_id)
    assert (
        encoder.encode_all(list(map(entry_of, events)) * FEW)
        == [codec.encode(event, SCHEMA, schema_id) for event in events] * FEW
    )


def test_numbers_at_every_bound_are_the_codec() -> None:
    """Where a number takes one byte more, and where a table ends; and nothing is nothing."""
    encoder = Encoder(wire.header(1))
    bounds = [n + d for n in (1, 64, 2**13, 2**20, 2**27, 2**28, 2**34, 2**50) for d in (-1, 0, 1)]
    texts = [None, "", "x" * 63, "x" * 64, "é" * 40, "x" * 200]
    events = [
        MeterEvent(
            EventKind.USAGE, "t", "a", at, at, 0, text, text, {}, "p" * 32, 1, at, text
        )
        for at in bounds
        for text in texts
    ]  # fmt: skip

    expected = [codec.encode(event, SCHEMA, 1) for event in events]

    assert encoder.encode_all(list(map(entry_of, events))) == expected
    assert list(map(encoder.encode, map(entry_of, events))) == expected
    assert encoder.encode_all([]) == []


def test_times_one_behind_the_other_are_the_codec() -> None:
    """Many of one moment, all different, and many where their upper part changes."""
    encoder, step = Encoder(wire.header(1)), 2**27
    whole = 1_790_000_000_000_000 // step * step
    for first in (0, whole, whole - 9):
        events = [
            MeterEvent(EventKind.USAGE, "t", "a", at, 1, 0, None, None, {}, "p" * 32, 1, 1, None)
            for at in range(first, first + 3 * FEW)
        ]

        assert encoder.encode_all(list(map(entry_of, events))) == [
            codec.encode(event, SCHEMA, 1) for event in events
        ]


@given(st.integers(0, LANES - 1), st.integers(1, 2**40), st.integers(0, 2**50))
def test_a_mark_is_an_event_of_its_lane(lane: int, highest: int, time: int) -> None:
    """A mark decodes as MARK of no tenant with the highest number as its own."""
    attributes = attributes_map({"closing": "true"})

    value = Encoder(wire.header(1)).encode(
        mark("p" * 32, lane, highest, time=time, attributes=attributes)
    )

    assert value == codec.encode(
        MeterEvent(
            EventKind.MARK, "", "", time, 0, 0, None, None, {"closing": "true"},
            "p" * 32, lane, highest, None,
        ),
        SCHEMA,
    )  # fmt: skip
