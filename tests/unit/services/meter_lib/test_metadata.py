"""Metadata of meter-lib that are too long or too many: cut, and the event counts all the same."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_schemas.checks import check_attributes
from meterstream_services.clients.metadata import FITTING_BYTES_MAX, fitting
from meterstream_services.clients.meter_lib.reading import offers_of

if TYPE_CHECKING:
    from tests.unit.services.agentmeter.world import World

PAGES: dict[str, Any] = {
    "meter_id": "document.basic.page",
    "customer_id": "acme",
    "total_usage": 24,
}
CHAT: dict[str, Any] = {"ai_event": True, "meter_id": "chat.on.time_hours", "customer_id": "acme"}
LONG = "x" * 300


def _post(world: World, *values: dict[str, Any]) -> int:
    body = json.dumps({"records": [{"value": value} for value in values]})
    kafka = {"content-type": "application/vnd.kafka.json.v2+json"}
    return world.send("POST", "/topics/usage-events", content=body, headers=kafka).status_code


def _hashed(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@pytest.mark.parametrize(
    ("metadata", "kept"),
    [
        ({"a": "x" * 1_025, "b": "y"}, {"a": "x" * 1_024, "b": "y"}),
        ({"a": "ü" * 600}, {"a": "ü" * 512}),
        ({"n" * 65: "v"}, {"n" * 64: "v"}),
        ({"a\nb": "v", "": "none"}, {"a?b": "v"}),
        ({str(n): "" for n in range(40)}, {str(n): "" for n in range(32)}),
        ({f"{n}": "x" * 1_000 for n in range(20)}, {f"{n}": "x" * 1_000 for n in range(13)}),
        ({"a": {"deep": ["x" * 2_000]}}, {"a": '{"deep": ["' + "x" * 1_013}),
    ],
)
def test_what_is_too_long_is_cut_and_the_event_counts(
    world: World, metadata: dict[str, Any], kept: dict[str, str]
) -> None:
    """The package keeps nothing of what is answered 422, so metadata are no reason for it."""
    session = CHAT | {"start_time": 1_759_791_552_000}

    assert _post(world, PAGES | {"metadata": metadata}, session | {"metadata": metadata}) == 200

    assert [offer.attributes for offer in world.door.taken] == [kept, kept]


def test_ids_that_are_too_long_are_hashed(world: World) -> None:
    """Wherever they stand: ids that begin alike stay different ones, and equal ones the same."""
    many = {str(number): "x" * 1_000 for number in range(40)}
    ids = ("idempotency_key", "session_id", "device_id")
    metadata = many | {name: f"{LONG}{name}" for name in ids}
    ends = {"start_time": 1_759_791_552_000, "end_time": 1_759_791_553_000}

    for _ in range(2):
        assert _post(world, CHAT | ends | {"metadata": metadata}) == 200

    start, end = world.door.taken
    assert start.key == f"{_hashed(LONG + 'idempotency_key')}:start"
    assert end.key == f"{_hashed(LONG + 'idempotency_key')}:end"
    assert {start.session, end.session} == {_hashed(f"{LONG}session_id")}
    assert start.subject == _hashed(f"{LONG}device_id")


def test_what_is_cut_off_still_tells_sessions_apart(world: World) -> None:
    """A session told whole has an id of all that it says."""
    ends = {"start_time": 1_759_791_552_000, "end_time": 1_759_791_553_000}
    for end in ("a", "b", "a"):
        assert _post(world, CHAT | ends | {"metadata": {"n": "x" * 2_000 + end}}) == 200

    assert len({offer.session for offer in world.door.taken}) == 2


@given(st.dictionaries(st.text(max_size=80), st.text(max_size=2_000), max_size=40))
def test_whatever_fits_can_be_recorded(texts: dict[str, str]) -> None:
    """The limits of events hold, and what was within them is kept as it was."""
    kept = fitting(texts)

    check_attributes(kept)
    assert sum(len(f"{name}{value}".encode()) for name, value in kept.items()) <= FITTING_BYTES_MAX
    usual = {name: value for name, value in kept.items() if texts.get(name) == value}
    assert usual.items() <= texts.items()
    [offer] = offers_of({"meter_id": "m", "total_usage": 1, "metadata": texts}, "acme")
    assert offer.attributes == kept
