"""One event from a service, by this SDK, by plain Kafka and by four published clients, in one run.

Run as ``python -m benchmarks.peers [--calls N]``; needs the extra ``peers``. Ours and Kafka's
client talk to a real broker, the others to a stand-in that takes everything at once.

For each: what one call costs its caller (microseconds of wall clock, in the calling thread), and
``delivered_per_second``: events known to be delivered over the time until they were. ``ratios`` are
times of our call with durability ``memory``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.measuring import report, settle
from meterstream import Meter
from meterstream_infra.broker import EmbeddedBroker
from meterstream_infra.topics import ensure_topics

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

TOPIC: Final = "bench.peers"
CALLS: Final = 200_000
SLOW_CALLS: Final = 300
"""Of clients whose call waits for an answer."""
CLIMETER_CALLS: Final = 200
"""It delivers ten a second."""


def main() -> None:
    """Measure all of them, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS)
    calls = parser.parse_args().calls
    with (
        tempfile.TemporaryDirectory(prefix="meterstream-bench-") as directory,
        EmbeddedBroker(Path(directory) / "broker", progress=_say) as broker,
        _standin() as (web, tcp),
    ):
        servers = broker.bootstrap_servers
        ensure_topics(servers, partitions=8, events_topic=TOPIC)
        result = {
            f"meterstream {durability}": ours(servers, durability, calls, Path(directory))
            for durability in ("memory", "spool", "fsync")
        }
        result["confluent-kafka"] = plain(servers, calls)
        result["climeter"] = climeter(web)
        result["meter-lib"] = meter_lib(web)
        result["agentmeter"] = agentmeter(web)
        result["unimeter-python"] = asyncio.run(unimeter(tcp))
    base = result["meterstream memory"]["p50"]
    ratios = {name: round(figures["p50"] / base, 2) for name, figures in result.items()}
    report({"peers": result, "ratios": ratios})


def ours(servers: str, durability: Any, calls: int, directory: Path) -> dict[str, Any]:  # noqa: ANN401 - a literal
    """Our SDK: calls into the buffer, then the wait until all is in the log."""
    spool = None if durability == "memory" else directory / durability
    meter = Meter(
        "bench",
        bootstrap_servers=servers,
        topic=TOPIC,
        durability=durability,
        spool=spool,
        buffer_events_max=2 * calls,
    )
    with meter:
        meter.record("warm", tenant="acme")
        meter.flush(60)
        return _timed(
            lambda number: meter.record("api.request", tenant="acme", quantity=number & 1023),
            calls,
            delivered=lambda: meter.flush(120) and meter.status().acknowledged - 1,
        )


def plain(servers: str, calls: int) -> dict[str, Any]:
    """Kafka's own client, idempotent, with JSON and a delivery report for each event."""
    from confluent_kafka import Producer  # noqa: PLC0415 - the SDK's own import comes first

    producer = Producer(
        {"bootstrap.servers": servers, "enable.idempotence": True, "compression.type": "lz4",
         "linger.ms": 20, "queue.buffering.max.messages": 2 * calls}
    )  # fmt: skip
    reports: list[object] = []

    def call(number: int) -> None:
        value = json.dumps({"type": "api.request", "tenant": "acme", "quantity": number & 1023})
        producer.produce(TOPIC, value, "acme", on_delivery=lambda error, _: reports.append(error))
        if number % 1_000 == 0:
            producer.poll(0)

    def delivered() -> int:
        producer.flush(120)
        return reports.count(None)

    producer.list_topics(TOPIC, timeout=30)
    return _timed(call, calls, delivered)


def climeter(web: str) -> dict[str, Any]:
    """CLIMeter 0.1.7: queues, and sends fifty every five seconds."""
    from climeter import meter  # type: ignore[import-untyped]  # noqa: PLC0415 - one of several peers; it publishes no types

    meter.configure(api_key="clmtr_bench", api_url=web, tool_slug="bench")
    before = _counted(web)

    def delivered() -> int:
        deadline = time.monotonic() + 60
        while _counted(web) - before < CLIMETER_CALLS and time.monotonic() < deadline:
            time.sleep(0.1)
        return _counted(web) - before

    return _timed(lambda _: meter.record("search"), CLIMETER_CALLS, delivered)


def meter_lib(web: str) -> dict[str, Any]:
    """meter-lib 0.1.0: two requests for each event, one after the other."""
    import meter_lib as peer  # type: ignore[import-untyped]  # noqa: PLC0415 - one of several peers; it publishes no types

    before = _counted(web)

    def call(_: int) -> None:
        peer.post_meter_usage(
            "tenant", "device", "page.processed.basic", web, 1, portal_url=web, api_key="k"
        )

    return _timed(call, SLOW_CALLS, lambda: _counted(web) - before)


def agentmeter(web: str) -> dict[str, Any]:
    """AgentMeter 0.3.2: one request for each event."""
    from agentmeter import AgentMeter  # noqa: PLC0415 - one of several peers

    events = AgentMeter(api_key="k", base_url=web).meter_events
    before = _counted(web)
    return _timed(
        lambda _: events.record(meter_type_id="m", subject_id="s", quantity=1),
        SLOW_CALLS,
        lambda: _counted(web) - before,
    )


async def unimeter(place: str) -> dict[str, Any]:
    """Unimeter 0.2.0: one awaited round trip for each call."""
    from unimeter import AsyncClient, Event  # noqa: PLC0415 - one of several peers

    calls, took = 2_000, list[int]()
    async with AsyncClient([place]) as client:
        began = time.perf_counter()
        for _ in range(calls):
            start = time.perf_counter_ns()
            await client.ingest([Event(account_id=42, metric_code="api_calls", value=1)])
            took.append(time.perf_counter_ns() - start)
        seconds = time.perf_counter() - began
    return {**_quantiles(took), "recorded": calls, "delivered": calls,
            "delivered_per_second": round(calls / seconds)}  # fmt: skip


def _timed(
    call: Callable[[int], object], calls: int, delivered: Callable[[], int | bool]
) -> dict[str, Any]:
    settle()
    took, clock = [0] * calls, time.perf_counter_ns
    began = time.perf_counter()
    for number in range(calls):
        start = clock()
        call(number)
        took[number] = clock() - start
    count = int(delivered())
    seconds = time.perf_counter() - began
    return {**_quantiles(took), "recorded": calls, "delivered": count,
            "delivered_per_second": round(count / seconds)}  # fmt: skip


def _quantiles(nanoseconds: list[int]) -> dict[str, float]:
    ordered = sorted(nanoseconds)
    return {
        name: round(ordered[int(len(ordered) * part)] / 1e3, 2)
        for name, part in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))
    }


def _counted(web: str) -> int:
    with urllib.request.urlopen(f"{web}/counted") as answer:
        return int(json.load(answer)["counted"])


@contextmanager
def _standin() -> Generator[tuple[str, str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.standin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        web, tcp = process.stdout.readline().split()
        try:
            yield f"http://127.0.0.1:{web}", f"127.0.0.1:{tcp}"
        finally:
            process.stdin.close()


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
