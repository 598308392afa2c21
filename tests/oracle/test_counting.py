"""The oracle against examples worked by hand: numbers, keys, refusals, filters and amounts."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from meterstream_schemas.events import EventKind, MeterEvent
from tests.oracle.catalogue import read_catalogue
from tests.oracle.counting import Answer, LogRecord, Refusal, UsageKey, count
from tests.oracle.judging import plain_decimal

SINCE = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
MINUTE = 60_000_000
HOUR = 60 * MINUTE
CATALOGUE = """
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: calls, type: call, aggregate: count, group_by: [route], window: 1m}
  - {name: bytes, type: call, aggregate: sum, value: attributes.bytes, window: 15m}
  - {name: spent, type: spend, aggregate: sum, where: {env: [prod, canary]}, window: 1h}
  - {name: least, type: spend, aggregate: min, window: 1h}
  - {name: most, type: spend, aggregate: max, window: 1h}
"""


def event(sequence: int = 0, **changes: object) -> MeterEvent:
    """A call of tenant a at the first instant of metering, numbered by producer p."""
    plain = MeterEvent(
        kind=EventKind.USAGE,
        tenant="a",
        type="call",
        time=SINCE,
        quantity=1,
        scale=0,
        session=None,
        subject=None,
        attributes={},
        producer="p" if sequence else "",
        lane=7 if sequence else 0,
        sequence=sequence,
        key=None,
    )
    fields: dict[str, Any] = {**plain._asdict(), **changes}
    return MeterEvent(**fields)


def log(*events: MeterEvent, append_time: int = SINCE) -> Answer:
    """Count events that stand in one partition, appended at one moment."""
    return count(
        CATALOGUE, [LogRecord(0, offset, append_time, each) for offset, each in enumerate(events)]
    )


def test_catalogue_defaults_are_those_of_the_design() -> None:
    """A meter that says only its name and aggregate reads its own name, quantity, 15 minutes."""
    text = "{metering_since: '2026-01-01T01:00:00+01:00', meters: [{name: x, aggregate: sum}]}"

    catalogue = read_catalogue(text)

    assert catalogue.metering_since == SINCE
    assert catalogue.meters[0].type == "x"
    assert catalogue.meters[0].value_attribute is None
    assert catalogue.meters[0].window == 15 * MINUTE


def test_counts_by_group_and_window() -> None:
    """Two routes in one minute and one call in the next are three figures."""
    answer = log(
        event(1, attributes={"route": "/x"}),
        event(2, attributes={"route": "/x"}, time=SINCE + MINUTE - 1),
        event(3, attributes={"route": "/x"}, time=SINCE + MINUTE),
        event(4),
    )

    assert answer.usage == {
        UsageKey("a", "calls", ("/x",), SINCE): (2, Fraction(2)),
        UsageKey("a", "calls", ("/x",), SINCE + MINUTE): (1, Fraction(1)),
        UsageKey("a", "calls", ("",), SINCE): (1, Fraction(1)),
    }


def test_a_number_counts_once() -> None:
    """A resent number is a duplicate; the same sequence in another lane or producer is not."""
    answer = log(event(1), event(1), event(1, lane=8), event(1, producer="q"), event(), event())

    assert answer.counted[0] == 5
    assert answer.duplicates[0] == 1
    assert answer.missing == {}


def test_holes_are_known_by_number() -> None:
    """A closing mark at 9 over numbers 2, 3 and 6 leaves 1, 4-5 and 7-9 missing."""
    answer = log(event(6), event(2), event(3), event(9, kind=EventKind.MARK, tenant="", type=""))

    assert answer.missing == {("p", 7): [(1, 1), (4, 5), (7, 9)]}
    assert answer.marks[0] == 1
    assert answer.counted[0] == 3


def test_a_refused_number_is_seen_and_may_be_mended() -> None:
    """A refused number is no hole; its mended replay counts once, and never twice."""
    answer = log(event(1, type="nobody"), event(1, type="nobody"), event(1), event(1))

    assert answer.refusals == [Refusal(0, 0, "unknown_type")]
    assert answer.counted[0] == 1
    assert answer.duplicates[0] == 2
    assert answer.missing == {}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lane": 256}, "invalid_identity"),
        ({"sequence": -1}, "invalid_identity"),
        ({"producer": "p" * 65}, "invalid_identity"),
        ({"key": ""}, "invalid_identity"),
        ({"kind": EventKind.MARK, "producer": "", "key": ""}, "invalid_identity"),
        ({"tenant": ""}, "invalid_tenant"),
        ({"tenant": "a\x00"}, "invalid_tenant"),
        ({"tenant": "é" * 65, "type": "nobody"}, "invalid_tenant"),
        ({"kind": EventKind.VOID}, "invalid_key"),
        ({"kind": EventKind.VOID, "type": "nobody"}, "unknown_type"),
        (
            {"kind": EventKind.VOID, "type": "spend", "key": "k", "attributes": {"env": "prod"}},
            "not_invertible",
        ),
        ({"kind": EventKind.UNKNOWN, "type": "nobody"}, "unknown_kind"),
        ({"type": "nobody"}, "unknown_type"),
        ({"kind": EventKind.SESSION_START, "session": "s"}, "unknown_type"),
        ({"time": SINCE - 1}, "invalid_time"),
        ({"time": SINCE + HOUR + 1}, "invalid_time"),
        ({"scale": 19}, "invalid_quantity"),
        ({"scale": -1}, "invalid_quantity"),
        ({"attributes": {"bytes": "many"}}, "invalid_quantity"),
        ({"attributes": {"bytes": ""}}, "invalid_quantity"),
    ],
)
def test_refusals(changes: dict[str, Any], reason: str) -> None:
    """Each fault of an event has its reason, and no figure comes of it."""
    answer = log(event(**{"sequence": 1, **changes}))

    assert answer.refusals == [Refusal(0, 0, reason)]
    assert answer.usage == {}


def test_one_hour_ahead_is_still_in_time() -> None:
    """The far future begins after one hour, not at it."""
    answer = log(event(1, time=SINCE + HOUR))

    assert answer.counted[0] == 1


def test_a_key_with_the_same_content_is_a_duplicate() -> None:
    """1.50 under another number or producer repeats 1.5; another tenant's key is its own."""
    first = event(1, type="spend", key="k", quantity=15, scale=1)

    answer = log(
        first,
        first._replace(sequence=2, quantity=150, scale=2),
        first._replace(producer="q"),
        first._replace(sequence=3, tenant="b"),
    )

    assert answer.counted[0] == 2
    assert answer.duplicates[0] == 2
    assert answer.usage[UsageKey("a", "most", (), SINCE)] == (1, Fraction(3, 2))


def test_a_key_with_other_content_is_a_conflict() -> None:
    """The first in the log holds the key; a refused event never held it."""
    answer = log(
        event(1, key="k", type="nobody"), event(2, key="k"), event(3, key="k", subject="u")
    )

    assert answer.counted[0] == 1
    assert answer.refusals == [Refusal(0, 0, "unknown_type"), Refusal(0, 2, "key_conflict")]


def test_sums_are_exact_over_mixed_scales() -> None:
    """0.1 + 0.02 - 3 is -2.88; the filter drops what is neither prod nor canary."""
    spend = event(type="spend", attributes={"env": "prod"})

    answer = log(
        spend._replace(quantity=1, scale=1),
        spend._replace(quantity=2, scale=2),
        spend._replace(quantity=-3, attributes={"env": "canary"}),
        spend._replace(quantity=100, attributes={"env": "test"}),
        spend._replace(quantity=50, attributes={}),
    )

    assert answer.usage == {
        UsageKey("a", "spent", (), SINCE): (3, Fraction(-288, 100)),
        UsageKey("a", "least", (), SINCE): (5, Fraction(-3)),
        UsageKey("a", "most", (), SINCE): (5, Fraction(100)),
    }


def test_an_absent_value_adds_nothing() -> None:
    """Without the attribute there is a call and no row of bytes; zero bytes are a row."""
    answer = log(event(1), event(2, attributes={"bytes": "0"}, tenant="b"))

    assert answer.usage == {
        UsageKey("a", "calls", ("",), SINCE): (1, Fraction(1)),
        UsageKey("b", "calls", ("",), SINCE): (1, Fraction(1)),
        UsageKey("b", "bytes", (), SINCE): (1, Fraction(0)),
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12.50", Fraction(25, 2)),
        ("-.5", Fraction(-1, 2)),
        ("+7.", Fraction(7)),
        ("1e3", Fraction(1000)),
        ("9223372036854775807", Fraction(2**63 - 1)),
        ("9223372036854775808", None),
        ("0.0000000000000000001", None),
        ("1_000", None),
        ("NaN", None),
        (" 1", None),
        ("٣", None),
        ("0x10", None),
        ("", None),
    ],
)
def test_plain_decimals(text: str, value: Fraction | None) -> None:
    """What counts as a plain decimal number, and what it is worth."""
    assert plain_decimal(text) == value
