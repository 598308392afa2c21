"""Produces events at a steady rate, with markers among them whose append times it tells.

Run as ``python -m benchmarks.pacing --bootstrap B --topic T --rate N --seconds N``; prints one line
of JSON. Everything is made before the first is sent. Every `SLICE_SECONDS` the events of that time
are sent, and a marker every `MARKER_SECONDS`: one event of one tenant, so that markers are in the
order of the log. Marker number n was appended at the n-th of the times told, which are the
broker's.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, Final

from confluent_kafka import Message, Producer

from benchmarks.ladder import PARTITIONS
from benchmarks.measuring import report
from benchmarks.traffic import PRODUCERS, Fleet
from meterstream_schemas.codec import LATEST_ID, bundled_text, encode, parse_text
from meterstream_schemas.events import EventKind, MeterEvent
from meterstream_schemas.placement import lane_of, partition_of

SLICE_SECONDS: Final = 0.02
MARKER_SECONDS: Final = 0.06
MARKER_TENANT: Final = "probe"
MARKER_TYPE: Final = "probe.marker"
Record = tuple[int, bytes, bytes]


def markers_in(seconds: float) -> int:
    """How many markers a run has."""
    return round(seconds / SLICE_SECONDS) // round(MARKER_SECONDS / SLICE_SECONDS)


def main() -> None:
    """Make everything, send it, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--rate", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    slices = _slices(arguments.rate, round(arguments.seconds / SLICE_SECONDS))
    report(_send(arguments.bootstrap, arguments.topic, slices, markers_in(arguments.seconds)))


def _slices(rate: int, count: int) -> list[list[Record]]:
    each = round(rate * SLICE_SECONDS)
    fleet = Fleet(
        seed=7,
        producers=PRODUCERS,
        first_time=time.time_ns() // 1_000,
        pace=round(1e6 / rate),
    )
    return [
        [
            (partition, key, value)
            for partition, keys, values in fleet.records(fleet.chunk(each), PARTITIONS)
            for key, value in zip(keys, values, strict=True)
        ]
        for _ in range(count)
    ]


def _send(bootstrap: str, topic: str, slices: list[list[Record]], markers: int) -> dict[str, Any]:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 5,
            "queue.buffering.max.messages": 500_000,
            "delivery.report.only.error": False,
            "enable.metrics.push": False,
        }
    )
    appended: list[int] = []
    behind = sent = 0.0

    def told(problem: object, message: Message) -> None:
        if problem is not None:
            raise SystemExit(f"a marker was not delivered: {problem}")
        _, milliseconds = message.timestamp()
        appended.append(milliseconds)

    schema, lane = parse_text(bundled_text(LATEST_ID)), lane_of(MARKER_TENANT)
    every = len(slices) // markers
    began = time.perf_counter()
    for number, records in enumerate(slices):
        due = began + number * SLICE_SECONDS
        while (left := due - time.perf_counter()) > 0:
            producer.poll(min(left, 0.005))
        behind = max(behind, -left)
        for partition, key, value in records:
            producer.produce(topic, value, key, partition=partition)
        sent += len(records)
        if number % every == every - 1:
            marker = encode(_marker(time.time_ns() // 1_000), schema)
            where = partition_of(lane, PARTITIONS)
            producer.produce(topic, marker, MARKER_TENANT, partition=where, on_delivery=told)
        producer.poll(0)
    wall = time.perf_counter() - began
    if unsent := producer.flush(60):
        raise SystemExit(f"{unsent} records were not delivered")
    return {
        "appended_milliseconds": appended,
        "events_per_second": round(sent / wall),
        "behind_seconds_max": round(behind, 3),
    }


def _marker(moment: int) -> MeterEvent:
    return MeterEvent(
        kind=EventKind.USAGE,
        tenant=MARKER_TENANT,
        type=MARKER_TYPE,
        time=moment,
        quantity=1,
        scale=0,
        session=None,
        subject=None,
        attributes={},
        producer="",
        lane=0,
        sequence=0,
        key=None,
    )


if __name__ == "__main__":
    main()
