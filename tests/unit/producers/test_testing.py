"""The meter for a host's own tests: what it keeps, what it asserts and what it says."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

import meterstream
from meterstream import InvalidEvent, Meter
from meterstream.memory import MemoryTransport
from meterstream.testing import ANY, EventKind, RecordingMeter, as_default_meter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meterstream import Outcome

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def meter() -> Iterator[RecordingMeter]:
    """A recording meter, made without the plugin."""
    with RecordingMeter() as made:
        yield made


def test_an_event_is_there_at_once_with_all_that_was_said(meter: RecordingMeter) -> None:
    """Reading waits for the background thread, so no test has to."""
    meter.record(
        "order.paid",
        tenant="acme",
        quantity="19.90",
        time=NOON,
        session="s",
        subject="u",
        attributes={"currency": "EUR"},
        key="k",
    )

    (event,) = meter.events
    assert event == (
        "order.paid", "acme", Decimal("19.9"), {"currency": "EUR"}, "s", "u", "k", NOON,
        EventKind.USAGE,
    )  # fmt: skip


def test_events_come_in_the_order_of_the_calls(meter: RecordingMeter) -> None:
    """However many partitions their tenants are spread over."""
    for number in range(200):
        meter.record("call", tenant=f"tenant {number % 17}", quantity=number)

    assert [int(event.quantity) for event in meter.events] == list(range(200))


def test_wrong_arguments_raise(meter: RecordingMeter) -> None:
    """A test is where a wrong argument should be seen."""
    with pytest.raises(InvalidEvent, match="tenant"):
        meter.record("call")


def test_the_message_shows_near_misses_first(meter: RecordingMeter) -> None:
    """Each with what is other than wanted."""
    meter.record("other", tenant="globex", quantity=9, time=NOON)
    meter.record("call", tenant="acme", quantity=2, time=NOON, attributes={"model": "small"})

    with pytest.raises(AssertionError) as problem:
        meter.assert_recorded("call", tenant="acme", quantity=3, attributes={"model": "large"})

    assert str(problem.value) == (
        "expected once, recorded never: 'call' with tenant='acme', quantity=3, "
        "attributes={'model': 'large'}\n"
        "2 recorded, the nearest first:\n"
        "  call tenant='acme' quantity=2 attributes={'model': 'small'} "
        "time=2026-03-01T12:00:00+00:00"
        "  <- quantity is 2, not 3; attributes.model is 'small', not 'large'\n"
        "  other tenant='globex' quantity=9 time=2026-03-01T12:00:00+00:00"
        "  <- type is 'other', not 'call'; tenant is 'globex', not 'acme'; quantity is 9, not 3;"
        " attributes.model is absent, not 'large'"
    )


def test_the_message_tells_what_was_not_taken() -> None:
    """An event that is missing may have been refused."""
    with RecordingMeter(strict=False) as meter:
        meter.record("call", tenant="")

        with pytest.raises(AssertionError, match=r"nothing was recorded\nnot taken: 1 invalid"):
            meter.assert_recorded("call")


def test_the_message_tells_of_events_that_went_to_the_default_meter() -> None:
    """Of those since the recording meter was made, where none that fits came to it."""
    with Meter(transport=MemoryTransport()) as usual, as_default_meter(usual):
        meterstream.record("call", tenant="acme")
        with RecordingMeter() as meter:
            with pytest.raises(AssertionError) as before:
                meter.assert_recorded("call")
            meterstream.record("call", tenant="acme")
            with pytest.raises(AssertionError) as after:
                meter.assert_recorded("call")
            meter.record("call", tenant="acme")
            with pytest.raises(AssertionError) as unwanted:
                meter.assert_not_recorded()

    assert str(before.value).endswith("nothing was recorded")
    assert str(after.value).endswith(
        "\nmeanwhile the default meter took 1 of its own; for code that uses meterstream.record "
        "and the like, take the fixture meterstream_default"
    )
    assert "meanwhile" not in str(unwanted.value)


def test_many_events_are_not_all_shown(meter: RecordingMeter) -> None:
    """Ten, and how many more."""
    for _ in range(25):
        meter.record("call", tenant="acme")

    with pytest.raises(AssertionError, match=r"recorded 25 times[^$]*and 15 more"):
        meter.assert_recorded("call")


def test_once_means_once(meter: RecordingMeter) -> None:
    """What is charged twice fails, unless any number is right."""
    meter.record("call", tenant="acme")
    meter.record("call", tenant="acme")

    assert len(meter.assert_recorded("call", times=2)) == 2
    assert len(meter.assert_recorded("call", times=None)) == 2
    meter.assert_recorded("never", times=0)
    with pytest.raises(AssertionError, match="expected once, recorded 2 times"):
        meter.assert_recorded("call")
    with pytest.raises(AssertionError, match="at least once"):
        meter.assert_recorded("never", times=None)


def test_fields_may_be_wanted_by_value_absence_or_judgement(meter: RecordingMeter) -> None:
    """ANY is the default; None is none; a function judges."""
    meter.record("call", tenant="acme", quantity=5, time=NOON, attributes={"a": "1", "b": "2"})

    meter.assert_recorded("call", subject=None, session=ANY, key=None, time=NOON)
    meter.assert_recorded("call", quantity=Decimal("5.00"), attributes={"a": "1", "c": None})
    meter.assert_recorded("call", quantity="5", time=int(NOON.timestamp() * 1_000_000))
    meter.assert_recorded("call", quantity=lambda amount: amount > 4, tenant=str.islower)
    meter.assert_not_recorded("call", subject="u")
    meter.assert_not_recorded("call", attributes={"a": None})
    meter.assert_not_recorded("call", attributes=lambda names: "c" in names)


def test_what_no_event_can_have_is_a_mistake_of_the_test(meter: RecordingMeter) -> None:
    """Floats, naive times and unknown fields are refused with what to write."""
    with pytest.raises(TypeError, match=r"write Decimal\('2.5'\)"):
        meter.assert_recorded("call", quantity=2.5)
    with pytest.raises(TypeError, match="has no zone"):
        meter.assert_recorded("call", time=datetime(2026, 3, 1))  # noqa: DTZ001 - what is tested
    with pytest.raises(TypeError, match="has no 'tenants'"):
        meter.assert_not_recorded("call", tenants="acme")


def test_nothing_recorded_can_be_asserted(meter: RecordingMeter) -> None:
    """Without arguments any event at all fails it."""
    meter.assert_not_recorded()
    meter.session_start("vm", tenant="acme", session="s", subject="vm-1")

    with pytest.raises(AssertionError, match="any event"):
        meter.assert_not_recorded()
    with pytest.raises(AssertionError, match="SESSION_START"):
        meter.assert_not_recorded("vm")


def test_voids_are_of_their_own_kind(meter: RecordingMeter) -> None:
    """`assert_recorded` asks for usage unless told otherwise."""
    meter.void("call", tenant="acme", key="k", time=NOON)

    meter.assert_recorded("call", kind=EventKind.VOID, key="k")
    with pytest.raises(AssertionError, match="kind is VOID, not USAGE"):
        meter.assert_recorded("call")


def test_clear_forgets(meter: RecordingMeter) -> None:
    """What comes afterwards is kept."""
    meter.record("before", tenant="acme")
    meter.clear()
    meter.record("after", tenant="acme")

    assert [event.type for event in meter.events] == ["after"]


def test_sessions_are_told_by_their_boundaries() -> None:
    """Open ones have no end."""
    with RecordingMeter(heartbeat_seconds=3600) as meter:
        with meter.session("vm", tenant="acme", subject="vm-1", attributes={"size": "xl"}) as block:
            block.heartbeat()
            meter.record("call", tenant="acme")
        meter.session_start("vm", tenant="acme", session="s", subject="vm-2", time=NOON)

        closed, still_open = meter.sessions()

    assert (closed.id, closed.subject, closed.attributes) == (block.id, "vm-1", {"size": "xl"})
    assert closed.heartbeats == 1
    assert closed.start is not None
    assert closed.end is not None
    assert closed.start <= closed.end
    assert still_open == ("s", "vm", "acme", "vm-2", {}, NOON, None, 0)


def test_what_coalescing_holds_is_recorded_first(meter: RecordingMeter) -> None:
    """A sum is there as soon as it is asked for."""
    for _ in range(1_000):
        meter.record("hit", tenant="acme", quantity=2, coalesce=60)

    assert meter.total("hit", tenant="acme") == 2_000
    assert sum(int(event.attributes["events"]) for event in meter.events) == 1_000


def test_every_thread_and_task_is_heard(meter: RecordingMeter) -> None:
    """Eight threads and a loop, each with its own tenant."""

    async def task(number: int) -> None:
        await asyncio.sleep(0)
        meter.record("task", tenant=f"tenant {number}")

    async def tasks() -> None:
        await asyncio.gather(*(task(number) for number in range(50)))
        assert len(meter.assert_recorded("task", times=50)) == 50

    def work(number: int) -> None:
        for _ in range(100):
            meter.record("work", tenant=f"tenant {number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(tasks())

    for number in range(8):
        meter.assert_recorded("work", tenant=f"tenant {number}", times=100)


def test_outcomes_are_told() -> None:
    """Code that waits for them can be tested, too."""
    outcomes: list[Outcome] = []
    with RecordingMeter(on_outcome=outcomes.append) as meter:
        meter.record("call", tenant="acme", key="k")

        meter.assert_recorded("call", key="k")
        assert [(outcome.key, outcome.offset) for outcome in outcomes] == [("k", 0)]


def test_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither registry nor spool nor broker of a developer's shell is touched."""
    monkeypatch.setenv("METERSTREAM_REGISTRY_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("METERSTREAM_DURABILITY", "spool")
    monkeypatch.setenv("METERSTREAM_SPOOL", "/nowhere/at/all")
    monkeypatch.setenv("METERSTREAM_GATEWAY_URL", "http://127.0.0.1:9/")

    with RecordingMeter() as meter:
        meter.record("call", tenant="acme")

        meter.assert_recorded("call")
        assert meter.status().spooled == 0


def test_a_closed_meter_still_tells(meter: RecordingMeter) -> None:
    """What was recorded is asked for after the code under test closed it."""
    meter.record("call", tenant="acme")
    meter.close(5)

    meter.assert_recorded("call")


def test_the_default_meter_is_replaced_and_put_back() -> None:
    """The former one is the default again, and was not closed."""
    with Meter(transport=MemoryTransport()) as former, as_default_meter(former):
        with RecordingMeter() as meter, as_default_meter(meter):
            meterstream.record("call", tenant="acme")
            meter.assert_recorded("call")
        assert meterstream.default_meter() is former
        assert meterstream.record("call", tenant="acme")
    assert meterstream.default._held.get("default") is not former
