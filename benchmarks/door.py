"""The door's cost: `meterstream serve` on one core, the broker and this load on the others.

Run as ``python -m benchmarks.door [--events N] [--seconds S]``; prints one line of JSON.

- ``batches``: events in batches of 100 over HTTP, each answered when the log has them (acks=all);
- ``singles``: requests of one event, as fast as they are answered;
- ``half load``: single events at half that rate, and what each waited;
- ``unimeter``: events over the Unimeter port in batches of 500, answered likewise;
- ``memory``: of the serving process: idle, with 1,000 connections, under clients that send their
  requests drop by drop, and under clients that do not read.

Held against, in the same run: ``bare server`` answers 204 to the same requests on the same core;
``bare producer`` sends as many ready records on the same core. What the log has at the end is
compared with what was answered. With ``--profile FILE`` the serving process samples itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import psutil
import uvloop
from confluent_kafka import Consumer, TopicPartition

from benchmarks.door_load import Outcome, closed, steady, unimeter_answers
from benchmarks.measuring import report
from benchmarks.running import result_of, say, scratch, started
from benchmarks.servers import kafka
from meterstream_infra.topics import ensure_topics
from meterstream_services.clients.unimeter.wire import (
    EventRow,
    Op,
    Status,
    encode_events,
    encode_request,
)
from meterstream_services.clients.unimeter.wire_metrics import MetricForm, encode_metric

TOPIC: Final = "bench.door.events"
PARTITIONS: Final = 8
TENANTS: Final = 500
BATCH: Final = 100
UNIMETER_BATCH: Final = 500
METRIC: Final = "bench_calls"
CONNECTIONS: Final = 16
SINGLES: Final = 256  # Each with one request at a time, as independent callers.
UNIMETER_CONNECTIONS: Final = 4
IDLE_CONNECTIONS: Final = 1000
SLOW_CONNECTIONS: Final = 200
_READY_SECONDS: Final = 60


def main() -> None:
    """Measure all of it, and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.door", description=__doc__)
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--seconds", type=float, default=15.0)
    arguments = parser.parse_args()
    report(measure_door(arguments.events, arguments.seconds))


def measure_door(events: int, seconds: float) -> dict[str, Any]:
    """See the module. ``seconds`` is how long singles and half load are tried, about."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("door: needs two cores, one for the service and one for the broker")
    serving, rest = {cores[0]}, set(cores[1:])
    os.sched_setaffinity(0, rest)
    try:
        with scratch() as directory, kafka(directory) as broker:
            ensure_topics(broker.bootstrap_servers, partitions=PARTITIONS, events_topic=TOPIC)
            return _measure(directory, broker.bootstrap_servers, serving, events, seconds)
    finally:
        os.sched_setaffinity(0, set(cores))


def _measure(
    directory: Path, servers: str, serving: set[int], events: int, seconds: float
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    bare = _bare_producer(servers, serving, events)
    with _bare_server(serving, directory) as (address, _):
        singles = _singles(500)
        bare_singles = _run_singles(address, singles * max(int(seconds * 2), 1))
        bare_batches = _run(address, _batches(events // 10))
    with _serve(directory, servers, serving) as (address, unimeter, process):
        idle = _megabytes(process)
        _run(address, _singles(200))  # What is opened and compiled once.
        _run(address, _batches(BATCH * 20))
        before = _in_log(servers)
        batches = _run(address, _batches(events))
        single = _run_singles(address, _singles(int(seconds * 1000)))
        rate = len(single.milliseconds) / single.seconds / 2
        requests = _singles(int(rate * seconds))
        half = asyncio_run(steady(address, requests, connections=SINGLES, per_second=rate))
        sent = _taken(batches) * BATCH + _taken(single) + _taken(half)
        _run_frames(unimeter, [_metric()])
        frames = _frames(events)
        packed = _run_frames(unimeter, frames)
        if set(packed.statuses) != {Status.OK}:
            raise SystemExit(f"door: Unimeter's port answered with {packed.statuses}")
        sent += len(frames) * UNIMETER_BATCH
        result["log"] = {"answered": sent, "in_log": _in_log(servers) - before}
        result["batches"] = batches.figures(BATCH)
        result["singles"] = single.figures()
        result["half load"] = half.figures() | {"asked_per_second": round(rate, 1)}
        result["unimeter"] = packed.figures(UNIMETER_BATCH)
        result["memory_megabytes"] = {"started": idle} | _memory(address, process)
    result["bare producer"] = bare
    result["bare server"] = {"singles": bare_singles.figures(), "batches": bare_batches.figures()}
    result["ratios"] = _ratios(result)
    return result


def _ratios(result: dict[str, Any]) -> dict[str, float]:
    bare, producer = result["bare server"], result["bare producer"]["events_per_second"]
    return {
        "batches, of the bare producer's events": _ratio(
            result["batches"]["events_per_second"], producer
        ),
        "batches, of the bare server's requests": _ratio(
            result["batches"]["requests_per_second"], bare["batches"]["requests_per_second"]
        ),
        "singles, of the bare server's requests": _ratio(
            result["singles"]["requests_per_second"], bare["singles"]["requests_per_second"]
        ),
        "unimeter, of the bare producer's events": _ratio(
            result["unimeter"]["events_per_second"], producer
        ),
    }


def _ratio(figure: float, base: float) -> float:
    return round(figure / base, 3)


def _run(address: tuple[str, int], requests: Sequence[bytes]) -> Outcome:
    return asyncio_run(closed(address, requests, connections=CONNECTIONS, ahead=4))


def _run_singles(address: tuple[str, int], requests: Sequence[bytes]) -> Outcome:
    return asyncio_run(closed(address, requests, connections=SINGLES, ahead=1))


def _run_frames(address: tuple[str, int], frames: Sequence[bytes]) -> Outcome:
    return asyncio_run(
        closed(address, frames, connections=UNIMETER_CONNECTIONS, ahead=4, frames=unimeter_answers)
    )


def asyncio_run(measured: Any) -> Outcome:  # noqa: ANN401 - a coroutine of an outcome
    """Run it on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return cast("Outcome", runner.run(measured))


def _taken(outcome: Outcome) -> int:
    """Requests that were answered with success; there must be no others."""
    wrong = {status: count for status, count in outcome.statuses.items() if status // 100 != 2}
    if wrong:
        raise SystemExit(f"door: answers with these statuses were not expected: {wrong}")
    return len(outcome.milliseconds)


def _event(number: int) -> dict[str, Any]:
    return {
        "type": "llm.completion",
        "tenant": f"tenant-{number * 7919 % TENANTS}",
        "quantity": number % 1000,
        "key": f"bench-{os.getpid()}-{time.monotonic_ns()}-{number}",
        "subject": f"user-{number % 97}",
        "attributes": {"model": f"model-{number % 5}", "region": f"region-{number % 3}"},
    }


def _post(content: object) -> bytes:
    body = json.dumps(content, separators=(",", ":")).encode()
    head = (
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer bench\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _singles(count: int) -> list[bytes]:
    return [_post(_event(number)) for number in range(count)]


def _batches(events: int) -> list[bytes]:
    return [
        _post({"events": [_event(first + number) for number in range(BATCH)]})
        for first in range(0, events, BATCH)
    ]


def _metric() -> bytes:
    """The definition of what the frames count: a plain sum."""
    return encode_request(Op.METRIC_PUT, encode_metric(MetricForm(METRIC, 0)), 1)


def _frames(events: int) -> list[bytes]:
    """Unimeter's synchronous ingest; a time of its own makes each event another."""
    now = time.time_ns()
    code = METRIC.encode()
    return [
        encode_request(
            Op.INGEST_SYNC,
            encode_events(
                (
                    EventRow(code, 1 + number * 7919 % TENANTS, now + first + number, 1, 0, 0),
                    {"region": "eu"},
                )
                for number in range(UNIMETER_BATCH)
            ),
            1 + first // UNIMETER_BATCH,
        )
        for first in range(0, events, UNIMETER_BATCH)
    ]


def _bare_producer(servers: str, cores: set[int], events: int) -> dict[str, Any]:
    with _pinned(cores):
        return result_of(
            [
                sys.executable, "-m", "benchmarks.door_baselines", "produce", "--servers", servers,
                "--topic", TOPIC, "--events", str(events),
            ],
        )  # fmt: skip


@contextmanager
def _bare_server(
    cores: set[int], directory: Path
) -> Generator[tuple[tuple[str, int], psutil.Process]]:
    log = directory / "bare.log"
    with _pinned(cores):
        server = started([sys.executable, "-m", "benchmarks.door_baselines", "serve"], log=log)
        process = server.__enter__()
    try:
        port = int(_said(log, process, re.compile(r"^(\d+)$", re.MULTILINE)))
        yield ("127.0.0.1", port), psutil.Process(process.pid)
    finally:
        server.__exit__(None, None, None)


@contextmanager
def _serve(
    directory: Path, servers: str, cores: set[int]
) -> Generator[tuple[tuple[str, int], tuple[str, int], psutil.Process]]:
    """`meterstream serve`; its HTTP address, that of its Unimeter port, and its process."""
    log, data = directory / "serve.log", directory / "data"
    data.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        unimeter = free.getsockname()
    command = [
        sys.executable, "-m", "meterstream_services.cli.main", "serve", "--http", "127.0.0.1:0",
        "--bootstrap", servers, "--topic", TOPIC, "--data", str(data),
        "--unimeter", f"127.0.0.1:{unimeter[1]}",
    ]  # fmt: skip
    with _pinned(cores):
        server = started(command, log=log)
        process = server.__enter__()
    try:
        url = urlsplit(_said(log, process, re.compile(r"listening on (http://\S+)")))
        assert url.hostname is not None
        assert url.port is not None
        yield (url.hostname, url.port), unimeter, psutil.Process(process.pid)
    finally:
        server.__exit__(None, None, None)
        if os.environ.get("METERSTREAM_BENCH_SHOW_LOG"):
            say(log.read_text("utf-8"))


@contextmanager
def _pinned(cores: set[int]) -> Generator[None]:
    """What is started here stays on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _said(log: Path, process: Any, pattern: re.Pattern[str]) -> str:  # noqa: ANN401 - Popen
    """What a process says of itself once it is ready."""
    until = time.monotonic() + _READY_SECONDS
    while time.monotonic() < until and process.poll() is None:
        if log.exists() and (found := pattern.search(log.read_text("utf-8"))):
            return found[1]
        time.sleep(0.02)
    raise SystemExit(f"door: a server did not become ready:\n{log.read_text('utf-8')}")


def _in_log(servers: str) -> int:
    """How many records the topic has, marks and ticks not told apart."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench-door"})
    try:
        places = [TopicPartition(TOPIC, partition) for partition in range(PARTITIONS)]
        return sum(consumer.get_watermark_offsets(place, timeout=30)[1] for place in places)
    finally:
        consumer.close()


def _memory(address: tuple[str, int], process: psutil.Process) -> dict[str, float]:
    """Resident memory after the load, and with clients that cost nothing but their connection."""
    found = {"after load": _megabytes(process)}
    ask = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    large = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    body = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(IDLE_CONNECTIONS):
            client = stack.enter_context(socket.create_connection(address, timeout=30))
            client.sendall(ask)
            client.recv(4096)
        found[f"{IDLE_CONNECTIONS} idle connections"] = _megabytes(process)
    for name, sent in (
        ("slow heads", [ask[:-2]]),
        ("slow bodies", [body, b"x" * 50_000]),
        ("unread answers", [large] * 50),
    ):
        with ExitStack() as stack:
            for _ in range(SLOW_CONNECTIONS):
                client = stack.enter_context(socket.create_connection(address, timeout=30))
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                for piece in sent:
                    client.sendall(piece)
            time.sleep(1)
            found[f"{SLOW_CONNECTIONS} {name}"] = _megabytes(process)
    return found


def _megabytes(process: psutil.Process) -> float:
    return round(process.memory_info().rss / 2**20, 1)


if __name__ == "__main__":
    main()
