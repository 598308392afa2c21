"""The oracle's ledger against examples worked by hand: lateness, VOIDs, series limits, dates."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest

from meterstream_schemas.events import EventKind
from tests.oracle.counting import Refusal
from tests.oracle.telling import DAY, HOUR, MINUTE, SINCE, event, rows, told

CALLS = "{name: calls, aggregate: count, window: 1h, grace: 10m}"
SPENT = "{name: spent, aggregate: sum, window: 1h, grace: 10m}"


def test_late_is_from_the_close_on() -> None:
    """A window of an hour with ten minutes of grace closes at 1:10; arrivals lie on that grid."""
    call = event("USAGE", "calls", MINUTE)

    answer = told(CALLS, (70 * MINUTE - 1, call), (70 * MINUTE, call), (200 * MINUTE, call))

    assert rows(answer) == {
        ("calls", "", 0, 0): (1, 1),
        ("calls", "", 0, 70 * MINUTE): (1, 1),
        ("calls", "", 0, 190 * MINUTE): (1, 1),
    }


def test_log_time_never_falls() -> None:
    """After a record at 1:10 one at 1:00 is late too."""
    call = event("USAGE", "calls", MINUTE)

    answer = told(CALLS, (70 * MINUTE, event("MARK", "", 0)), (60 * MINUTE, call))

    assert rows(answer) == {("calls", "", 0, 70 * MINUTE): (1, 1)}
    assert answer.marks[0] == 1
    assert answer.appended[0] == SINCE + 70 * MINUTE


def test_no_window_closes_before_metering_began() -> None:
    """What is from before is in time until grace after the beginning, rounded to the window."""
    text = f"{CALLS}]\naccept_from: 2025-12-01T00:00:00Z\nx: ["
    call = event("USAGE", "calls", -5 * DAY)

    answer = told(text, (10 * MINUTE - 1, call), (10 * MINUTE, call))

    assert rows(answer) == {
        ("calls", "", -5 * DAY, 0): (1, 1),
        ("calls", "", -5 * DAY, 10 * MINUTE): (1, 1),
    }
    assert told(CALLS, (0, call)).refusals == [Refusal(0, 0, "invalid_time")]


def test_an_event_and_its_void_come_to_nothing_in_any_order() -> None:
    """Counted and taken back, or neither; what repeats either is a duplicate."""
    first = event("USAGE", "spent", MINUTE, key="k", quantity=15, scale=1)
    void = first._replace(kind=EventKind.VOID, quantity=150, scale=2)

    for order in itertools.permutations([first, first, void, void]):
        answer = told(SPENT, *((n, each) for n, each in enumerate(order)))

        assert rows(answer) == {}
        assert (answer.counted[0], answer.duplicates[0]) == (2, 2)
        assert [key.state for key in answer.keys.values()] == ["VOIDED"]
    assert told(SPENT, (0, void)).awaited == 1


def test_a_void_is_late_by_its_own_arrival() -> None:
    """The closing figure stays, the adjustment takes back."""
    first = event("USAGE", "spent", MINUTE, key="k", quantity=7)
    void = first._replace(kind=EventKind.VOID)

    answer = told(SPENT, (MINUTE, first), (2 * HOUR, void))

    assert rows(answer) == {
        ("spent", "", 0, 0): (1, 7),
        ("spent", "", 0, 70 * MINUTE): (-1, -7),
    }


@pytest.mark.parametrize(
    ("void", "reason"),
    [
        ({"key": None}, "invalid_key"),
        ({"quantity": 8}, "key_conflict"),
        ({"type": "other"}, "unknown_type"),
        ({"type": "peak"}, "not_invertible"),
    ],
)
def test_voids_that_are_refused(void: dict[str, object], reason: str) -> None:
    """Without a key, with other content, of what nobody counts, out of what cannot give it back."""
    first = event("USAGE", "spent", MINUTE, key="k", quantity=7)
    wrong = first._replace(kind=EventKind.VOID)._replace(**void)  # type: ignore[arg-type] # any

    answer = told(f"{SPENT}, {{name: peak, aggregate: max}}", (0, first), (1, wrong))

    assert answer.refusals == [Refusal(0, 1, reason)]


def test_a_key_is_forgotten_after_ninety_days() -> None:
    """At its very end it is still known."""
    first = event("USAGE", "spent", MINUTE, key="k")

    at_the_end = told(SPENT, (0, first), (90 * DAY, first))
    after = told(SPENT, (0, first), (90 * DAY + 1, first))

    assert at_the_end.counted[0] == 1
    assert after.counted[0] == 2


def test_the_first_groups_have_a_series() -> None:
    """Two groups in log order, the third and the fourth share the overflow; tenants are apart."""
    text = "{name: calls, aggregate: count, group_by: [r], limits: {series_per_tenant: 2}}"
    calls = [event("USAGE", "calls", 0, attributes={"r": r}) for r in "cabac"]
    calls.append(calls[2]._replace(tenant="b"))

    answer = told(text, *((n, each) for n, each in enumerate(calls)))

    assert rows(answer) == {
        ("calls", "c", 0, 0): (2, 2),
        ("calls", "a", 0, 0): (2, 2),
        ("calls", "(overflow)", 0, 0): (1, 1),
        ("calls", "b", 0, 0): (1, 1),
    }


def test_definitions_read_by_the_time_of_the_event() -> None:
    """From 1:00 on another one counts, in windows of its own, under its own filter."""
    later = (
        "{name: calls, aggregate: count, from: 2026-01-01T01:00:00Z, where: {r: {exists: true}}}"
    )
    calls = [event("USAGE", "calls", at) for at in (HOUR - 1, HOUR)]
    calls.append(calls[1]._replace(attributes={"r": ""}))

    answer = told(f"{CALLS}, {later}", *((HOUR, each) for each in calls))

    assert [part.line.rule for part in answer.ledger.rows()] == [0, 1]
    assert set(answer.ledger.rows().values()) == {(1, Fraction(1))}


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("[x, '']", "x,-"),
        ("{not_in: [x]}", "y,-"),
        ("{not_in: [x, '']}", "y"),
        ("{exists: true}", "x,y"),
        ("{exists: false}", "-"),
        ("[{in: [x, y]}, {not_in: y}]", "x"),
    ],
)
def test_conditions(where: str, kept: str) -> None:
    """To lists an absent attribute is the empty text; several tests must all hold."""
    text = f"{{name: calls, aggregate: count, group_by: [n], where: {{r: {where}}}}}"
    calls = [
        event("USAGE", "calls", 0, attributes={"n": n} | ({"r": n} if n != "-" else {}))
        for n in "xy-"
    ]

    answer = told(text, *((0, each) for each in calls))

    assert ",".join(group for _, group, _, _ in rows(answer)) == kept


def test_a_producer_expires_and_holes_have_a_date() -> None:
    """A lane is broken from its first hole until it is whole; after 90 days nothing is heard."""
    numbered = [event("USAGE", "calls", 0, producer="p", lane=3, sequence=n) for n in (3, 1, 2, 4)]

    broken = told(CALLS, (5, numbered[0]), (6, numbered[1]))
    whole = told(CALLS, (5, numbered[0]), (6, numbered[1]), (7, numbered[2]))
    expired = told(
        CALLS, (0, numbered[1]), (90 * DAY + 1, numbered[2]), (90 * DAY + 1, numbered[2])
    )

    assert broken.producers[0, "p"].missing() == [(3, 2, 2, SINCE + 5)]
    assert whole.producers[0, "p"].missing() == []
    assert [refusal.reason for refusal in expired.refusals] == ["expired_producer"] * 2
