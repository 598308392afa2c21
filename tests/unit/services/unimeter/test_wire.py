"""Unimeter's bytes: vectors of the real client both ways, and whatever else may come."""

from __future__ import annotations

import contextlib
import json
import struct
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_services.clients.unimeter import wire, wire_metrics, wire_questions
from meterstream_services.clients.unimeter.wire import BadFrame, EventRow, Op, Result, Status
from meterstream_services.clients.unimeter.wire_metrics import (
    FilterForm,
    MetricForm,
    ThresholdForm,
)
from meterstream_services.clients.unimeter.wire_questions import (
    AlertRow,
    BreakdownForm,
    Cell,
    Figure,
    LoggedRow,
    UsageForm,
)

if TYPE_CHECKING:
    from collections.abc import Callable

VECTORS: dict[str, dict[str, str]] = json.loads(
    (Path(__file__).parent / "vectors.json").read_text("utf-8")
)
AT = 1_776_384_000_000_000_000
COMPUTE = wire.padded("compute_seconds", 64)
METRIC = MetricForm(
    "compute_seconds",
    1,
    filters=(FilterForm("provider", ("aws", "gcp")),),
    thresholds=(ThresholdForm("free_tier", 10_000, recurring=False),),
    period=1,
    cycle_day=15,
)


def request(name: str) -> tuple[wire.RequestHeader, bytes]:
    """The header and payload of a request as the real client sends it."""
    content = bytes.fromhex(VECTORS[name]["request"])
    header = wire.decode_request(content[:16])
    assert len(content) == 16 + header.payload_bytes
    return header, content[16:]


def response(name: str) -> tuple[wire.ResponseHeader, bytes]:
    """The header and payload of a response as the real client reads it."""
    content = bytes.fromhex(VECTORS[name]["response"])
    return wire.decode_response(content[:12]), content[12:]


def numbers(payload: bytes) -> tuple[int, int]:
    """The two instants of a question's payload."""
    return struct.unpack_from("<qq", payload, 8)


def star(encode: Callable[..., bytes]) -> Callable[[tuple[Any, ...]], bytes]:
    """An encoder that takes its arguments as one tuple."""
    return lambda asked: encode(*asked)


@pytest.mark.parametrize("name", [name for name in VECTORS if "request" in VECTORS[name]])
def test_every_request_has_the_header_of_its_op(name: str) -> None:
    """Headers decode to their op and id, and encode to the same bytes."""
    header, payload = request(name)

    assert header.op == Op[name]
    made = wire.encode_request(header.op, payload, header.request_id)
    assert made.hex() == VECTORS[name]["request"]


def test_events_are_the_real_clients() -> None:
    """A frame of two events, one with a property, both ways."""
    header, payload = request("INGEST_ASYNC")

    rows, properties = wire.event_rows(payload)

    plain, priced = [EventRow(*row) for row in rows]
    assert (wire.text(plain.code), plain.account, plain.at, plain.value) == ("api_calls", 42, 0, 1)
    assert priced == EventRow(COMPUTE, 42, priced.at, 45_000_000, 0, 1)
    assert wire.property_pairs(properties) == {"provider": "aws"}
    made = wire.encode_events([(plain, {}), (priced, {"provider": "aws"})])
    assert wire.encode_request(header.op, made, 2).hex() == VECTORS["INGEST_ASYNC"]["request"]


def test_a_result_is_what_the_real_client_reads() -> None:
    """Stored, duplicates and offset, both ways."""
    header, payload = response("INGEST_ASYNC")

    assert wire.decode_result(payload) == Result(2, 0, 1)
    made = wire.encode_response(Status.OK, header.request_id, wire.encode_result(Result(2, 0, 1)))
    assert made.hex() == VECTORS["INGEST_ASYNC"]["response"]


def test_the_map_repeats_one_address() -> None:
    """256 rows with the leader alone."""
    row = VECTORS["GET_PARTITION_MAP"]["row_repeated_256x"]

    made = wire.encode_map("10.0.0.5:7001")

    assert made.hex() == row * 256
    assert wire.decode_map(made) == [("10.0.0.5:7001", "", "")] * 256
    header = wire.encode_response(Status.OK, 1, made)[:12]
    assert header.hex() == VECTORS["GET_PARTITION_MAP"]["response_header"]


@pytest.mark.parametrize("address", ["", "meterstream.metering.svc:7001"])
def test_an_address_that_does_not_fit_is_refused(address: str) -> None:
    """The map has 23 characters for an address; a longer one would lead nowhere."""
    with pytest.raises(ValueError, match="does not fit"):
        wire.encode_map(address)


@pytest.mark.parametrize(
    ("name", "decode", "encode", "expected"),
    [
        ("METRIC_PUT", wire_metrics.decode_metric, wire_metrics.encode_metric, METRIC),
        (
            "USAGE_REALTIME",
            wire_questions.decode_realtime,
            star(wire_questions.encode_realtime),
            (42, "api_calls"),
        ),
        (
            "ALERTS_LIST",
            wire_questions.decode_since,
            star(wire_questions.encode_since),
            (42, 0),
        ),
        (
            "METRIC_DELETE",
            wire_metrics.decode_code,
            partial(wire.padded, width=64),
            "api_calls",
        ),
    ],
)
def test_requests_mean_what_was_asked(
    name: str,
    decode: Callable[[bytes], Any],
    encode: Callable[[Any], bytes],
    expected: object,
) -> None:
    """The payload of the real client decodes to what it was given, and back to the same bytes."""
    _, payload = request(name)

    assert decode(payload) == expected
    assert encode(expected) == payload


def test_questions_mean_what_was_asked() -> None:
    """Usage with a filter, a breakdown by a key, and a span of events, both ways."""
    _, usage = request("USAGE_QUERY")
    start, end = numbers(usage)
    asked = UsageForm(42, "compute_seconds", start, end, {"provider": "aws"})
    assert wire_questions.decode_usage(usage) == asked
    assert wire_questions.encode_usage(asked) == usage

    _, breakdown = request("USAGE_QUERY_BREAKDOWN")
    by = BreakdownForm(42, "compute_seconds", start, end, ("provider",))
    assert wire_questions.decode_breakdown(breakdown) == by
    assert wire_questions.encode_breakdown(by) == breakdown

    _, events = request("EVENTS_LIST")
    assert wire_questions.decode_span(events) == (42, start, end)
    assert wire_questions.encode_span(42, start, end) == events


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("METRIC_PUT", b""),
        ("METRIC_DELETE", b""),
        ("ALERT_PUSH_ENABLE", b""),
        ("METRIC_LIST", wire_metrics.encode_metrics([MetricForm("api_calls", 0)])),
        ("USAGE_QUERY", wire_questions.encode_figure(Figure(sum=45_000_000))),
        ("USAGE_REALTIME", wire_questions.encode_figure(Figure(events=3))),
        (
            "USAGE_QUERY_BREAKDOWN",
            wire_questions.encode_cells([Cell((("provider", "aws"),), Figure(sum=45_000_000))]),
        ),
        (
            "ALERTS_LIST",
            wire_questions.encode_alerts([AlertRow(0, 42, "api_calls", "soft", 2, AT)]),
        ),
    ],
)
def test_responses_are_what_the_real_client_reads(name: str, payload: bytes) -> None:
    """Equal to the vector, byte by byte."""
    header, _ = response(name)

    made = wire.encode_response(Status.OK, header.request_id, payload)

    assert made.hex() == VECTORS[name]["response"]


def test_responses_decode_to_what_was_encoded() -> None:
    """Figures, cells, alerts and metrics read from the vectors."""
    _, cells = response("USAGE_QUERY_BREAKDOWN")
    _, alerts = response("ALERTS_LIST")
    _, metrics = response("METRIC_LIST")
    _, figure = response("USAGE_QUERY")

    assert wire_questions.decode_cells(cells) == [
        Cell((("provider", "aws"),), Figure(sum=45_000_000))
    ]
    assert wire_questions.decode_alerts(alerts) == [AlertRow(0, 42, "api_calls", "soft", 2, AT)]
    assert wire_metrics.decode_metrics(metrics) == [("api_calls", 0)]
    assert wire_questions.decode_figure(figure) == Figure(sum=45_000_000)


def test_an_alert_is_pushed_without_a_request() -> None:
    """The push frame has the op in place of the status, and the id 0."""
    payload = wire_questions.encode_alert_push(AlertRow(0, 42, "api_calls", "soft", 2, AT))

    made = wire.encode_push(Op.ALERT_PUSH, payload)

    assert made.hex() == VECTORS["ALERT_PUSH(server->client)"]["frame"]


def test_backpressure_is_a_bare_header() -> None:
    """Status 6 without a payload."""
    made = wire.encode_response(Status.BACKPRESSURE, 2)

    assert made.hex() == VECTORS["BACKPRESSURE"]["response"]


def test_the_vendors_layout_has_a_count() -> None:
    """Lists behind their count, and whole metrics, as the vendor's server writes them."""
    alert = AlertRow(0, 42, "api_calls", "soft", 2, AT)
    flat = wire_questions.encode_alerts([alert])

    assert wire_questions.encode_alerts([alert], counted=True) == bytes([1, *[0] * 7]) + flat
    whole = wire_metrics.encode_metrics([METRIC], counted=True)
    assert wire_metrics.decode_metric(whole[8:]) == METRIC


def test_a_metric_of_an_old_client_has_no_periods() -> None:
    """Thresholds and period may be left out."""
    base = wire_metrics.encode_metric(MetricForm("m", 4))

    assert wire_metrics.decode_metric(base[:132]) == MetricForm("m", 4)
    assert wire_metrics.decode_metric(base[:140]) == MetricForm("m", 4)


def test_a_text_that_was_cut_in_a_character_loses_it() -> None:
    """The published client cuts by bytes; half a character is no reason to refuse the event."""
    field = ("a" * 62 + "é").encode()[:63] + b"\0"

    assert wire.text(field) == "a" * 62
    with pytest.raises(BadFrame):
        wire.text(b"\xff" + bytes(63))


def test_a_figure_stays_within_its_fields() -> None:
    """What is beyond a field is its bound: sums have 128 bits, the others 64."""
    figure = Figure(2**70, 2**65, -5, 2**64, -1, 2**64)

    found = wire_questions.decode_figure(wire_questions.encode_figure(figure))

    assert found == Figure(2**70, 2**64 - 1, 0, 2**64 - 1, 0, 2**64 - 1)


def test_logged_events_come_back() -> None:
    """Rows of EVENTS_LIST behind their count."""
    rows = [LoggedRow(7, AT, 42, "api_calls", 3, 1), LoggedRow(8, AT, 42, "b", 2**64 - 1, 0)]

    assert wire_questions.decode_logged(wire_questions.encode_logged(rows)) == rows


DECODERS: list[Callable[[bytes], object]] = [
    wire.decode_request,
    wire.decode_response,
    wire.event_rows,
    wire.property_pairs,
    wire.decode_result,
    wire.decode_map,
    wire.text,
    wire_metrics.decode_metric,
    wire_metrics.decode_metrics,
    wire_metrics.decode_code,
    wire_questions.decode_usage,
    wire_questions.decode_breakdown,
    wire_questions.decode_realtime,
    wire_questions.decode_span,
    wire_questions.decode_since,
    wire_questions.decode_figure,
    wire_questions.decode_cells,
    wire_questions.decode_alerts,
    wire_questions.decode_logged,
]
PAYLOADS = [
    bytes.fromhex(vector[side])[skip:]
    for vector in VECTORS.values()
    for side, skip in (("request", 16), ("request", 0), ("response", 12))
    if side in vector
]


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A payload of the real client, cut, lengthened, or with bytes changed."""
    content = bytearray(draw(st.sampled_from(PAYLOADS)))
    for place, value in draw(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)))):
        if place < len(content):
            content[place] = value
    return bytes(content[: draw(st.integers(0, 600))]) + draw(st.binary(max_size=40))


@given(content=st.one_of(st.binary(max_size=700), spoilt()))
def test_no_bytes_make_a_decoder_fail_otherwise(content: bytes) -> None:
    """Whatever comes, a decoder returns or raises `BadFrame`."""
    for decode in DECODERS:
        with contextlib.suppress(BadFrame):
            decode(content)


@pytest.mark.parametrize(("events", "properties"), [(2**32 - 1, 0), (0, 2**32 - 1), (1, 0), (2, 0)])
def test_counts_that_lie_are_refused(events: int, properties: int) -> None:
    """A count is believed only where the bytes are there; nothing is made for it before."""
    with pytest.raises(BadFrame):
        wire.event_rows(struct.pack("<II", events, properties))
