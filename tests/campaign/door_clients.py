"""Clients of a campaign against the gateway: each sends at random and writes down what it was told.

An event has a name of its own that comes through to the log. Whoever has ids sends until success;
whoever has none tries a few times, as the published clients do.
"""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final

import httpx

from meterstream_services.clients.unimeter import wire

if TYPE_CHECKING:
    from pathlib import Path

KEYLESS_TRIES: Final = 4
_TIMEOUT_SECONDS: Final = 10.0
"""After which climeter and meter-lib give up."""
_UNAVAILABLE: Final = 503
_KEPT: Final = frozenset({"accepted", "duplicate", "spooled"})
_SAID_MAX: Final = 4_000
"""Characters of an answer that the journal keeps."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Sent:
    """One event, and what its client was told of it."""

    name: str
    at: int
    tries: int = 0
    unanswered: int = 0
    turned_away: int = 0
    is_kept: bool = False


class Client(ABC):
    """Sends in a thread of its own until it is told to end."""

    tenant: ClassVar[str]
    has_ids: ClassVar[bool] = True
    has_times: ClassVar[bool] = True
    batch_max: ClassVar[int] = 20
    pause_seconds: ClassVar[float] = 0.02

    def __init__(self, url: str, seed: int) -> None:
        self.url: Final = url
        self.sent: Final[list[Sent]] = []
        self.problems: Final[list[str]] = []
        self.said = ""
        """The last answer, for the journal."""
        self._journal: Path | None = None
        self._chance: Final = random.Random(f"{seed} {self.tenant}")
        self._done: Final = threading.Event()
        self._broken_off = False
        self._thread: Final = threading.Thread(target=self._run, daemon=True)
        self.http: Final = httpx.Client(base_url=url, timeout=_TIMEOUT_SECONDS)

    def start(self, journal: Path) -> None:
        """Begin. Every request is written down in ``journal`` as it was answered."""
        self._journal = journal
        self._thread.start()

    def end(self, timeout_seconds: float) -> None:
        """Send no new events; finish with those that are begun."""
        self._done.set()
        self._thread.join(timeout_seconds)
        assert not self._thread.is_alive(), f"{self.tenant} does not come to an end"
        self.close()

    def close(self) -> None:
        """Let go of connections."""
        self.http.close()

    def give_up(self) -> None:
        """Send nothing more: a campaign breaks off."""
        self._done.set()
        self._broken_off = True

    @abstractmethod
    def attempt(self, events: list[Sent]) -> list[bool]:
        """Send once: whether each is kept. Raises `OSError` or `httpx.HTTPError` without answer."""

    def _run(self) -> None:
        try:
            while not self._done.wait(self._chance.random() * self.pause_seconds):
                count, now = self._chance.randint(1, self.batch_max), time.time_ns() // 1000
                begin = len(self.sent)
                batch = [Sent(f"{begin + n}", now + n) for n in range(count)]
                self.sent.extend(batch)
                self._insist(batch)
        except Exception as problem:  # noqa: BLE001 - of a thread: told to whoever judges
            self.problems.append(f"{type(problem).__name__}: {problem}")

    def _insist(self, batch: list[Sent]) -> None:
        left = batch
        while left and not self._broken_off:
            for each in left:
                each.tries += 1
            begun, told, self.said = time.time(), list[bool](), ""
            try:
                told = self.attempt(left)
            except (OSError, httpx.HTTPError) as problem:
                self._note(begun, left, told, f"{type(problem).__name__}: {problem}")
                for each in left:
                    each.unanswered += 1
            else:
                self._note(begun, left, told, self.said)
                for each, is_kept in zip(left, told, strict=True):
                    each.is_kept = is_kept
                    each.turned_away += not is_kept
            left = [each for each in left if not each.is_kept]
            if not self.has_ids:
                left = [each for each in left if each.tries < KEYLESS_TRIES]
            if left:
                time.sleep(0.1 if self.has_ids else 1.0)

    def _note(self, begun: float, batch: list[Sent], told: list[bool], said: str) -> None:
        if self._journal is not None:
            line = {
                "begun": f"{datetime.fromtimestamp(begun, UTC):%H:%M:%S.%f}",
                "seconds": round(time.time() - begun, 3),
                "names": [each.name for each in batch],
                "kept": told,
                "said": said[:_SAID_MAX],
            }
            with self._journal.open("a", encoding="utf-8") as journal:
                journal.write(f"{json.dumps(line)}\n")

    def post(self, path: str, content: Any, **options: Any) -> httpx.Response:  # noqa: ANN401 - any JSON value
        """The answer; anything but success or 503 is a problem of the campaign."""
        answer = self.http.post(path, json=content, **options)
        self.said = f"{answer.status_code} {answer.text}"
        if not answer.is_success and answer.status_code != _UNAVAILABLE:
            self.problems.append(f"{path}: {answer.status_code} {answer.text[:200]}")
        return answer


class Native(Client):
    """Batches with keys and times."""

    tenant = "native"

    def event(self, sent: Sent) -> dict[str, Any]:
        """One event in native JSON."""
        told: dict[str, Any] = {
            "type": "api.request",
            "tenant": self.tenant,
            "attributes": {"name": sent.name},
        }
        if self.has_times:
            told["time"] = sent.at
        return told | {"key": sent.name} if self.has_ids else told

    def attempt(self, events: list[Sent]) -> list[bool]:
        """See `Client`."""
        answer = self.post("/v1/events", {"events": [self.event(each) for each in events]})
        if not answer.is_success:
            return [False] * len(events)
        results = answer.json()["results"]
        self.problems.extend(
            str(row) for row in results if row["status"] in {"refused", "conflict"}
        )
        return [row["status"] in _KEPT for row in results]


class NativeTimeless(Native):
    """With keys, without times: the gateway's count."""

    tenant = "timeless"
    has_times = False


class NativeKeyless(Native):
    """Neither keys nor times, one at a time; asks for receipts."""

    tenant = "keyless"
    has_ids = has_times = False
    batch_max = 1

    def attempt(self, events: list[Sent]) -> list[bool]:
        """See `Client`."""
        headers = {"prefer": "respond-async"}
        answer = self.post("/v1/events", self.event(events[0]), headers=headers)
        return [answer.is_success]


class CloudEvents(Client):
    """Batched CloudEvents."""

    tenant = "cloud"

    def attempt(self, events: list[Sent]) -> list[bool]:
        """See `Client`."""
        content = [
            {
                "specversion": "1.0",
                "type": "api.request",
                "source": "campaign",
                "id": each.name,
                "tenant": self.tenant,
                "time": _iso(each.at),
                "data": {"name": each.name},
            }
            for each in events
        ]
        headers = {"content-type": "application/cloudevents-batch+json"}
        answer = self.post("/v1/events", content, headers=headers)
        if not answer.is_success:
            return [False] * len(events)
        return [row["status"] in _KEPT for row in answer.json()["results"]]


class StripeMeter(Client):
    """StripeMeter's wire: snake case, a key of each event."""

    tenant = "stripe"

    def attempt(self, events: list[Sent]) -> list[bool]:
        """See `Client`."""
        content = [
            {
                "tenant_id": "org",
                "metric": "calls",
                "customer_ref": self.tenant,
                "quantity": 1.0,
                "ts": _iso(each.at),
                "meta": {"name": each.name},
                "idempotency_key": f"evt_{each.name}",
            }
            for each in events
        ]
        answer = self.post("/v1/events/ingest", {"events": content})
        return [answer.is_success] * len(events)


class StripeMeterHeader(Client):
    """StripeMeter's wire with the key of the request alone, and no times."""

    tenant = "stripe-header"
    has_times = False

    def attempt(self, events: list[Sent]) -> list[bool]:
        """See `Client`. The whole batch or nothing of it, so that a repeat is the same request."""
        content = [
            {
                "tenant_id": "org",
                "metric": "calls",
                "customer_ref": self.tenant,
                "quantity": 1,
                "meta": {"name": each.name},
            }
            for each in events
        ]
        headers = {"idempotency-key": f"request {events[0].name}"}
        answer = self.post("/v1/events/ingest", {"events": content}, headers=headers)
        return [answer.is_success] * len(events)


class AgentMeter(Client):
    """AgentMeter 0.2.0: an id of each event, which costs a unit of its user's meter."""

    tenant = "agent"
    batch_max = 1

    def attempt(self, events: list[Sent]) -> list[bool]:
        """See `Client`."""
        [one] = events
        content = {
            "id": f"event-{one.name}",
            "project_id": self.tenant,
            "agent_id": "bot",
            "user_id": "ann",
            "event_type": "api_call",
            "payment_type": "api_request_pay",
            "api_calls": 1,
            "unit_price": 1,
            "metadata": {"name": one.name},
            "timestamp": _iso(one.at),
        }
        return [self.post("/api/meter/event", content).is_success]

    def booked(self) -> int:
        """What its user's meter says."""
        with httpx.Client(base_url=self.url, timeout=30) as client:
            wanted = {"project_id": self.tenant, "user_id": "ann"}
            answer = client.get("/api/meter/usage", params=wanted)
            assert answer.is_success, answer.text
            return int(float(answer.json()["current_usage"]))


class CliMeter(Client):
    """CLIMeter's batches: nothing to know an event by, and 503 keeps the batch."""

    tenant = "climeter-key"
    has_ids = has_times = False
    batch_max = 5

    def attempt(self, events: list[Sent]) -> list[bool]:
        """See `Client`. As a batch that is sent again: the same bytes."""
        content = [
            {
                "tool_slug": "tool",
                "command": "search",
                "status": "success",
                "metadata": {"name": each.name},
            }
            for each in events
        ]
        headers = {"authorization": "Bearer campaign"}
        answer = self.post("/v1/events/batch", {"events": content}, headers=headers)
        return [answer.is_success] * len(events)


class Unimeter(Client):
    """Unimeter's port. The value is the event's name: there is no other field that is free."""

    tenant = "4200"

    def __init__(self, url: str, seed: int, *, port: int) -> None:
        super().__init__(url, seed)
        self._port: Final = port
        self.connection: socket.socket | None = None

    def attempt(self, events: list[Sent]) -> list[bool]:
        """See `Client`. A connection that failed is made anew."""
        try:
            return [self._asked(events)] * len(events)
        except (OSError, wire.BadFrame) as problem:
            self._hang_up()
            raise OSError(str(problem)) from problem

    def close(self) -> None:
        """See `Client`."""
        super().close()
        self._hang_up()

    def _hang_up(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _asked(self, events: list[Sent]) -> bool:
        if self.connection is None:
            self.connection = socket.create_connection(("127.0.0.1", self._port), _TIMEOUT_SECONDS)
        code = b"calls".ljust(wire.CODE_BYTES, b"\0")
        rows = [
            wire.EventRow(code, int(self.tenant), each.at * 1000 if self.has_times else 0, 1, 0, 1)
            for each in events
        ]
        names = [{"name": each.name} for each in events]
        payload = wire.encode_events(zip(rows, names, strict=True))
        self.connection.sendall(wire.encode_request(wire.Op.INGEST_SYNC, payload, 1))
        header = wire.decode_response(self._read(wire.RESPONSE_BYTES))
        told = self._read(header.payload_bytes)
        self.said = f"{header} {told.hex()}"
        if header.status == wire.Status.BACKPRESSURE:
            return False
        result = wire.decode_result(told)
        if result.stored + result.duplicates != len(events):
            self.problems.append(f"{header} {result} of {len(events)}")
        return True

    def _read(self, count: int) -> bytes:
        assert self.connection is not None
        found = b""
        while len(found) < count:
            part = self.connection.recv(count - len(found))
            if not part:
                raise ConnectionError("the port closed the connection")
            found += part
        return found


class UnimeterTimeless(Unimeter):
    """Events at 0, which have no key."""

    tenant = "4201"
    has_ids = has_times = False


def _iso(at: int) -> str:
    return (_EPOCH + timedelta(microseconds=at)).isoformat()
