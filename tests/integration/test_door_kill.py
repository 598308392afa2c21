"""The gateway killed under load, and with the broker away: nothing lost, nothing twice."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from meterstream_aggregator.store.opening import open_reader
from meterstream_infra.broker import EmbeddedBroker
from meterstream_infra.topics import ensure_topics
from meterstream_schemas.events import EventKind
from tests.integration.counting import LONG, folded, positions, worker_settings
from tests.integration.reading_topic import read_topic
from tests.integration.serve_process import Serve, insist
from tests.integration.worker_process import running_worker
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from meterstream_consumers.settings import WorkerSettings
    from tests.conftest import Broker

pytestmark = pytest.mark.integration

SENDERS = 3
BATCHES = 40
BATCH = 50


def event(tenant: str, key: str | None, at: int, **fields: object) -> dict[str, Any]:
    """One event in native JSON."""
    told = {"type": "api.request", "tenant": tenant, "time": at, **fields}
    return told if key is None else {**told, "key": key}


class Keyless:
    """Sends events without keys, each once, and notes which were acknowledged."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.tried = 0
        self.kept: set[str] = set()
        self.done = threading.Event()

    def run(self) -> None:
        """Until it is done."""
        with httpx.Client() as client:
            while not self.done.wait(0.01):
                self.tried += 1
                name = f"receipt {self.tried}"
                asked = event("keyless", None, time.time_ns() // 1000, subject=name)
                del asked["time"]
                try:
                    answer = client.post(
                        f"{self._url}/v1/events",
                        json=asked,
                        headers={"prefer": "respond-async"},
                        timeout=30,
                    )
                except httpx.HTTPError:
                    continue
                if answer.status_code in {201, 202}:
                    self.kept.add(name)


def figures(settings: WorkerSettings) -> dict[str, int]:
    """Counted events by tenant; and nothing is a dead letter."""
    reader = open_reader(settings.store)
    try:
        assert reader.dead_letters() == []
        meter = reader.catalogue().meter("api.calls")
        return {
            tenant: sum(
                row.events for row in reader.usage(meter, tenants=[tenant], start=0, end=2**60)
            )
            for tenant in reader.tenants()
        }
    finally:
        reader.close()


def counted(settings: WorkerSettings) -> int:
    """Events that the store has counted."""
    return sum(row.counted for row in positions(settings.store))


def check_topic(settings: WorkerSettings, keyless: Keyless) -> None:
    """The worker judged all of the topic; whatever was acknowledged without a key is there once."""
    placed = read_topic(settings.bootstrap_servers, settings.topic)
    sent = [found.event for found in placed if found.event.kind is not EventKind.MARK]
    eventually(lambda: folded(settings.store) == len(sent), timeout_seconds=LONG)
    numbers: dict[str, set[tuple[str, int, int]]] = {}
    for each in sent:
        if each.tenant == "keyless":
            number = (each.producer, each.lane, each.sequence)
            numbers.setdefault(each.subject or "", set()).add(number)
    assert keyless.kept <= numbers.keys()
    assert {len(found) for found in numbers.values()} <= {1}


def test_killed_under_load_it_loses_and_doubles_nothing(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    """SIGKILL twice while clients send: whatever was acknowledged is counted exactly once."""
    settings = worker_settings(broker, topic, tmp_path)
    now = time.time_ns() // 1000 - 60_000_000
    progress = Counter[str]()

    def sender(number: int, url: str) -> None:
        with httpx.Client() as client:
            for batch in range(BATCHES):
                keys = [f"{batch}/{n}" for n in range(BATCH)]
                events = [event(f"tenant-{number}", key, now + batch) for key in keys]
                progress["again"] += insist(client, url, events, seconds=LONG)
                progress["batches"] += 1

    with Serve(tmp_path, broker.bootstrap_servers, topic) as serve, ThreadPoolExecutor() as pool:
        keyless = Keyless(serve.url)
        receipts = pool.submit(keyless.run)
        senders = [pool.submit(sender, number, serve.url) for number in range(SENDERS)]
        try:
            for part in (1, 2):
                wanted = SENDERS * BATCHES * part // 3
                eventually(partial(_is_at, progress, wanted), timeout_seconds=LONG)
                serve.kill()
                serve.start()
            for done in senders:
                done.result(LONG)
        finally:
            keyless.done.set()
        receipts.result(LONG)
        eventually(lambda: serve.metric("meterstream_gateway_spool_events") == 0)
        with running_worker(settings):
            wanted = SENDERS * BATCHES * BATCH
            eventually(
                lambda: counted(settings) >= wanted + len(keyless.kept), timeout_seconds=LONG
            )
            serve.stop()
            check_topic(settings, keyless)
    told = figures(settings)
    assert len(keyless.kept) <= told.pop("keyless", 0) <= keyless.tried
    assert told == {f"tenant-{number}": BATCHES * BATCH for number in range(SENDERS)}
    assert keyless.kept, "some receipts were given between the kills"


def _is_at(progress: Counter[str], wanted: int) -> bool:
    return progress["batches"] >= wanted


def test_without_the_broker_receipts_are_kept_and_delivered_later(tmp_path: Path) -> None:
    """Halted broker: receipts from the spool up to its bound, then 503; all delivered once."""
    kafka = EmbeddedBroker(tmp_path / "broker")
    kafka.start(2 * LONG)
    try:
        ensure_topics(kafka.bootstrap_servers, partitions=4, events_topic="away.events")
        bound = "--spool-bytes-max=300000"
        with Serve(tmp_path, kafka.bootstrap_servers, "away.events", bound) as serve:
            with httpx.Client(base_url=serve.url, timeout=30) as client:
                one = event("acme", "before", time.time_ns() // 1000)
                assert client.post("/v1/events", json=one).status_code == 201
                assert serve.takes_events()
                with _stopped(kafka):
                    given = _receipts(client)
                    assert not serve.takes_events()
                    assert client.post("/v1/events", json=one).status_code == 200
                eventually(serve.takes_events, timeout_seconds=LONG)
                eventually(
                    lambda: serve.metric("meterstream_gateway_spool_events") == 0,
                    timeout_seconds=LONG,
                )
            serve.stop()
        placed = read_topic(kafka.bootstrap_servers, "away.events")
        numbers = {
            (each.producer, each.lane, each.sequence): each.subject
            for each in (found.event for found in placed)
            if each.kind is not EventKind.MARK
        }
        times = Counter(numbers.values())
        assert given <= times.keys()
        assert max(times.values()) == 1
    finally:
        kafka.stop()


@contextmanager
def _stopped(kafka: EmbeddedBroker) -> Iterator[None]:
    """The broker answers nothing inside the block."""
    process = kafka.pid
    assert process is not None
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def _receipts(client: httpx.Client) -> set[str]:
    """Ask for receipts until there are no more: the names of those that were given."""
    given: set[str] = set()
    headers = {"prefer": "respond-async"}
    for batch in range(1_000):
        names = [f"{batch}/{n} {'x' * 200}" for n in range(50)]
        events = [{"type": "api.request", "tenant": "acme", "subject": name} for name in names]
        answer = client.post("/v1/events", json={"events": events}, headers=headers)
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
            assert given, "some fit into the spool"
            return given
        assert answer.status_code in {200, 202}, answer.text[:300]
        told = answer.json()["results"]
        given |= {name for name, row in zip(names, told, strict=True) if row["status"] == "spooled"}
    raise AssertionError("the spool has no bound")
