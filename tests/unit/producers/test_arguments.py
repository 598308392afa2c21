"""What `record` and a meter take, and how it arrives; what they do not take: `test_bad_input`."""

from __future__ import annotations

from collections import UserDict
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import pytest

from meterstream import InvalidEvent, Meter
from meterstream.memory import MemoryTransport
from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from tests.unit.producers.conftest import MakeMeter


class Plan(StrEnum):
    """A text of a caller's own type."""

    GOLD = "gold"


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


def test_a_session_without_an_id_is_refused(make_meter: MakeMeter) -> None:
    """An explicit boundary needs the id it belongs to."""
    meter = make_meter(strict=True)

    with pytest.raises(InvalidEvent, match="session: is missing; pass the session's id"):
        meter.session_start("agent.run", tenant="acme", session=None)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"overflow": "explode"}, "overflow: 'explode' is none of"),
        ({"buffer_events_max": 0}, "buffer_events_max: 0 is not positive"),
        ({"heartbeat_seconds": -1}, "heartbeat_seconds: -1 is not positive"),
        ({"mark_seconds": 0.0}, "mark_seconds: 0.0 is not positive"),
        ({"close_seconds": "1"}, "close_seconds: '1' is not a number"),
        ({"block_seconds": -1}, "block_seconds: -1 is negative"),
        ({"buffer_events_max": float("nan")}, "buffer_events_max: nan is not a number"),
        (
            {"durability": "spool", "spool": "s", "spool_bytes_max": "1GB"},
            "spool_bytes_max: '1GB' is not a number",
        ),
        ({"bootstrap_servers": ["a:9092"]}, "bootstrap_servers: list is not text; pass 'host:port"),
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


def test_a_wait_is_a_number(make_meter: MakeMeter) -> None:
    """Text from an environment variable is told as such, and not by a fault further down."""
    meter = make_meter()
    text: Any = "5"

    with pytest.raises(ValueError, match="timeout: '5' is not a number"):
        meter.flush(text)
    with pytest.raises(ValueError, match="timeout: '5' is not a number"):
        meter.close(text)


def test_settings_of_the_client_may_stand_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Arguments win; what the promises rest on cannot be changed there either."""
    monkeypatch.setenv("METERSTREAM_KAFKA_SASL_USERNAME", "env")
    monkeypatch.setenv("METERSTREAM_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")

    meter = Meter(bootstrap_servers="127.0.0.1:1", kafka_settings={"sasl.username": "argument"})

    transport: Any = meter._policy.transport
    assert transport._settings == {"sasl.username": "argument", "security.protocol": "SASL_SSL"}
    monkeypatch.setenv("METERSTREAM_KAFKA_ENABLE_IDEMPOTENCE", "false")
    with pytest.raises(ValueError, match=r"enable\.idempotence cannot be set"):
        Meter(bootstrap_servers="127.0.0.1:1")
