"""Clocks that jump, explosions of names, secrets, event loops: what a host must not notice."""

from __future__ import annotations

import asyncio
import io
import logging
import subprocess
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, Final

import pytest

from meterstream import Meter
from meterstream.intake import FRAGMENTS_CACHED, SERIES_CACHED
from meterstream.memory import MemoryTransport
from tests.unit.producers.reading import arrived, numbers
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.unit.producers.conftest import MakeMeter

YEAR_NANOSECONDS: Final = 365 * 86_400 * 10**9
SECRET: Final = "hush-Zq9-secret"
CPU_SHARE_MAX: Final = 0.5
NAMES: Final = 3 * 2 * SERIES_CACHED
"""Three times what the larger cache holds: more would only take longer."""


@pytest.mark.parametrize("years", [-40, -1, 1, 1000])
def test_a_clock_that_jumps_does_no_harm(
    make_meter: MakeMeter,
    transport: MemoryTransport,
    monkeypatch: pytest.MonkeyPatch,
    years: int,
) -> None:
    """Years forward or back between two calls: events carry the clock's time, the rest goes on."""
    meter = make_meter(mark_seconds=0.05, heartbeat_seconds=0.05)
    real, jump = time.time_ns, years * YEAR_NANOSECONDS
    session = meter.session("run", tenant="t").start()
    meter.record("a", tenant="t", quantity=1)
    assert meter.flush(30)

    monkeypatch.setattr(time, "time_ns", lambda: real() + jump)
    monkeypatch.setattr(time, "time", lambda: (real() + jump) / 1e9)
    meter.record("a", tenant="t", quantity=2)
    heartbeat = len(arrived(transport))
    eventually(lambda: len(arrived(transport)) > heartbeat + 2)
    session.end()
    assert meter.flush(30)
    assert meter.close(30)

    events = arrived(transport)
    before, after = (event.time for event in events if event.quantity)
    assert abs(after - before - jump // 1000) < YEAR_NANOSECONDS // 1000
    begun, *_, ended = (event.time for event in events if event.session)
    assert 0 <= ended - begun < YEAR_NANOSECONDS // 1000, "a session lasts as long as it lasted"
    ((_, sequence),) = numbers(events).items()
    assert sequence == list(range(1, len(events) + 1))


def test_a_clock_before_1970_loses_no_number(
    make_meter: MakeMeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such an event is refused or kept, and the meter goes on when the clock is right again."""
    meter = make_meter()
    with monkeypatch.context() as patched:
        patched.setattr(time, "time_ns", lambda: -5 * 10**9)
        taken = meter.record("a", tenant="t")

    assert meter.record("a", tenant="t")
    assert meter.flush(30)
    status = meter.status()
    assert status.recorded == 1 + taken
    assert status.acknowledged + status.failed == status.recorded


def test_ever_new_tenants_and_attributes_fill_no_memory(make_meter: MakeMeter) -> None:
    """The caches stop at their bound; a tenant that comes back goes on with its lane's numbers."""
    meter = make_meter(buffer_events_max=10, strict=False)
    intake = meter._intake

    for number in range(NAMES):
        meter.record("a", tenant=f"t{number}", attributes={"n": f"{number}"})

    series, fragments = intake.series, intake.fragments
    assert len(series.young) + len(series._old) <= 2 * SERIES_CACHED
    assert len(fragments.young) + len(fragments._old) <= 2 * FRAGMENTS_CACHED
    status = meter.status()
    assert status.recorded + status.dropped["buffer_full"] == NAMES == intake.numbering.spent()


def test_large_attributes_are_not_cached(make_meter: MakeMeter) -> None:
    """What is large and different each time would fill the cache with megabytes."""
    meter = make_meter()

    for number in range(1_000):
        meter.record("a", tenant="t", attributes={"n": f"{number:01000}"})

    assert sum(map(len, meter._intake.fragments.young.values())) < 1_000


SETTINGS: Final = {
    "security.protocol": "sasl_plaintext",
    "sasl.mechanism": "PLAIN",
    "sasl.username": "user",
    "sasl.password": SECRET,
}
MISTAKEN: Final = SETTINGS | {"sasl.mechanism": "NO-SUCH"}
UNKNOWN: Final = SETTINGS | {"no.such.setting": SECRET}


LEAKY: Final[dict[str, dict[str, Any]]] = {
    "away": {"bootstrap_servers": "127.0.0.1:1", "kafka_settings": SETTINGS},
    "mistaken": {"bootstrap_servers": "127.0.0.1:1", "kafka_settings": MISTAKEN},
    "unknown": {"bootstrap_servers": "127.0.0.1:1", "kafka_settings": UNKNOWN},
    "address": {"bootstrap_servers": f"SASL_SSL://user:{SECRET}@127.0.0.1:1"},
    "registry": {
        "bootstrap_servers": "127.0.0.1:1",
        "registry_url": f"http://user:{SECRET}@127.0.0.1:1",
    },
    "gateway": {"gateway_url": "http://127.0.0.1:1", "api_key": SECRET},
}


@pytest.mark.parametrize("case", LEAKY)
def test_a_secret_is_in_nothing_that_is_shown(
    case: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A client that cannot connect tells much, but not the password or key it was given."""
    caplog.set_level(logging.DEBUG)
    meter = Meter(**LEAKY[case])
    meter.record("a", tenant="t")
    eventually(lambda: "wait" in caplog.text)
    meter.close(0.2)

    out, err = capfd.readouterr()
    shown = [repr(meter), repr(meter.status()), str(meter.status()), out, err, caplog.text]
    assert SECRET not in "\n".join(shown)
    assert meter.status().last_error is not None


@pytest.mark.parametrize("url", [f"http://user:{SECRET}@127.0.0.1:1", f"http://a/?key={SECRET}"])
def test_a_gateway_address_with_a_secret_is_refused_without_repeating_it(url: str) -> None:
    """The key has a place of its own."""
    with pytest.raises(ValueError, match="gateway_url") as refusal:
        Meter(gateway_url=url, api_key="key")
    assert SECRET not in str(refusal.value)


def test_a_wrong_setting_is_refused_without_its_secret() -> None:
    """Neither the message nor the traceback of a `SettingsError` repeats values."""
    with pytest.raises(ValueError, match="cannot be set") as refusal:
        Meter(kafka_settings={"sasl.password": SECRET, "acks": 1, "enable.idempotence": False})

    text = io.StringIO()
    traceback.print_exception(refusal.value, file=text)
    assert SECRET not in text.getvalue()


def test_a_coroutine_that_records_does_not_hold_up_its_loop(make_meter: MakeMeter) -> None:
    """Ten thousand calls of many tasks: the loop's own watch finds no slow step, with no broker."""
    meter = Meter(bootstrap_servers="127.0.0.1:1", buffer_events_max=1_000)
    slow: list[str] = []

    async def work() -> None:
        for number in range(100):
            meter.record("a", tenant=f"t{number}")
            await asyncio.sleep(0)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 1.0  # Connecting takes two; a busy machine much less.
        async with meter.session("run", tenant="t"):
            await asyncio.gather(*(work() for _ in range(100)))

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            slow.append(record.getMessage())

    watch, logger = Watch(), logging.getLogger("asyncio")
    logger.addHandler(watch)
    try:
        asyncio.run(run())
    finally:
        logger.removeHandler(watch)
        meter.close(0)

    assert [line for line in slow if "took" in line] == []
    status = meter.status()
    assert status.recorded + status.dropped["buffer_full"] == 10_002


def test_flush_in_an_executor_lets_the_loop_run(make_meter: MakeMeter) -> None:
    """The loop goes on counting while a flush waits for a broker that is away."""
    meter = Meter(bootstrap_servers="127.0.0.1:1")
    meter.record("a", tenant="t")

    async def run() -> tuple[bool, int]:
        flushing = asyncio.create_task(asyncio.to_thread(meter.flush, 0.5))
        turns = 0
        while not flushing.done():
            await asyncio.sleep(0.001)
            turns += 1
        return await flushing, turns

    flushed, turns = asyncio.run(run())
    meter.close(0)

    assert flushed is False
    assert turns > 20


def test_subinterpreters_are_left_alone() -> None:
    """Importing and recording there does not end the process, whatever the client makes of it."""
    program = """
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    import _interpreters as interpreters
inside = interpreters.create()
interpreters.run_string(inside, '''
import sys
try:
    import meterstream
    print("imported")
except ImportError as problem:
    print("imported")
''')
interpreters.destroy(inside)
print("alive")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout.split() == ["imported", "alive"], done.stderr


def test_an_idle_meter_takes_no_processor_time(make_meter: MakeMeter) -> None:
    """Between events the background thread sleeps."""
    meter = make_meter()
    meter.record("a", tenant="t")
    assert meter.flush(30)

    begun, processor = time.monotonic(), time.process_time()
    time.sleep(0.3)

    assert time.process_time() - processor < CPU_SHARE_MAX * (time.monotonic() - begun)
