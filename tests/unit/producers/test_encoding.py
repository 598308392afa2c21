"""The fast encoder writes what the reference codec writes, byte for byte."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from meterstream.encoding import Encoder, Series, attributes_map, mark
from meterstream_schemas import codec, wire
from meterstream_schemas.events import LANES, EventKind, MeterEvent
from tests.unit.producers.reading import SCHEMA
from tests.unit.schemas.events_made import EVENTS

LONG_TEXT = "é" * 5_000


def fast(encoder: Encoder, event: MeterEvent) -> bytes:
    """What the SDK would send for an event."""
    series = Series(
        kind=list(EventKind).index(event.kind),
        event_type=event.type,
        tenant=event.tenant,
        lane=event.lane,
        producer=event.producer,
        take=lambda: event.sequence,
    )
    return encoder.encode(
        (
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
    )


@given(st.lists(EVENTS, min_size=1, max_size=4), st.integers(0, 2**32 - 1))
@example(
    [MeterEvent(EventKind.USAGE, "", "", 0, 0, 0, LONG_TEXT, "", {"": LONG_TEXT}, "", 0, 1, "")], 0
)
def test_the_fast_encoder_is_the_codec(events: list[MeterEvent], schema_id: int) -> None:
    """Any events, one after another through one encoder, become the same bytes."""
    encoder = Encoder(wire.header(schema_id))

    for event in events:
        assert fast(encoder, event) == codec.encode(event, SCHEMA, schema_id)


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
