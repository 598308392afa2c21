"""Realistic meter events in bulk, cheap enough to make that the broker is what one waits for.

One fleet: 100 producers with 256 lanes, tenants as the `Shape` says (by default 1,000 by Zipf's
law), nine types of usage and one of sessions, one attribute to group by. A tenth of the events are
session boundaries (start and end, seconds to minutes apart), one in a thousand comes hours late,
one in a hundred is sent again, in runs. Producers speak in bursts of `BURST` events, as they do
behind a linger time.

Events are made as numpy columns, encoded by the native encoder from Arrow, and produced from
several processes; each owns its share of the producers, so that numbering stays consecutive.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro
from confluent_kafka import Producer

from meterstream_schemas.codec import LATEST_ID, bundled_text
from meterstream_schemas.events import LANES
from meterstream_schemas.placement import lane_of, partition_of
from meterstream_schemas.wire import header

PRODUCERS: Final = 100
REGIONS: Final = ("eu-west-1", "eu-north-1", "us-east-1", "ap-south-1")
USAGE_TYPES: Final = tuple(f"platform.usage.{number}" for number in range(9))
SESSION_TYPE: Final = "agent.run"
BURST: Final = 256
"""Events one producer sends in a row, over all partitions."""
CHUNK: Final = 65_536
RESEND_RUN: Final = 64
RESENT_SHARE: Final = 0.01
BOUNDARY_SHARE: Final = 0.10
LATE_SHARE: Final = 0.001
EVENTS_PER_MINUTE: Final = 500_000
"""Event time runs at this rate by default, which decides how many events share a row."""
MINUTE: Final = 60_000_000
_PLAIN: Final = (
    *["aggregate: sum"] * 5,
    *["aggregate: count"] * 2,
    "aggregate: min",
    "aggregate: max",
)
_EVERY: Final = (
    "aggregate: sum",
    "aggregate: count",
    "aggregate: average",
    "aggregate: min",
    "aggregate: max",
    "aggregate: latest",
    "aggregate: unique, value: attributes.region",
    "aggregate: time_weighted",
    "aggregate: time_weighted, samples: changes",
)

Int64Array = npt.NDArray[np.int64]


def catalogue_text(since: int, *, every: bool = False) -> str:
    """A catalogue for this traffic: sums, counts, extremes and sessions in 1-minute windows.

    With ``every``, as many meters of the same windows, among which every aggregate occurs.
    """
    meters = [
        f"  - {{name: {name}, {how}, group_by: [region], window: 1m}}"
        for name, how in zip(USAGE_TYPES, _EVERY if every else _PLAIN, strict=True)
    ]
    meters.append(
        f"  - {{name: {SESSION_TYPE}, aggregate: session, group_by: [region], window: 1m}}"
    )
    moment = np.datetime64(since, "us").astype(str)
    return f"metering_since: {moment}Z\nmeters:\n" + "\n".join(meters) + "\n"


class Shape(NamedTuple):
    """Who uses how much: tenants by Zipf's law, or with ``walk`` each series in its turn.

    A walk goes through every region of every type of usage of every tenant, without sessions.
    """

    tenants: int = 1_000
    zipf: float = 1.0
    events_per_minute: int = EVENTS_PER_MINUTE
    walk: bool = False


USUAL: Final = Shape()
SHAPES: Final = {
    "usual": USUAL,
    # With 2 M events about 250,000 and 10,000 rows of usage.
    "wide": Shape(events_per_minute=250_000),
    "narrow": Shape(tenants=33, events_per_minute=250_000),
    # A million series, each once; and the same tenants as they would come back.
    "series": Shape(tenants=27_778, walk=True),
    "returning": Shape(tenants=27_778),
}


class Columns(NamedTuple):
    """What one chunk of events says, in the order in which it is said."""

    kind: npt.NDArray[np.int8]
    tenant: Int64Array
    type: Int64Array
    time: Int64Array
    quantity: Int64Array
    session: Int64Array
    region: Int64Array
    producer: Int64Array
    sequence: Int64Array


@dataclass
class Fleet:
    """The producers one process owns, and how far they have numbered. Not thread-safe.

    ``first_time`` is the event time of the first event, microseconds UTC; ``pace`` how many
    microseconds of event time one event of this process stands for.
    """

    seed: int
    producers: int
    first_time: int
    pace: int
    shape: Shape = USUAL
    begins: int = 0
    """Where in a walk."""

    def __post_init__(self) -> None:
        """Draw the fleet: names, weights of the tenants and their lanes."""
        self.rng = np.random.default_rng(self.seed)
        self.tenant_names = [f"tenant-{number:04d}" for number in range(self.shape.tenants)]
        self.tenant_lane = np.array([lane_of(name) for name in self.tenant_names])
        weights = 1.0 / np.arange(1, self.shape.tenants + 1) ** self.shape.zipf
        self.tenant_upto = np.cumsum(weights / weights.sum())
        self.producer_names = [self.rng.bytes(16).hex() for _ in range(self.producers)]
        self.numbered = np.zeros(self.producers * LANES, dtype=np.int64)
        self.said = 0
        self.sessions = 0

    def chunk(self, size: int) -> Columns:
        """The next ``size`` events."""
        rng = self.rng
        when = self.first_time + (self.said + np.arange(size)) * self.pace
        when[rng.random(size) < LATE_SHARE] -= int(rng.integers(120, 1_500)) * MINUTE
        tenant = np.searchsorted(self.tenant_upto, rng.random(size)).clip(
            max=self.shape.tenants - 1
        )
        columns = Columns(
            kind=np.zeros(size, dtype=np.int8),
            tenant=tenant,
            type=rng.integers(0, len(USAGE_TYPES), size),
            time=when,
            quantity=rng.integers(1, 5_000, size),
            session=np.full(size, -1, dtype=np.int64),
            region=rng.integers(0, len(REGIONS), size),
            producer=np.repeat(rng.integers(0, self.producers, size // BURST + 1), BURST)[:size],
            sequence=np.zeros(size, dtype=np.int64),
        )
        if self.shape.walk:
            self._walk(columns)
        else:
            self._make_sessions(columns)
        self._number(columns)
        self.said += size
        return columns

    def _walk(self, columns: Columns) -> None:
        """Give each event the series after that of the event before."""
        series = self.begins + self.said + np.arange(len(columns.kind))
        columns.type[:] = series % len(USAGE_TYPES)
        columns.region[:] = series // len(USAGE_TYPES) % len(REGIONS)
        columns.tenant[:] = series // (len(USAGE_TYPES) * len(REGIONS)) % self.shape.tenants

    def _make_sessions(self, columns: Columns) -> None:
        """Turn pairs of rows into the start and the end of one session each."""
        size = len(columns.kind)
        pairs = int(size * BOUNDARY_SHARE / 2)
        rows = self.rng.permutation(size)[: 2 * pairs]
        first, last = np.minimum(rows[:pairs], rows[pairs:]), np.maximum(rows[:pairs], rows[pairs:])
        columns.kind[first], columns.kind[last] = 1, 2
        columns.session[first] = columns.session[last] = self.sessions + np.arange(pairs)
        self.sessions += pairs
        for column in (columns.tenant, columns.region):
            column[last] = column[first]
        columns.type[rows] = len(USAGE_TYPES)
        columns.quantity[rows] = 0
        columns.time[last] = np.maximum(columns.time[last], columns.time[first])

    def _number(self, columns: Columns) -> None:
        """Give every event the next number of its producer's lane."""
        key = columns.producer * LANES + self.tenant_lane[columns.tenant]
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        lengths = np.diff(np.r_[begins, len(ordered)])
        rank = np.arange(len(ordered)) - np.repeat(begins, lengths)
        columns.sequence[order] = self.numbered[ordered] + rank + 1
        self.numbered[ordered[begins]] += lengths

    def records(
        self, columns: Columns, partitions: int
    ) -> Iterator[tuple[int, list[bytes], list[bytes]]]:
        """(partition, keys, framed values) of a chunk, resent runs included."""
        lane = self.tenant_lane[columns.tenant]
        where = np.array([partition_of(number, partitions) for number in range(LANES)])[lane]
        values = _encoded(self._arrow(columns, lane))
        names = np.array([name.encode() for name in self.tenant_names], dtype=object)
        for partition in range(partitions):
            rows = np.flatnonzero(where == partition)
            runs = self.rng.random(len(rows)) < RESENT_SHARE / RESEND_RUN
            for first in np.flatnonzero(runs).tolist():
                run = rows[first : first + RESEND_RUN]
                rows = np.insert(rows, min(first + RESEND_RUN, len(rows)), run)
            keys: list[bytes] = names[columns.tenant[rows]].tolist()
            yield partition, keys, values.take(pa.array(rows)).to_pylist()

    def _arrow(self, columns: Columns, lane: Int64Array) -> pa.RecordBatch:
        kinds = pa.array(["USAGE", "SESSION_START", "SESSION_END"])
        types = pa.array([*USAGE_TYPES, SESSION_TYPE])
        size = len(columns.kind)
        ids = pc.binary_join_element_wise(
            f"run-{self.seed}-", pc.cast(pa.array(columns.session), pa.string()), ""
        )
        attributes = pa.MapArray.from_arrays(
            pa.array(np.arange(size + 1, dtype=np.int32)),
            pa.array(["region"]).take(pa.array(np.zeros(size, dtype=np.int64))),
            pa.array(REGIONS).take(pa.array(columns.region)),
        )
        nothing = pa.nulls(size, pa.string())
        return pa.RecordBatch.from_pydict(
            {
                "kind": kinds.take(pa.array(columns.kind)),
                "tenant": pa.array(self.tenant_names).take(pa.array(columns.tenant)),
                "type": types.take(pa.array(columns.type)),
                "time": pa.array(columns.time, pa.timestamp("us")),
                "quantity": pa.array(columns.quantity),
                "scale": pa.array(np.zeros(size, dtype=np.int32)),
                "session": pc.if_else(pa.array(columns.session >= 0), ids, None),
                "subject": nothing,
                "attributes": attributes,
                "producer": pa.array(self.producer_names).take(pa.array(columns.producer)),
                "lane": pa.array(lane.astype(np.int32)),
                "sequence": pa.array(columns.sequence),
                "key": nothing,
            },
            schema=pyruhvro.avro_to_arrow_schema(bundled_text(LATEST_ID)),
        )


def produce(
    bootstrap_servers: str,
    topic: str,
    *,
    events: int,
    partitions: int,
    seed: int,
    shape: Shape = USUAL,
) -> int:
    """Fill a topic with about ``events`` events from two processes; returns the records written.

    Blocks until every record is acknowledged. Raises `RuntimeError` when one is not.
    """
    span = events * MINUTE // shape.events_per_minute
    first_time = time.time_ns() // 1_000 - span
    processes = 2
    each = events // processes
    shares = [
        (bootstrap_servers, topic, each, partitions, seed * 100 + part, first_time, shape, part)
        for part in range(processes)
    ]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return sum(pool.starmap(_produce_share, shares))


def since(events: int, shape: Shape = USUAL) -> int:
    """A moment before every event of a run of that size, late ones included."""
    span = events * MINUTE // shape.events_per_minute
    return (time.time_ns() // 1_000 - span - 2 * 86_400_000_000) // MINUTE * MINUTE


def _produce_share(  # noqa: PLR0917 - called through a pool
    bootstrap_servers: str,
    topic: str,
    events: int,
    partitions: int,
    seed: int,
    first_time: int,
    shape: Shape,
    part: int,
) -> int:
    settings: dict[str, Any] = {
        "bootstrap.servers": bootstrap_servers,
        "enable.idempotence": True,
        "compression.type": "lz4",
        "linger.ms": 50,
        "batch.size": 1_000_000,
        "queue.buffering.max.messages": 500_000,
        "queue.buffering.max.kbytes": 262_144,
        "delivery.report.only.error": True,
        "enable.metrics.push": False,
    }
    failures: list[str] = []
    producer = Producer(settings)
    fleet = Fleet(
        seed=seed,
        producers=PRODUCERS // 2,
        first_time=first_time,
        pace=2 * MINUTE // shape.events_per_minute,
        shape=shape,
        begins=part * events,
    )
    written = 0

    def failed(problem: object, _: object) -> None:
        failures.append(str(problem))

    for start in range(0, events, CHUNK):
        columns = fleet.chunk(min(CHUNK, events - start))
        for partition, keys, values in fleet.records(columns, partitions):
            for key, value in zip(keys, values, strict=True):
                while True:
                    try:
                        producer.produce(topic, value, key, partition=partition, on_delivery=failed)
                        break
                    except BufferError:
                        producer.poll(0.05)
            producer.poll(0)
            written += len(values)
    unsent = producer.flush(60)
    if unsent or failures:
        raise RuntimeError(f"{unsent} records unsent, {len(failures)} failed: {failures[:1]}")
    return written


def _encoded(batch: pa.RecordBatch) -> pa.Array:
    bodies = pa.concat_arrays(pyruhvro.serialize_record_batch(batch, bundled_text(LATEST_ID), 1))
    return pc.binary_join_element_wise(pa.scalar(header(LATEST_ID)), bodies, pa.scalar(b""))
