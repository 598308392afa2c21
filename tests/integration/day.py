"""A day of one tenant on a real broker: told late, twice, taken back; folded, and explained."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer

from meterstream_aggregator.catalogue import HOUR
from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.store.opening import open_reader
from meterstream_consumers.logreader import LogReader
from meterstream_schemas.events import EventKind, MeterEvent
from meterstream_schemas.placement import lane_of, partition_of
from meterstream_services.cli.main import main
from tests.integration.hostile_records import encode, good
from tests.integration.worker_process import running_worker
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pytest

    from meterstream_aggregator.store.address import StoreAddress
    from meterstream_consumers.settings import WorkerSettings
    from meterstream_services import proving

PARTITIONS = 4
TENANT = "acme"
LANE = lane_of(TENANT)
METERS = """
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: calls, type: api, aggregate: count, group_by: [route], grace: 1h}
  - {name: tokens, type: api, aggregate: sum, grace: 1h}
  - {name: mean, type: llm, aggregate: average, value: attributes.tokens, grace: 1h}
  - {name: least, type: llm, aggregate: min, value: attributes.tokens, grace: 1h}
  - {name: most, type: llm, aggregate: max, value: attributes.tokens, grace: 1h}
  - {name: seats, type: seat, aggregate: unique, value: subject, operation: attributes.op,
     grace: 1h}
  - {name: level, type: disk, aggregate: latest, grace: 1h}
  - {name: disk.used, type: disk, aggregate: time_weighted, grace: 1h}
  - {name: runs, type: run, aggregate: session, group_by: [plan], timeout: 1h, grace: 1h}
"""


METER_NAMES = (
    "calls", "tokens", "mean", "least", "most", "seats", "level", "disk.used", "runs",
)  # fmt: skip


def produce(broker_address: str, topic: str, records: Iterable[tuple[int, bytes]]) -> None:
    """Send (partition, value) records, and wait for their receipts."""
    producer = Producer({"bootstrap.servers": broker_address, "linger.ms": 5, "acks": "all"})
    for partition, value in records:
        producer.produce(topic, value, b"k", partition)
        producer.poll(0)
    assert producer.flush(60) == 0


def store_text(store: StoreAddress) -> str:
    """The text that a command takes; with the password, which addresses never show."""
    if isinstance(store, Path):
        return str(store)
    joined = "&" if "?" in store.url else "?"
    return f"{store.url}{joined}schema={store.schema}"


def end_of_log(settings: WorkerSettings) -> dict[int, int]:
    """The end of each partition."""
    with LogReader(settings.bootstrap_servers, settings.topic) as reader:
        return {p: end for p, (_, end) in reader.bounds(range(PARTITIONS)).items()}


def positions(store: StoreAddress) -> dict[int, int]:
    """How far each partition is folded; nothing while there is no store yet."""
    try:
        with closing(open_reader(store)) as reader:
            return {row.partition: max(row.next_offset, 0) for row in reader.positions()}
    except StoreUnavailable:
        return {}


def wait_until_folded(settings: WorkerSettings) -> None:
    """Wait until the store is where the log ends."""
    ends = {partition: end for partition, end in end_of_log(settings).items() if end}

    def folded() -> bool:
        reached = positions(settings.store)
        return all(reached.get(partition, 0) >= end for partition, end in ends.items())

    eventually(folded, timeout_seconds=120)


def explained(
    settings: WorkerSettings,
    log: proving.Log,
    meter: str,
    capsys: pytest.CaptureFixture[str],
    *more: str,
) -> tuple[int, dict[str, Any]]:
    """The exit status and document of `meterstream explain --events` for the tenant's day."""
    start = hour() - 6 * HOUR
    span = [
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at // 1_000_000))
        for at in (start, start + 12 * HOUR)
    ]
    arguments = ["explain", "--tenant", TENANT, "--meter", meter, "--from", span[0]]
    arguments += ["--to", span[1], "--events", "--format", "json", *more]
    arguments += ["--store", store_text(settings.store), "--bootstrap", log.bootstrap_servers]
    status = main(arguments)
    out, err = capsys.readouterr()
    assert out, err
    return status, json.loads(out)


def fold(settings: WorkerSettings, events: Sequence[MeterEvent]) -> None:
    """Produce to where each tenant belongs, and wait until a worker has folded it."""
    records = [(partition_of(lane_of(event.tenant), PARTITIONS), encode(event)) for event in events]
    produce(settings.bootstrap_servers, settings.topic, records)
    with running_worker(settings):
        wait_until_folded(settings)


def hour() -> int:
    """When this hour began."""
    now = time.time_ns() // 1000
    return now - now % HOUR


class _Day(list[MeterEvent]):
    """What a tenant did of late, in one numbering lane."""

    def say(self, kind: str = "USAGE", **changes: Any) -> None:  # noqa: ANN401 - any field
        """One more event under the next number."""
        number = max((event.sequence for event in self), default=0) + 1
        plain = good(number, tenant=TENANT, lane=LANE, time=hour())
        plain = plain._replace(kind=EventKind(kind), quantity=0, attributes={})
        self.append(plain._replace(**changes))

    def again(self) -> None:
        """The last event once more, as after a lost receipt."""
        self.append(self[-1])


def a_day() -> list[MeterEvent]:
    """Some of it told late, some twice, some taken back."""
    soon, long_ago = hour(), hour() - 4 * HOUR
    day = _Day()
    for quantity in (10, 20, 30):
        day.say(type="api", quantity=quantity)
    day.again()
    day.say(type="api", quantity=5, time=long_ago)
    pay: dict[str, Any] = {"type": "api", "attributes": {"route": "/pay"}}
    day.say(**pay, key="order-1")
    day.again()
    day.say(**pay, key="order-1")
    day.say(**pay, time=long_ago)
    day.say(**pay, key="order-2")
    day.say("VOID", **pay, key="order-2")
    for tokens, at in (("7", soon), ("1.5", soon), ("-2", soon + 1), ("9", long_ago)):
        day.say(type="llm", attributes={"tokens": tokens}, time=at)
    day.say(type="llm", attributes={"tokens": "many"})
    for subject, at, op in (("u1", 0, ""), ("u2", 1, ""), ("u1", 2, "remove"), ("u3", 3, "")):
        day.say(type="seat", subject=subject, time=soon + at, attributes={"op": op})
    for level, at in ((4, soon + 10), (9, soon + 5), (7, long_ago)):
        day.say(type="disk", quantity=level, time=at)
    for session, start, end in (("s1", long_ago, soon), ("s2", soon + 1, None)):
        run: dict[str, Any] = {"type": "run", "session": session, "attributes": {"plan": "pro"}}
        if end is not None:
            day.say("SESSION_END", **run, time=end)
        day.say("SESSION_START", **run, time=start)
        day.again()
    day.say("SESSION_START", type="run", subject="u1", time=long_ago + 7)
    day.say("SESSION_END", type="run", subject="u1", time=long_ago + HOUR)
    others = [tenant for tenant in ("a", "b", "c", "d", "e") if lane_of(tenant) != LANE]
    for number, tenant in enumerate(others, 1):
        day.append(
            good(number, tenant=tenant, lane=lane_of(tenant), time=soon)._replace(
                type="api", producer="b" * 32, sequence=1
            )
        )
    return day
