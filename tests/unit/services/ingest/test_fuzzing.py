"""Whatever is sent: an answer below 500, and never an event of another tenant."""

from __future__ import annotations

import functools
import gzip
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from meterstream_services.http.json_bodies import parse_json
from meterstream_services.keys.principal import Principal, Scope
from tests.unit.services.ingest.conftest import Door, Gate, made_gate

if TYPE_CHECKING:
    import httpx

OWN = "acme"
KINDS = [
    "application/json",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/x-ndjson",
    "application/jsonl; charset=utf-16",
    "text/plain",
    "",
]
PATHS = ["/v1/events", "/api/v1/events"]
WEIRD_NUMBERS = ["1e999999", "-1e-999999", "9" * 400, "9" * 5000, "0.1", "-0", "1E+3", "1" * 19]
WEIRD_TEXTS = ["", "\x00", "a\x00b", "\u202e", "\ufffe", "x" * 300, OWN, "other", "1.0", "usage"]

_texts = st.sampled_from(WEIRD_TEXTS) | st.text(max_size=20)
_names = st.sampled_from(
    [
        *("type", "tenant", "quantity", "time", "session", "subject", "attributes", "key", "kind"),
        *("specversion", "source", "id", "data", "data_base64", "datacontenttype", "events"),
        *("meter_id", "tool_id", "tool_slug", "event_name"),
    ]
)
_leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _texts
_values = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names | _texts, inner, max_size=5),
    max_leaves=12,
)
_likely = st.fixed_dictionaries(
    {"type": st.just("t") | _leaves, "tenant": st.sampled_from([OWN, "other"]) | _leaves},
    optional={
        "quantity": _leaves,
        "time": st.just("2026-01-01T00:00:00Z") | _leaves,
        "session": _leaves,
        "subject": _leaves,
        "attributes": st.dictionaries(_texts, _leaves, max_size=3) | _leaves,
        "key": _leaves,
        "kind": st.sampled_from(["usage", "session_start", "void"]) | _leaves,
        "specversion": st.just("1.0") | _leaves,
        "source": st.just("s") | _leaves,
        "id": st.just("1") | _leaves,
        "data": _values,
    },
)
_bodies = (
    _likely.map(json.dumps)
    | st.lists(_likely, max_size=4).map(json.dumps)
    | st.lists(_likely, max_size=4).map(lambda items: json.dumps({"events": items}))
    | st.lists(_likely, max_size=4).map(lambda items: "\n".join(map(json.dumps, items)))
    | _values.map(json.dumps)
).map(str.encode) | st.binary(max_size=200)
_header_values = st.binary(max_size=40).filter(lambda value: not {0, 10, 13} & set(value))


_shared = functools.cache(made_gate)  # Making an application takes longer than asking it.


def bound() -> Gate:
    """The routes with an empty door, asked with a key of one tenant and of a second."""
    gate = _shared()
    gate.door = Door()
    gate.app.state.parts = replace(gate.app.state.parts, door=gate.door)
    gate.principal = Principal("key", frozenset(Scope), frozenset({OWN, "second"}))
    return gate


def hold(gate: Gate, answer: httpx.Response) -> None:
    """Raise `AssertionError` for an answer that must not be, or an event of a foreign tenant."""
    assert answer.status_code < 500, answer.text
    assert {offer.tenant for offer in gate.door.taken} <= {OWN, "second"}
    if answer.status_code >= 400:
        assert "json" in answer.headers["content-type"]
        assert answer.json()


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    path=st.sampled_from(PATHS),
    kind=st.sampled_from(KINDS),
    body=_bodies,
    packing=st.sampled_from(["", "gzip", "zstd", "gzip of nothing", "br"]),
)
@example(PATHS[0], KINDS[0], b'{"type":"t","tenant":"other","tenant":"acme"}', "")
@example(PATHS[0], KINDS[0], b'{"type":"t","tenant":"\\ud800"}', "")
def test_bodies(path: str, kind: str, body: bytes, packing: str) -> None:
    """Any body of any type, packed or claimed to be."""
    gate = bound()
    if packing == "gzip":
        body = gzip.compress(body)
    elif packing == "zstd":
        body = zstandard.compress(body)
    headers = {"content-type": kind} | ({"content-encoding": packing} if packing else {})

    hold(gate, gate.send("POST", path, content=body, headers=headers))


@settings(max_examples=80)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                *("ce-specversion", "ce-id", "ce-type", "ce-source", "ce-tenant", "ce-subject"),
                *("ce-time", "ce-quantity", "ce-kind", "ce-data", "ce-datacontenttype"),
                *("idempotency-key", "prefer", "content-encoding", "content-type", "x-tenant-id"),
            ]
        ),
        _header_values
        | st.sampled_from([b"1.0", b"t", OWN.encode(), b"other", b"application/json"]),
    ),
    _bodies,
)
def test_headers(headers: dict[str, bytes], body: bytes) -> None:
    """Any headers of ours with any bytes."""
    gate = bound()

    hold(gate, gate.post(content=body, headers=list(headers.items())))


@pytest.mark.parametrize("number", WEIRD_NUMBERS)
@pytest.mark.parametrize("member", ["quantity", "time", "attributes", "tenant", "specversion"])
@pytest.mark.parametrize("path", PATHS)
def test_numbers(number: str, member: str, path: str) -> None:
    """Numbers of any size in any place."""
    gate = bound()
    value = f'{{"x": {number}}}' if member == "attributes" else number
    rest = '"type": "t", "tenant": "acme", "source": "s", "id": "1"'

    for body in (f'{{{rest}, "{member}": {value}}}', f'[{{{rest}, "{member}": {value}}}]'):
        for kind in KINDS[:4]:
            answer = gate.send("POST", path, content=body.encode(), headers={"content-type": kind})
            hold(gate, answer)


@settings(max_examples=80)
@given(
    st.sampled_from(["api-requests", "nothing"]) | st.text(min_size=1, max_size=8),
    st.lists(
        st.tuples(
            st.sampled_from(["from", "to", "windowSize", "windowTimeZone", "subject", "groupBy"])
            | st.just("filterGroupBy[route]")
            | _texts,
            st.sampled_from(["2026-01-01T00:00:00Z", "HOUR", "route", "UTC", OWN]) | _texts,
        ),
        max_size=4,
    ),
)
def test_questions(slug: str, parameters: list[tuple[str, str]]) -> None:
    """Any question to any meter."""
    gate = bound()

    answer = gate.send("GET", f"/api/v1/meters/{quote(slug, safe='')}/query", params=parameters)

    hold(gate, answer)


@settings(max_examples=60)
@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD"]),
    st.lists(
        st.sampled_from(
            ["subjects", "schemas", "ids", "versions", "meterstream.events-value", "1", "latest"]
        )
        | st.text(max_size=8),
        max_size=5,
    ),
    st.binary(max_size=40) | _values.map(lambda value: json.dumps({"schema": value}).encode()),
)
def test_the_registry(method: str, path: list[str], body: bytes) -> None:
    """Any path, method and body below the registry."""
    gate = bound()
    url = "/".join(["/registry", *(quote(part, safe="") for part in path)])

    answer = gate.send(method, url, content=body)

    assert answer.status_code < 500


@pytest.mark.parametrize("kind", KINDS[:4])
def test_many_and_deep(kind: str) -> None:
    """A hundred thousand items, members, levels or lines are refused or taken in bounded time."""
    gate = bound()
    many: list[Any] = [
        b"[" + b"{}," * 100_000 + b"{}]",
        b"{" + b",".join(b'"%d":1' % n for n in range(100_000)) + b"}",
        b'{"events":' + b"[" * 100_000,
        b'{"a":' * 20 + b"1" + b"}" * 20,
        b"{}\n" * 100_000,
        b'{"specversion":"1.0","data":{' + b",".join(b'"%d":1' % n for n in range(90_000)) + b"}}",
    ]

    for body in many:
        answer = gate.send("POST", "/v1/events", content=body, headers={"content-type": kind})
        hold(gate, answer)


@given(st.text(max_size=10).filter(lambda name: name != "more"), st.integers(), st.integers())
def test_the_last_of_equal_members_counts(name: str, first: int, last: int) -> None:
    """Whichever parser reads the body, of members of one name the last one stands."""
    told = json.dumps(name)

    for rest in ("", ', "more": 0.5'):
        found = parse_json(f"{{{told}: {first}, {told}: {last}{rest}}}".encode())

        assert found[name] == last
