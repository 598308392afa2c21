"""CloudEvents in all three modes mean the same event, also as the public SDK makes them."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from meterstream_schemas.events import ID_BYTES_MAX, EventKind
from meterstream_services.gateway.port import Offer
from meterstream_services.http.ingest_cloud import cloud_key

if TYPE_CHECKING:
    from tests.unit.services.ingest.conftest import Gate

CONTEXT: dict[str, Any] = {
    "specversion": "1.0",
    "type": "llm.completion",
    "source": "/checkout ü",
    "id": "4711",
    "time": "2026-11-21T10:00:00.25Z",
    "subject": "ümläut 100%",
    "tenant": "acme",
    "quantity": "2.5",
    "session": "s1",
}
DATA: dict[str, Any] = {
    "model": "large",
    "usage": {"input": 12, "detail": {"cached": True}},
    "price": 0.10,
    "tags": ["a", 1, {"b": None}],
    "nothing": None,
}
OFFER = Offer(
    "llm.completion",
    "acme",
    "2.5",
    1_795_255_200_250_000,
    EventKind.USAGE,
    "s1",
    "ümläut 100%",
    {
        "model": "large",
        "usage.input": "12",
        "usage.detail.cached": "true",
        "price": "0.1",
        "tags": '["a",1,{"b":null}]',
    },
    "ce:11:/checkout ü:4711",
)
STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"


def cloud(gate: Gate, event: object, kind: str = STRUCTURED) -> httpx.Response:
    """A request with this JSON under this content type."""
    body = json.dumps(event).encode()
    return gate.send("POST", "/v1/events", content=body, headers={"content-type": kind})


def made() -> CloudEvent:
    """The event, made by the public SDK."""
    attributes = CONTEXT | {"time": datetime(2026, 11, 21, 10, 0, 0, 250_000, UTC)}
    return CloudEvent(attributes, DATA)


@pytest.mark.parametrize("kind", [STRUCTURED, "application/json", f"{STRUCTURED}; charset=UTF-8"])
def test_structured(gate: Gate, kind: str) -> None:
    """Context, extensions and data become one event; its key is source and id."""
    answer = cloud(gate, CONTEXT | {"data": DATA}, kind)

    assert answer.status_code == 201, answer.text
    assert gate.door.taken == [OFFER]


@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_what_the_public_sdk_sends(gate: Gate, mode: str) -> None:
    """An event made and written by the cloudevents package is the same in both modes."""
    message = (to_structured_event if mode == "structured" else to_binary_event)(made())

    answer = gate.send("POST", "/v1/events", content=message.body, headers=dict(message.headers))

    assert answer.status_code == 201, answer.text
    assert gate.door.taken == [OFFER]


def test_a_batch_of_what_the_public_sdk_makes(gate: Gate) -> None:
    """Its structured events in an array are a batch, and the same events one by one repeats."""
    written = to_structured_event(made()).body
    one = json.loads(written)
    other = one | {"id": "4712"}

    first = cloud(gate, [one, other, {"type": "x"}], BATCHED)
    again = cloud(gate, one)

    assert [row["status"] for row in first.json()["results"]] == ["accepted", "accepted", "refused"]
    assert (again.status_code, again.json()["status"]) == (200, "duplicate")


def test_binary_by_hand(gate: Gate) -> None:
    """Header names in any case, percent-encoded values, no body: an event without attributes."""
    answer = gate.post(
        headers={
            "CE-SpecVersion": "1.0",
            "ce-type": "t",
            "ce-source": "%C3%BC",
            "ce-id": "1",
            "ce-tenant": "acme",
            "ce-kind": "session_end",
            "ce-session": "s",
            "ce-traceparent": "00-1-2-3",
        }
    )

    assert answer.status_code == 201, answer.text
    [offer] = gate.door.taken
    assert offer.time is not None  # The door's: the event has none.
    assert offer == Offer(
        "t", "acme", 0, offer.time, EventKind.SESSION_END, "s", None, None, "ce:1:ü:1"
    )


def test_data_in_base64(gate: Gate) -> None:
    """JSON data may come as base64."""
    packed = base64.b64encode(json.dumps(DATA).encode()).decode()

    answer = cloud(gate, CONTEXT | {"data_base64": packed, "datacontenttype": "text/json"})

    assert answer.status_code == 201, answer.text
    assert gate.door.taken == [OFFER]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": 1.0}, "specversion"),
        ({"specversion": None}, "specversion"),
        ({"type": None}, "type"),
        ({"source": None}, "source"),
        ({"source": ""}, "source"),
        ({"id": 7}, "id"),
        ({"tenant": None}, "tenant"),
        ({"time": "yesterday"}, "time"),
        ({"quantity": [2]}, "quantity"),
        ({"kind": "MARK"}, "kind"),
        ({"data": "text"}, "data"),
        ({"data": [1]}, "data"),
        ({"data": {"a.b": 1, "a": {"b": 2}}}, "data"),
        ({"data": {str(n): n for n in range(33)}}, "data"),
        ({"data": {}, "data_base64": "e30="}, "data"),
        ({"data_base64": "%"}, "data_base64"),
        ({"data_base64": 5}, "data_base64"),
        ({"data_base64": "e3s="}, "data"),
        ({"data": "<a/>", "datacontenttype": "application/xml"}, "datacontenttype"),
        ({"data": {}, "datacontenttype": 5}, "datacontenttype"),
        ({"kind": "void", "time": None}, "time"),
    ],
)
def test_what_is_refused(gate: Gate, change: dict[str, Any], field: str) -> None:
    """What CloudEvents or an event does not allow is 422 with the field's name."""
    answer = cloud(gate, CONTEXT | change)

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    assert gate.door.taken == []


@pytest.mark.parametrize(
    ("headers", "content", "field"),
    [
        ({"ce-data": "{}"}, b"", "data"),
        ({"ce-data_base64": "e30="}, b"", "data_base64"),
        ({"ce-subject": "%ff"}, b"", "ce-subject"),
        ({"content-type": "application/json"}, b"{", "data"),
        ({"content-type": "application/xml"}, b"<a/>", "datacontenttype"),
        ({"ce-specversion": "1"}, b"", "specversion"),
    ],
)
def test_what_is_refused_in_binary_mode(
    gate: Gate, headers: dict[str, str], content: bytes, field: str
) -> None:
    """Data hidden in a header, broken percent-encoding and unreadable bodies are 422."""
    context = {f"ce-{name}": "1.0" for name in ("specversion", "type", "source", "id", "tenant")}

    answer = gate.post(content=content, headers=context | headers)

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


def test_nulls_are_as_if_they_were_not_there(gate: Gate) -> None:
    """Optional attributes may be null."""
    nulls = dict.fromkeys(("time", "session", "kind", "data", "datacontenttype", "dataschema"))

    answer = cloud(gate, CONTEXT | nulls)

    assert answer.status_code == 201, answer.text
    assert gate.door.taken[0].attributes is None


def test_the_key_of_one_tenant_speaks_for_events_without_one(gate: Gate) -> None:
    """Without the extension the key's only tenant is meant; a foreign one is 403."""
    gate.bind("acme")
    context = {name: value for name, value in CONTEXT.items() if name != "tenant"}

    assert cloud(gate, context).status_code == 201
    assert cloud(gate, CONTEXT | {"tenant": "other"}).status_code == 403
    assert [offer.tenant for offer in gate.door.taken] == ["acme"]


@given(
    st.tuples(st.text(), st.text()),
    st.tuples(st.text(), st.text()),
)
def test_no_two_pairs_share_a_key(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Keys of source and id are equal only where both are."""
    assert (cloud_key(*one) == cloud_key(*other)) == (one == other)


@pytest.mark.parametrize("length", [1, 100, 240, 249, 250, 251, 10_000])
@pytest.mark.parametrize("letter", ["a", "ü", "\U0001f600"])
def test_keys_are_bounded(length: int, letter: str) -> None:
    """However long source and id are, the key fits; long ones are told apart all the same."""
    key = cloud_key(letter * length, "1")

    assert len(key.encode()) <= ID_BYTES_MAX
    assert key != cloud_key(letter * length, "2")
    assert key != cloud_key(letter * (length + 1), "1")
