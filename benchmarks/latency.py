"""How long after it was appended an event is part of an answer, at a steady rate.

Four processes: the broker, a producer that keeps a rate (`pacing`), a real worker (`member`), and
one that asks the store for a tenant's figure all the time (`probing`). A marker is queryable with
the first answer that has as many markers as there were up to it. Append times are the broker's, in
whole milliseconds, on the same clock; so a figure may be a millisecond too low or too high.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks import traffic
from benchmarks.ladder import PARTITIONS
from benchmarks.member import members
from benchmarks.pacing import MARKER_SECONDS, MARKER_TYPE, markers_in
from benchmarks.ratios import percentile
from benchmarks.running import load, read_result, run, say, scratch, started
from benchmarks.servers import Server, kafka, postgres
from meterstream_infra.topics import ensure_topics

RATES: Final = (5_000, 20_000)
_UNSETTLED_SECONDS: Final = 3.0
"""Left out at the beginning: new series, first pages, a queue that fills."""
_LOG_SHOWN: Final = 4_000
_EXTRA_SECONDS: Final = 240.0


def measure_latency(rates: Sequence[int], seconds: float, *, stores: list[str]) -> dict[str, Any]:
    """Milliseconds from append to answer, by store and rate, and the worker's share of a core."""
    results: dict[str, Any] = {}
    with scratch() as directory, ExitStack() as stack:
        broker = stack.enter_context(kafka(directory))
        server = stack.enter_context(postgres(directory)) if "postgres" in stores else None
        for kind in stores:
            for rate in rates:
                say(f"latency, {kind}, {rate:,} events/s for {seconds:.0f} s, load {load()}")
                name = f"{kind}.{rate}"
                results[f"{kind}, {rate:,} events/s"] = _run(
                    broker.bootstrap_servers,
                    directory,
                    name,
                    server if kind == "postgres" else None,
                    rate=rate,
                    seconds=seconds,
                )
    return {"load_after": load(), **results}


def _run(
    bootstrap: str,
    directory: Path,
    name: str,
    server: Server | None,
    *,
    rate: int,
    seconds: float,
) -> dict[str, Any]:
    topic = f"bench.latency.{name}"
    ensure_topics(bootstrap, partitions=PARTITIONS, events_topic=topic)
    catalogue = directory / f"{topic}.yaml"
    marker = f"  - {{name: {MARKER_TYPE}, aggregate: count, window: 1m}}\n"
    catalogue.write_text(traffic.catalogue_text(traffic.since(0)) + marker, "utf-8")
    store = str(directory / f"{topic}.sqlite3")
    if server is not None:
        store = server.store(f"latency_{rate}")
    markers = markers_in(seconds)
    probe = [sys.executable, "-m", "benchmarks.probing", "--store", store]
    probe += ["--markers", str(markers), "--seconds", str(seconds + _EXTRA_SECONDS)]
    pace = ["--bootstrap", bootstrap, "--topic", topic]
    pace += ["--rate", str(rate), "--seconds", str(seconds)]
    with ExitStack() as stack:
        [worker] = stack.enter_context(
            members(
                1,
                bootstrap=bootstrap,
                topic=topic,
                store=store,
                catalogue=catalogue,
                partitions=PARTITIONS,
                pinned=False,
            )
        )
        prober = stack.enter_context(started(probe))
        began, spent = time.perf_counter(), sum(worker.cpu_times()[:2])
        paced = run("benchmarks.pacing", pace)
        seen = read_result(prober, "benchmarks.probing", seconds + 2 * _EXTRA_SECONDS)
        share = sum(worker.cpu_times()[:2]) - spent
        megabytes = worker.memory_info().rss / 2**20
    took = latencies(paced["appended_milliseconds"], seen["seen"])
    settled = took[round(_UNSETTLED_SECONDS / MARKER_SECONDS) :]
    if len(took) < markers or not settled:
        told = catalogue.with_suffix(".log").read_text("utf-8")[-_LOG_SHOWN:]
        raise SystemExit(f"latency: {len(took)} of {markers} markers were seen; worker:\n{told}")
    return {
        "milliseconds": {
            "p50": round(percentile(settled, 50), 1),
            "p90": round(percentile(settled, 90), 1),
            "p99": round(percentile(settled, 99), 1),
            "max": round(max(settled), 1),
        },
        "markers": len(settled),
        "events_per_second": paced["events_per_second"],
        "producer_behind_seconds_max": paced["behind_seconds_max"],
        "worker_cpu_seconds": round(share, 2),
        "worker_share_of_a_core": round(share / seconds, 3),
        "seconds_until_all_seen": round(time.perf_counter() - began, 1),
        "worker_megabytes": round(megabytes, 1),
        "questions": seen["questions"],
    }


def latencies(appended: list[float], seen: list[tuple[float, int]]) -> list[float]:
    """Per marker, how long after its append the first figure came that it is part of.

    ``appended``: by marker, in their order; ``seen``: when which figure was first there, rising.
    Both in milliseconds. Markers that no figure has are left out.
    """
    found: list[float] = []
    for moment, figure in seen:
        found += [moment - when for when in appended[len(found) : figure]]
    return found
