"""What the SDK must not do to its host: start early, deadlock, or run on the host's locks."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from meterstream import Meter, processes
from meterstream.memory import MemoryTransport
from tests.unit.producers.reading import arrived, numbers

if TYPE_CHECKING:
    from types import FrameType

    from tests.unit.producers.conftest import MakeMeter


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers that send signals")
def test_a_signal_handler_may_record_and_flush_at_any_moment(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """A handler that interrupts record() neither deadlocks nor spoils a number."""
    meter = make_meter()
    handled = 0

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        nonlocal handled
        handled += 1
        assert meter.record("signal", tenant="t")
        meter.flush(0)

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    recorded = 0
    try:
        while handled < 200:
            assert meter.record("main", tenant="t")
            recorded += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert meter.flush(60)
    ((_, sequence),) = numbers(arrived(transport)).items()
    assert sorted(sequence) == list(range(1, recorded + handled + 1))


def test_a_finalizer_may_record(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """Objects that record when they are collected, in the middle of another record."""
    meter = make_meter()

    class Dying:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            meter.record("a", tenant="t")

    for _ in range(300):
        Dying()
        meter.record("a", tenant="t", attributes={"k": "v"})
    gc.collect()

    assert meter.flush(30)
    assert len(arrived(transport)) == 600


def test_the_first_event_may_come_while_threading_is_locked(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """A host interrupted inside Thread.start() holds a lock that the SDK must not want."""
    meter = make_meter()

    with threading._active_limbo_lock:  # type: ignore[attr-defined]  # not public
        assert meter.record("a", tenant="t")
        assert meter.flush(30)
    assert len(arrived(transport)) == 1


def test_a_meter_without_a_reference_delivers_and_may_be_collected_after_close() -> None:
    """Dropping the meter drops no event; a closed one leaves nothing behind."""
    transport = MemoryTransport()
    Meter(transport=transport).record("a", tenant="t")
    gc.collect()

    (kept,) = [
        resident
        for resident in processes._kept.values()
        if isinstance(resident, Meter) and resident._policy.transport is transport
    ]
    assert kept.close(30)
    assert len(arrived(transport)) == 1
    assert kept not in processes._kept.values()


def test_a_missing_client_is_told_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever connecting raises becomes a sentence, with pauses between attempts."""
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    meter = Meter(bootstrap_servers="127.0.0.1:1")
    meter.record("a", tenant="t")

    assert meter.flush(0.5) is False
    assert "events wait in the buffer: ModuleNotFoundError" in str(meter.status().last_error)
    assert meter.close(timeout=0.1) is False


def test_repr_names_the_incarnation_and_nothing_secret(make_meter: MakeMeter) -> None:
    """What lands in a host's logs is harmless."""
    meter = Meter(
        bootstrap_servers="broker:9092",
        registry_url="http://user:hush@registry",
        kafka_settings={"sasl.password": "hush"},
    )

    assert repr(meter) == f"<Meter {meter.producer}>"
    meter.close()
    assert repr(meter) == f"<Meter {meter.producer} closed>"
