"""What ``record()`` costs its caller, how many events one process delivers, and how flat memory is.

Run as ``python -m benchmarks.recording [--bootstrap B] [--events N]``; without a broker it starts
the embedded one. Prints one line of JSON:

- ``calm``: single calls, a few microseconds apart from the background thread's work (the buffer
  takes them all, nothing is sent meanwhile): the cost of the code itself.
- ``paced``: single calls at 5,000 a second while the background thread encodes, sends and polls:
  what a busy service sees, waits for the interpreter's lock included.
- ``sustained``: as fast as the broker takes them, under the policy ``block``: events per second of
  wall clock, and per second of this process's CPU, librdkafka's threads included.
- ``memory_megabytes``: resident memory at fifths of the sustained run.

Each call has one of 500 tenants, two attributes out of nine pairs, and a quantity.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.measuring import MemoryTrace, Stopwatch, report, settle
from meterstream import Meter
from meterstream_infra.broker import EmbeddedBroker
from meterstream_infra.topics import ensure_topics

if TYPE_CHECKING:
    from collections.abc import Callable

TOPIC: Final = "bench.recording"
TENANTS: Final = [f"tenant-{number:04}" for number in range(500)]
ATTRIBUTES: Final = [
    {"model": model, "region": region} for model in ("a", "b", "c") for region in ("eu", "us", "ap")
]
SINGLE_CALLS: Final = 100_000
PACE_PER_SECOND: Final = 5_000
PACED_CALLS: Final = 25_000


def main() -> None:
    """Measure against the given broker, or one of our own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recording", description=__doc__)
    parser.add_argument("--bootstrap")
    parser.add_argument("--events", type=int, default=5_000_000)
    arguments = parser.parse_args()
    if arguments.bootstrap:
        report(measure(arguments.bootstrap, arguments.events))
        return
    with (
        tempfile.TemporaryDirectory(prefix="meterstream-bench-") as directory,
        EmbeddedBroker(Path(directory), progress=_say) as broker,
    ):
        report(measure(broker.bootstrap_servers, arguments.events))


def measure(bootstrap_servers: str, events: int) -> dict[str, Any]:
    """All measurements, one after the other."""
    ensure_topics(bootstrap_servers, partitions=8, events_topic=TOPIC)
    return {
        "calm": calm(),
        "paced": paced(bootstrap_servers),
        **sustained(bootstrap_servers, events),
    }


def calm() -> dict[str, Any]:
    """Single calls into the buffer while the background thread waits for a broker in vain."""
    meter = Meter("bench", bootstrap_servers="127.0.0.1:1", buffer_events_max=10**6)
    _call_all(meter, 20_000)
    settle()
    nanoseconds = _timed_calls(meter, SINGLE_CALLS)
    cpu = time.thread_time_ns()
    _call_all(meter, SINGLE_CALLS)
    cpu = time.thread_time_ns() - cpu
    meter.close(timeout=0)
    return {**_quantiles(nanoseconds), "mean_cpu_microseconds": round(cpu / SINGLE_CALLS / 1e3, 3)}


def paced(bootstrap_servers: str) -> dict[str, Any]:
    """Single calls at an even pace with delivery going on beside them."""
    with Meter("bench", bootstrap_servers=bootstrap_servers, topic=TOPIC) as meter:
        _call_all(meter, 1000)
        if not meter.flush(60):
            raise SystemExit(f"nothing is delivered: {meter.status().last_error}")
        began = time.perf_counter()

        def wait(number: int) -> None:
            if number % 50 == 0:
                ahead = began + number / PACE_PER_SECOND - time.perf_counter()
                time.sleep(max(0.0, ahead))

        nanoseconds = _timed_calls(meter, PACED_CALLS, before=wait)
        seconds = time.perf_counter() - began
    return {**_quantiles(nanoseconds), "calls_per_second": round(PACED_CALLS / seconds)}


def sustained(bootstrap_servers: str, events: int) -> dict[str, Any]:
    """All events as fast as they go, and the memory on the way."""
    with Meter(
        "bench", bootstrap_servers=bootstrap_servers, topic=TOPIC, overflow="block"
    ) as meter:
        _call_all(meter, 100_000)
        meter.flush(60)
        settle()
        trace, watch = MemoryTrace(), Stopwatch()
        _call_all(meter, events)
        complete = meter.flush(120)
        cost = watch.read(events)
        samples = trace.stop()
        status = meter.status()
    if not complete or status.dropped:
        raise SystemExit(f"not everything was delivered: {status}")
    last = len(samples) - 1
    at = {f"{part * 20}%": samples[last * part // 5] for part in range(6)}
    return {
        "sustained": cost.as_json(),
        "memory_megabytes": {
            **at,
            "peak": max(samples),
            "growth_after_20%": round(at["100%"] - at["20%"], 1),
        },
    }


def _call_all(meter: Meter, count: int) -> None:
    record, tenants, attributes = meter.record, TENANTS, ATTRIBUTES
    for number in range(count):
        record(
            "llm.completion",
            tenant=tenants[number % 500],
            quantity=number & 4095,
            attributes=attributes[number % 9],
        )


def _timed_calls(
    meter: Meter, count: int, *, before: Callable[[int], None] | None = None
) -> list[int]:
    """Nanoseconds of each call, without what reading the clock costs."""
    record, clock, taken = meter.record, time.perf_counter_ns, [0] * count
    empty = sorted(-(clock() - clock()) for _ in range(10_000))[5_000]
    for number in range(count):
        if before is not None:
            before(number)
        tenant, attributes = TENANTS[number % 500], ATTRIBUTES[number % 9]
        began = clock()
        record("llm.completion", tenant=tenant, quantity=number & 4095, attributes=attributes)
        taken[number] = clock() - began - empty
    return taken


def _quantiles(nanoseconds: list[int]) -> dict[str, Any]:
    ordered = sorted(nanoseconds)
    return {
        "calls": len(ordered),
        **{
            f"p{percent:g}_microseconds": round(
                ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] / 1e3, 2
            )
            for percent in (50, 90, 99, 99.9)
        },
    }


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
