"""Thresholds on a real broker: told once through kills, and posted until a receiver takes them."""

from __future__ import annotations

import base64
import hmac
import json
import multiprocessing
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.store.opening import open_reader
from meterstream_aggregator.thresholds import identity
from meterstream_consumers import webhooks
from meterstream_consumers.settings import WorkerSettings
from meterstream_consumers.webhooks import WebhookSettings
from meterstream_infra.topics import ensure_topics
from meterstream_schemas.quantity import Amount
from tests.integration.hostile_records import encode, good
from tests.integration.worker_process import running_worker
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.process import BaseProcess

    from meterstream_aggregator.store.address import StoreAddress
    from tests.conftest import Broker

pytestmark = pytest.mark.integration

CATALOGUE = """
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: calls, type: api.request, aggregate: count}
thresholds:
  - {name: busy, meter: calls, every: 1d, at: [10, 25, 1000]}
"""
KEY = b"k" * 32
SECRET = "whsec_" + base64.b64encode(KEY).decode()
TENANTS = 4


class Receiver:
    """A local receiver that fails at first, and keeps what it took."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.refused: list[str] = []
        self.taken: list[dict[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self.send_response(receiver.judge(dict(self.headers.items()), body))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
                """Silence."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def judge(self, headers: dict[str, str], body: bytes) -> int:
        """Fail so often, then take what is signed."""
        told = {name.lower(): value for name, value in headers.items()}
        if len(self.refused) < self.failures:
            self.refused.append(told["webhook-id"])
            return 500
        content = f"{told['webhook-id']}.{told['webhook-timestamp']}.".encode() + body
        signed = "v1," + base64.b64encode(hmac.digest(KEY, content, "sha256")).decode()
        assert signed == told["webhook-signature"]
        self.taken.append(json.loads(body))
        assert self.taken[-1]["id"] == told["webhook-id"]
        return 204


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that fails three times."""
    made = Receiver(failures=3)
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def settings(broker: Broker, topic: str, tmp_path: Path) -> WorkerSettings:
    """A worker with topics, a store and a group of its own."""
    ensure_topics(broker.bootstrap_servers, partitions=1, events_topic=f"{topic}.notices")
    catalogue = tmp_path / "meters.yaml"
    catalogue.write_text(CATALOGUE, "utf-8")
    return WorkerSettings(
        bootstrap_servers=broker.bootstrap_servers,
        topic=topic,
        notices_topic=f"{topic}.notices",
        group=topic,
        instance="w1",
        catalogue=catalogue,
        store=tmp_path / "store.sqlite3",
        session_timeout_seconds=6,
    )


@contextmanager
def running_sender(settings: WebhookSettings) -> Iterator[BaseProcess]:
    """A process that posts notices, inside the block."""
    process = multiprocessing.get_context("spawn").Process(target=webhooks.run, args=(settings,))
    process.start()
    try:
        yield process
    finally:
        process.terminate()
        process.join(30)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()


def _send(settings: WorkerSettings, first: int, last: int) -> None:
    """Events first to last of each tenant, one tenant a partition."""
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers, "acks": "all"})
    now = time.time_ns() // 1000
    # All in one day: midnight may pass while the test runs.
    at = now - now % 86_400_000_000
    for number in range(first, last + 1):
        for n in range(TENANTS):
            event = good(number, tenant=f"tenant-{n}", lane=n, time=at)
            producer.produce(settings.topic, encode(event), event.tenant, n)
    assert producer.flush(60) == 0


def _folded(store: StoreAddress, records: int) -> bool:
    try:
        reader = open_reader(store)
    except StoreUnavailable:
        return False
    try:
        return sum(row.counted + row.duplicates for row in reader.positions()) >= records
    finally:
        reader.close()


def test_told_once_through_kills_and_posted_until_taken(
    settings: WorkerSettings, receiver: Receiver
) -> None:
    """A worker and the sender are killed; each value is told of once, by the event that did it."""
    _send(settings, 1, 9)
    with running_worker(settings) as process:
        eventually(lambda: _folded(settings.store, 9 * TENANTS), timeout_seconds=60)
        _send(settings, 10, 15)
        process.kill()
        process.join()
    hook = WebhookSettings(
        bootstrap_servers=settings.bootstrap_servers,
        url=receiver.url,
        secrets=(SECRET,),
        topic=settings.notices_topic,
        group=f"{settings.group}.hooks",
        backoff_seconds=0.05,
        backoff_seconds_max=0.2,
    )
    with running_worker(settings):
        with running_sender(hook) as sender:
            eventually(lambda: len(receiver.taken) >= 2, timeout_seconds=90)
            sender.kill()
            sender.join()
        _send(settings, 10, 30)
        with running_sender(hook):
            eventually(lambda: len(_told(receiver)) >= 2 * TENANTS, timeout_seconds=90)

    assert _told(receiver) == {
        (f"tenant-{n}", at, at) for n in range(TENANTS) for at in ("10", "25")
    }
    ids = {(each["data"]["tenant"], each["data"]["at"]): each["id"] for each in receiver.taken}
    assert len({each["id"] for each in receiver.taken}) == len(ids) == 2 * TENANTS
    assert receiver.refused == [receiver.taken[0]["id"]] * 3
    _check_store(settings)


def _told(receiver: Receiver) -> set[tuple[str, str, str]]:
    told = [each["data"] for each in receiver.taken]
    return {(each["tenant"], each["at"], each["value"]) for each in told}


def _check_store(settings: WorkerSettings) -> None:
    reader = open_reader(settings.store)
    try:
        [threshold] = reader.catalogue().thresholds
        totals = reader.threshold_totals([identity(threshold)], 0)
        told = reader.threshold_notices([identity(threshold)], 0)
    finally:
        reader.close()
    assert {(row.who, row.total) for row in totals} == {
        (f"tenant-{n}", Amount(30, 0)) for n in range(TENANTS)
    }
    assert len(told) == 2 * TENANTS
    assert {row.place.offset for row in told if row.at == "10"} == {9}
