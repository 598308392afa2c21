"""Coalescing: sums and counts are those of the calls, whatever happens meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream import InvalidEvent, Meter, MeterClosed, coalescing, counting, summing
from meterstream.memory import MemoryTransport
from meterstream_schemas.events import QUANTITY_MAX, QUANTITY_MIN
from meterstream_schemas.quantity import to_decimal
from tests.unit.producers.reading import arrived
from tests.waiting import eventually

if TYPE_CHECKING:
    from meterstream_schemas.events import MeterEvent
    from tests.unit.producers.conftest import MakeMeter

MINUTE = 60 * 10**6
START = 29_000_000 * MINUTE
"""A whole UTC minute, in microseconds."""


class Clock:
    """A wall clock that goes where it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.microseconds = START
        for module in (coalescing, counting, summing):
            monkeypatch.setattr(module, "time_ns", lambda: self.microseconds * 1000)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """At a whole minute."""
    return Clock(monkeypatch)


def amount(event: MeterEvent) -> Decimal:
    """The event's quantity."""
    return to_decimal(event.quantity, event.scale)


def count(event: MeterEvent) -> int:
    """How many calls the event stands for."""
    return int(event.attributes["events"])


def test_equal_calls_become_one_event(
    make_meter: MakeMeter, transport: MemoryTransport, clock: Clock
) -> None:
    """Their exact sum, their exact number, and the time of the first."""
    meter = make_meter(strict=True)

    for quantity in (2, Decimal("0.5"), "1.25"):
        clock.microseconds += 100_000
        assert meter.record("call", tenant="t", quantity=quantity, coalesce=1)
    assert meter.flush(5)

    (event,) = arrived(transport)
    assert (amount(event), event.attributes) == (Decimal("3.75"), {"events": "3"})
    assert event.time == START + 100_000


def test_whatever_differs_keeps_calls_apart(
    make_meter: MakeMeter, transport: MemoryTransport, clock: Clock
) -> None:
    """Type, tenant, subject, session, attributes and interval are all part of the key."""
    meter = make_meter(strict=True)
    base: dict[str, Any] = {"type": "call", "tenant": "t", "coalesce": 1}
    others: list[dict[str, Any]] = [
        {"type": "other"},
        {"tenant": "u"},
        {"subject": "s"},
        {"session": "s"},
        {"attributes": {"a": "1"}},
        {"coalesce": 2},
    ]

    for other in ({}, *others, {}):
        meter.record(**(base | other))
    meter.record(**base, attributes={})
    meter.record("two", tenant="t", attributes={"a": "1", "b": "2"}, coalesce=1)
    meter.record("two", tenant="t", attributes={"b": "2", "a": "1"}, coalesce=1)
    meter.flush(5)

    assert sorted(map(count, arrived(transport))) == [1] * len(others) + [2, 3]


def test_intervals_begin_at_minutes_and_never_cross_one(
    make_meter: MakeMeter, transport: MemoryTransport, clock: Clock
) -> None:
    """Of 25 seconds: 0 to 25, 25 to 50, 50 to 60, and anew."""
    meter = make_meter(strict=True)

    for second in (0, 24, 25, 49, 50, 59, 60, 84):
        clock.microseconds = START + second * 10**6
        meter.record("call", tenant="t", coalesce=25)
    meter.flush(5)

    begins = sorted((event.time - START) // 10**6 for event in arrived(transport))
    assert begins == [0, 25, 50, 60]


def test_sums_are_recorded_by_themselves_when_their_interval_is_over(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Nobody flushes; the background thread does it."""
    meter = make_meter()

    meter.record("call", tenant="t", coalesce=0.05)

    eventually(lambda: len(arrived(transport)) == 1)
    eventually(lambda: meter.coalesced().keys == 0)


def test_a_clock_set_back_holds_nothing_back(
    make_meter: MakeMeter, transport: MemoryTransport, clock: Clock
) -> None:
    """A sum is overdue by the monotonic clock, too."""
    meter = make_meter()
    meter.record("call", tenant="t", coalesce=0.05)

    clock.microseconds -= 3600 * 10**6

    eventually(lambda: len(arrived(transport)) == 1)


def test_close_records_what_is_held_and_counts_what_comes_later(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Nothing disappears unseen: not before, not after."""
    meter = make_meter()
    hot = meter.counter("call", tenant="t", coalesce=60)
    hot.add(5)

    assert meter.close(5)

    assert [amount(event) for event in arrived(transport)] == [5]
    assert not hot.add()
    assert not meter.record("call", tenant="t", coalesce=60)
    assert meter.status().dropped == {"closed": 2}
    strict = make_meter(strict=True)
    strict.close(5)
    with pytest.raises(MeterClosed):
        strict.record("call", tenant="t", coalesce=1)


def test_a_call_of_its_own_is_refused(make_meter: MakeMeter) -> None:
    """What a sum cannot stand for, and what cannot be a key."""
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"time": 5}, "time: cannot be given with coalesce"),
        ({"key": "k"}, "key: cannot be given with coalesce"),
        ({"coalesce": 0}, "coalesce: 0 is not within 0.001 and 60; pass seconds"),
        ({"coalesce": 61.0}, "coalesce: 61.0 is not within"),
        ({"coalesce": float("nan")}, "coalesce: nan is not within"),
        ({"coalesce": "1"}, "coalesce: str is not a number of seconds"),
        ({"tenant": None}, "tenant: is missing; pass tenant=... or use meter.context"),
        ({"quantity": 0.5}, "quantity: 0.5 is a float"),
        ({"quantity": 2**63}, "quantity: an integer of 64 bits does not fit"),
        ({"attributes": {"events": "1"}}, "attributes.events: is told by coalesce itself"),
        ({"attributes": {f"a{n}": "" for n in range(32)}}, "with coalesce at most 31"),
        ({"attributes": {"a": ["b"]}}, "attributes.a: list is not text; pass a str"),
        ({"attributes": 5}, "attributes: int is not a mapping; pass a dict"),
    ]
    strict, lenient = make_meter(strict=True), make_meter()

    for arguments, message in wrong:
        call: dict[str, Any] = {"type": "call", "tenant": "t", "coalesce": 1} | arguments
        with pytest.raises(InvalidEvent) as caught:
            strict.record(**call)
        assert message in str(caught.value)
        assert lenient.record(**call) is False
    assert lenient.status().dropped == {"invalid": len(wrong)}


def test_sums_leave_before_they_overflow(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """Each within 64 bits; together they are exact."""
    meter = make_meter(strict=True)
    amounts: list[int | Decimal] = [QUANTITY_MAX, QUANTITY_MAX, 1, QUANTITY_MIN, Decimal("1e-18")]

    for quantity in amounts:
        meter.record("call", tenant="t", quantity=quantity, coalesce=60)
    meter.flush(5)

    events = arrived(transport)
    assert sum(Fraction(amount(event)) for event in events) == sum(map(Fraction, amounts))
    assert sum(map(count, events)) == len(amounts)


def test_keys_are_bounded(
    make_meter: MakeMeter, transport: MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls beyond are recorded by themselves and counted."""
    monkeypatch.setattr(coalescing, "KEYS_MAX", 2)
    meter = make_meter(strict=True)

    for tenant in "abcab":
        meter.record("call", tenant=tenant, coalesce=60)
    meter.record("call", tenant="a", coalesce=60, attributes={"a": "x" * 1_024})
    beyond = meter.counter("call", tenant="d", coalesce=60)
    beyond.add(Decimal("0.5"))
    meter.flush(5)

    assert Counter(map(count, arrived(transport))) == {2: 2, 1: 3}
    assert meter.coalesced() == (2, 3)


def test_counts_are_exact_under_threads(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """Eight of them, two keys, while another flushes and intervals end."""
    meter = make_meter(strict=True)
    hot = meter.counter("call", tenant="t", coalesce=0.01)
    calls, done = 5_000, threading.Event()

    def work() -> None:
        for number in range(calls):
            hot.add()
            if not number % 5:
                meter.record("other", tenant="t", quantity=2, coalesce=0.02)

    def disturb() -> None:
        while not done.is_set():
            meter.flush(1)

    workers = [threading.Thread(target=work) for _ in range(8)]
    disturber = threading.Thread(target=disturb)
    for thread in (disturber, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    done.set()
    disturber.join()
    assert meter.close(10)

    by_type: Counter[str] = Counter()
    for event in arrived(transport):
        by_type[event.type] += event.quantity
        by_type[f"{event.type} count"] += count(event)
    assert by_type == {
        "call": 8 * calls,
        "call count": 8 * calls,
        "other": 8 * calls // 5 * 2,
        "other count": 8 * calls // 5,
    }


def test_a_signal_handler_may_count_and_flush_at_any_moment(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Amid a call, a flush or the emptying of a queue."""
    meter = make_meter()
    hot = meter.counter("call", tenant="t", coalesce=0.02)
    handled = 0

    def handle(*_: object) -> None:
        nonlocal handled
        handled += 1
        hot.add()
        meter.flush(0)
        signal.setitimer(signal.ITIMER_REAL, 0.0005)  # Once each, so that handlers never nest.

    former = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005)
    try:
        for number in range(20_000):
            hot.add()
            if not number % 1_000:
                meter.flush(1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert meter.close(10)

    assert handled
    assert sum(map(count, arrived(transport))) == 20_000 + handled


def test_the_child_of_a_fork_forgets_the_parents_sums() -> None:
    """And counts its own with the same counter."""
    transport = MemoryTransport()
    meter = Meter("test", transport=transport)
    hot = meter.counter("call", tenant="t", coalesce=60)
    hot.add(7)

    child = os.fork()
    if not child:
        code = 1
        try:
            hot.add(2)
            closed = meter.close(5)
            code = 0 if closed and [amount(event) for event in arrived(transport)] == [2] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    assert meter.close(5)
    assert [amount(event) for event in arrived(transport)] == [7]


def test_a_long_queue_is_emptied_by_the_caller(
    make_meter: MakeMeter, transport: MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the background thread does not come to it."""
    monkeypatch.setattr(coalescing, "QUEUE_MAX", 10)
    meter = make_meter(strict=True)
    sums = coalescing.sums_of(meter.current())
    key = sums.find(60, "call", "t", None, None, None)
    assert key is not None

    for _ in range(25):
        sums.put(key, 1)

    assert len(key.queue) <= 10
    meter.flush(5)
    assert sum(map(count, arrived(transport))) == 25


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("call"),
            st.sampled_from(["a", "b"]),
            st.one_of(
                st.integers(QUANTITY_MIN, QUANTITY_MAX),
                st.integers(-5, 5),
                st.decimals(-1000, 1000, places=3),
            ),
            st.sampled_from([0.5, 7, 60]),
        ),
        st.tuples(st.just("pass"), st.integers(-90 * 10**6, 90 * 10**6)),
        st.tuples(st.just("flush")),
        st.tuples(st.just("due")),
    ),
    max_size=40,
)


@given(steps=STEPS)
def test_sums_and_counts_are_those_of_direct_records(steps: list[tuple[Any, ...]]) -> None:
    """For any calls, any times, a clock that jumps, and any moments of recording."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock, transport = Clock(monkeypatch), MemoryTransport()
        meter = Meter("test", transport=transport, strict=True)
        sums = coalescing.sums_of(meter.current())
        expected: dict[tuple[str, int], tuple[Decimal, int]] = {}
        for step, *told in steps:
            if step == "call":
                tenant, quantity, seconds = told
                assert meter.record("call", tenant=tenant, quantity=quantity, coalesce=seconds)
                place = (tenant, clock.microseconds // MINUTE)
                total, calls = expected.get(place, (Decimal(0), 0))
                expected[place] = (total + Decimal(quantity), calls + 1)
            elif step == "pass":
                clock.microseconds = max(START, clock.microseconds + told[0])
            elif step == "flush":
                meter.flush(5)
            else:
                sums.due(float("inf"))
        assert meter.close(5)

        found: dict[tuple[str, int], tuple[Decimal, int]] = {}
        for event in arrived(transport):
            place = (event.tenant, event.time // MINUTE)
            total, calls = found.get(place, (Decimal(0), 0))
            found[place] = (total + amount(event), calls + count(event))
        assert found == expected
