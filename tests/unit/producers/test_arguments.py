"""Every wrong argument of ``record``: silent and counted by default, a clear sentence in strict."""

from __future__ import annotations

from collections import UserDict
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NoReturn
from unittest.mock import MagicMock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterstream import InvalidEvent, Meter
from meterstream.memory import MemoryTransport
from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from tests.unit.producers.conftest import MakeMeter

GOOD: dict[str, Any] = {"type": "api.request", "tenant": "acme"}


class Plan(StrEnum):
    """A text of a caller's own type."""

    GOLD = "gold"


class Hostile:
    """Whatever is asked of it, it raises."""

    def _raise(self, *_: object) -> NoReturn:
        raise RuntimeError("hostile")

    __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __str__ = __repr__ = _raise
    __int__ = __index__ = __lt__ = __le__ = __getattr__ = _raise


class Impostor:
    """Claims to equal everything and to be a str."""

    __class__ = str  # type: ignore[assignment]  # a lie is the point

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash((1, "api.request", "acme"))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tenant": ""}, "tenant: is empty; pass at least one character"),
    ({"tenant": None}, "tenant: is missing; pass tenant=... or use meter.context(tenant=...)"),
    ({"tenant": 7}, "tenant: int is not text; pass a str"),
    ({"tenant": b"acme"}, "tenant: bytes is not text; pass a str"),
    ({"tenant": ["acme"]}, "tenant: list is not text; pass a str"),
    ({"tenant": "x" * 129}, "tenant: is 129 characters; at most 128 bytes are kept"),
    ({"tenant": "é" * 65}, "tenant: is 130 bytes; at most 128 are kept"),
    ({"tenant": "a\x00"}, "tenant: 'a\\x00' holds a control character; remove it"),
    ({"tenant": "a\ud800"}, "tenant: 'a\\ud800' holds a lone surrogate; repair the text"),
    ({"tenant": "x" * 10_000_000}, "tenant: is 10000000 characters"),
    ({"tenant": MagicMock(spec=str)}, "tenant: MagicMock is not text; pass a str"),
    ({"tenant": Impostor()}, "tenant: Impostor is not text; pass a str"),
    ({"type": ""}, "type: is empty"),
    ({"type": object()}, "type: object is not text; pass a str"),
    ({"type": {}}, "type: dict is not text; pass a str"),
    ({"type": "a\nb"}, "type: 'a\\nb' holds a control character"),
    ({"type": "x" * 129}, "type: is 129 characters"),
    ({"quantity": 1.5}, "quantity: 1.5 is a float; pass Decimal('1.5') or the text '1.5'"),
    ({"quantity": True}, "quantity: True is a bool; pass 1 or 0"),
    ({"quantity": None}, "quantity: NoneType is not an amount"),
    ({"quantity": Decimal("NaN")}, "quantity: NaN is not a finite number"),
    ({"quantity": "twelve"}, "quantity: 'twelve' is not a decimal number such as '12.5'"),
    ({"quantity": 2**63}, "quantity: an integer of 64 bits does not fit"),
    ({"quantity": -(2**63) - 1}, "quantity: an integer of 64 bits does not fit"),
    ({"quantity": 10**100_000}, "quantity: an integer of 332193 bits does not fit"),
    ({"time": datetime(2026, 1, 1)}, "time: 2026-01-01T00:00:00 has no zone"),  # noqa: DTZ001 - wrong
    ({"time": date(2026, 1, 1)}, "time: date is not a time; pass an aware datetime or int micro"),
    ({"time": 1.7e15}, "time: float is not a time"),
    ({"time": "2026-01-01T00:00:00Z"}, "time: str is not a time"),
    ({"time": True}, "time: bool is not a time"),
    ({"time": -1}, "time: -1 µs lies outside the years 1970 to 9999"),
    ({"time": 2**62}, "lies outside the years 1970 to 9999; pass microseconds UTC"),
    ({"time": datetime(1969, 12, 31, tzinfo=UTC)}, "lies outside the years 1970 to 9999"),
    ({"session": ""}, "session: is empty"),
    ({"session": 5}, "session: int is not text"),
    ({"subject": "x" * 257}, "subject: is 257 characters; at most 256 bytes are kept"),
    ({"subject": "\x1b"}, "subject: '\\x1b' holds a control character"),
    ({"key": ""}, "key: is empty"),
    ({"key": 5}, "key: int is not text; pass a str"),
    ({"attributes": [("a", "b")]}, "attributes: list is not a mapping; pass a dict"),
    ({"attributes": "a=b"}, "attributes: str is not a mapping; pass a dict"),
    ({"attributes": {"a": 1}}, "attributes.a: int is not text; pass a str"),
    ({"attributes": {"a": None}}, "attributes.a: NoneType is not text; pass a str"),
    ({"attributes": {"a": ["b"]}}, "attributes.a: list is not text; pass a str"),
    ({"attributes": {1: "a"}}, "attributes: int is not text; pass a str"),
    ({"attributes": {"": "a"}}, "attributes: is empty"),
    ({"attributes": {"a\x00": "a"}}, "attributes: 'a\\x00' holds a control character"),
    ({"attributes": {"n" * 65: "a"}}, "attributes: is 65 characters; at most 64 bytes are kept"),
    ({"attributes": {"a": "v" * 1025}}, "attributes.a: is 1025 characters; at most 1024 bytes"),
    ({"attributes": {"a": "\udfff"}}, "attributes.a: '\\udfff' holds a lone surrogate"),
    ({"attributes": {str(n): "" for n in range(33)}}, "attributes: 33 of them; at most 32"),
    (
        {"attributes": {str(n): "v" * 1000 for n in range(16)}},
        "attributes: are 16072 bytes together; at most 15000 are kept",
    ),
]


@pytest.mark.parametrize(
    ("wrong", "words"),
    WRONG,
    ids=[f"{number} {words[:30]}" for number, (_, words) in enumerate(WRONG)],
)
def test_a_wrong_argument_says_so_in_strict_and_is_counted_otherwise(
    make_meter: MakeMeter, wrong: dict[str, Any], words: str
) -> None:
    """Strict raises the field, what is wrong and what to do; the default counts and goes on."""
    strict, lenient = make_meter(strict=True), make_meter()

    with pytest.raises(InvalidEvent) as refusal:
        strict.record(**(GOOD | wrong))
    assert words in str(refusal.value)
    assert refusal.value.field == words.partition(":")[0] or refusal.value.field in wrong

    assert lenient.record(**(GOOD | wrong)) is False
    for meter in (strict, lenient):
        status = meter.status()
        assert status.dropped == {"invalid": 1}
        assert words in str(status.last_error)
        assert status.recorded == 0
        assert meter._intake.numbering.spent() == 0, "a refused event has no number"


def test_everything_allowed_arrives_as_it_was_given(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Subclasses of text, other mappings, zones, Decimals and the limits themselves are fine."""
    meter = make_meter(strict=True)
    zone = timezone(timedelta(hours=5, minutes=30))

    assert meter.record(
        Plan.GOLD,
        tenant="é" * 64,
        quantity=Decimal("-12.50"),
        time=datetime(2026, 1, 1, 5, 30, 0, 1, tzinfo=zone),
        session="s" * 256,
        subject="u",
        attributes=UserDict({"plan": Plan.GOLD, "empty": "", "tab": "\t", "long": "v" * 1024}),
        key="k",
    )
    assert meter.flush(10)

    (event,) = arrived(transport)
    assert event.type == "gold"
    assert event.tenant == "é" * 64
    assert (event.quantity, event.scale) == (-125, 1)
    assert event.time == 1_767_225_600_000_001
    assert event.session == "s" * 256
    assert event.attributes == {"plan": "gold", "empty": "", "tab": "\t", "long": "v" * 1024}
    assert event.key == "k"


def test_attributes_changed_after_the_call_do_not_change_the_event(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """The event holds what was passed at the moment of the call."""
    meter = make_meter(strict=True)
    attributes = {"route": "/pay"}

    meter.record("a", tenant="t", attributes=attributes)
    attributes["route"] = "/other"
    meter.record("a", tenant="t", attributes=attributes)
    assert meter.flush(10)

    assert [event.attributes for event in arrived(transport)] == [
        {"route": "/pay"},
        {"route": "/other"},
    ]


OBJECTS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.decimals()
    | st.datetimes()
    | st.lists(st.integers(), max_size=3)
    | st.dictionaries(st.text() | st.integers(), st.text() | st.none(), max_size=3)
    | st.builds(object)
    | st.builds(Hostile)
    | st.builds(Impostor)
    | st.builds(MagicMock)
    | st.builds(MagicMock, spec=st.sampled_from((str, int, dict, datetime)))
    | st.functions(like=lambda: None)
    | st.just(type)
)
FIELDS = ("type", "tenant", "quantity", "time", "session", "subject", "attributes", "key")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.dictionaries(st.sampled_from(FIELDS), OBJECTS, max_size=4))
def test_no_object_whatever_makes_record_raise(wrong: dict[str, Any]) -> None:
    """Arbitrary objects in any arguments: True or False comes back, and every True is delivered."""
    transport = MemoryTransport()
    meter = Meter(transport=transport)

    taken = meter.record(**(GOOD | wrong))
    again = meter.record("api.request", tenant="acme")
    started = meter.session_start(
        **({"session": "s"} | GOOD | {k: v for k, v in wrong.items() if k != "quantity"})
    )
    meter.close(10)

    assert taken in {True, False}
    assert again is True
    events = arrived(transport)
    assert len(events) == taken + again + started
    status = meter.status()
    assert status.acknowledged == len(events)
    assert status.failed == 0


def test_a_session_without_an_id_is_refused(make_meter: MakeMeter) -> None:
    """An explicit boundary needs the id it belongs to."""
    meter = make_meter(strict=True)

    with pytest.raises(InvalidEvent, match="session: is missing; pass the session's id"):
        meter.session_start("agent.run", tenant="acme", session=None)  # type: ignore[arg-type]  # wrong


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"overflow": "explode"}, "overflow: 'explode' is none of"),
        ({"buffer_events_max": 0}, "buffer_events_max: 0 is not positive"),
        ({"heartbeat_seconds": -1}, "heartbeat_seconds: -1 is not positive"),
        ({"mark_seconds": 0.0}, "mark_seconds: 0.0 is not positive"),
        (
            {"transport": None, "kafka_settings": {"enable.idempotence": False}},
            "kafka_settings: enable.idempotence cannot be set; remove it",
        ),
    ],
)
def test_a_wrong_setting_is_refused_at_construction(
    make_meter: MakeMeter, setting: dict[str, Any], words: str
) -> None:
    """A meter that could not keep its promises is not made."""
    with pytest.raises(ValueError, match=words):
        make_meter(**setting)
