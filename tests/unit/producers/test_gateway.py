"""Meters over a gateway that does not behave: nothing is lost, nothing is believed too soon."""

from __future__ import annotations

import logging
import os
import ssl
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from meterstream import Meter, Outcome, gateway, settlement
from meterstream.errors import TransportUnavailable
from meterstream.gateway import GatewayTransport
from meterstream_schemas import codec
from meterstream_schemas.events import EventKind, MeterEvent
from tests.gateway_standin import CERTIFICATE, FATES, KEY, Standin
from tests.unit.producers.calling import record_many
from tests.unit.producers.reading import decoded
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLOW = {"slow": 0.2, "dripping": 0.2}
"""Patience with answers that do not come in time."""


@pytest.fixture
def standin() -> Iterator[Standin]:
    """A gateway, which must have been asked as the contract says."""
    with Standin() as standin:
        yield standin
    assert not standin.violations


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits after trouble that suit a test."""
    monkeypatch.setattr(gateway, "WAIT_SECONDS", 0.001)
    monkeypatch.setattr(gateway, "WAIT_SECONDS_MAX", 0.01)
    monkeypatch.setattr(gateway, "RETRY_AFTER_SECONDS_MAX", 0.02)
    monkeypatch.setattr(settlement, "AGAIN_SECONDS", 0.001)
    monkeypatch.setattr(settlement, "AGAIN_SECONDS_MAX", 0.01)


def over(standin: Standin, *, timeout_seconds: float = 5, **settings: Any) -> Meter:  # noqa: ANN401 - as many types as settings
    """A meter over the gateway."""
    transport = GatewayTransport(standin.url, api_key=KEY, timeout_seconds=timeout_seconds)
    return Meter(transport=transport, **settings)


def kept(standin: Standin) -> dict[tuple[str, int, int], MeterEvent]:
    """Usage events of the log by producer, lane and sequence; equal numbers are equal events."""
    found: dict[tuple[str, int, int], MeterEvent] = {}
    for records in standin.memory.partitions:
        for record in records:
            event = decoded(record.value)
            number = (event.producer, event.lane, event.sequence)
            if event.kind is not EventKind.MARK:
                assert found.setdefault(number, event) == event, "sent again, it is the same event"
    return found


def assert_complete(standin: Standin, count: int) -> None:
    """Quantities 0, 1, 2 ... are all there, and the numbers of each lane have no gap."""
    events = kept(standin)
    assert sorted(event.quantity for event in events.values()) == list(range(count))
    lanes: dict[tuple[str, int], list[int]] = {}
    for producer, lane, sequence in events:
        lanes.setdefault((producer, lane), []).append(sequence)
    for sequences in lanes.values():
        assert sorted(sequences) == list(range(1, len(sequences) + 1))


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.usefixtures("hurried")
def test_whatever_the_gateway_answers_nothing_is_lost(standin: Standin, fate: str) -> None:
    """Each kind of bad answer: every number arrives, and outcomes tell where it truly lies."""
    heard: list[Outcome] = []
    standin.fates.extend([fate, fate, None, fate])
    meter = over(standin, timeout_seconds=SLOW.get(fate, 5), on_outcome=heard.append)
    record_many(meter, 60)

    assert meter.flush(30)
    assert meter.close(10)

    assert_complete(standin, 60)
    status = meter.status()
    assert (status.acknowledged, status.failed, status.buffered) == (60, 0, 0)
    for outcome in heard:
        assert outcome.offset is not None
        event = decoded(standin.memory.partitions[outcome.partition][outcome.offset].value)
        assert (event.producer, event.lane, event.sequence) == (
            outcome.producer,
            outcome.lane,
            outcome.sequence,
        )
    assert len(heard) == 60


@pytest.mark.parametrize("fate", [fate for fate in FATES if fate not in {"413", "400"}])
@pytest.mark.usefixtures("hurried")
def test_while_it_misbehaves_nothing_counts_as_arrived(standin: Standin, fate: str) -> None:
    """However often it says the same: no event is acknowledged and none given up."""
    standin.always = fate
    meter = over(standin, timeout_seconds=SLOW.get(fate, 5) / 3)
    record_many(meter, 10)

    eventually(lambda: len(standin.posts()) >= 3)

    if fate == "one place":  # One record alone has one place.
        assert meter.status().failed == 0
    else:
        eventually(lambda: meter.status().last_error is not None)
        status = meter.status()
        assert (status.acknowledged, status.failed, status.buffered) == (0, 0, 10)
        assert KEY not in str(status.last_error)
    standin.always = None
    standin.released.set()
    assert meter.flush(30)
    assert meter.close(10)
    assert_complete(standin, 10)


@pytest.mark.parametrize("fate", ["400", "413"])
def test_a_refused_request_is_halved_until_one_record_is_alone(standin: Standin, fate: str) -> None:
    """A record that the gateway refuses is failed, with its reason; the others arrive."""
    standin.fate_of = lambda values: (
        fate if any(decoded(value).quantity == 7 for value in values) else None
    )
    heard: list[Outcome] = []
    meter = over(standin, on_outcome=heard.append)
    record_many(meter, 40)

    assert meter.flush(30)
    assert meter.close(10)

    status = meter.status()
    assert (status.acknowledged, status.failed, status.resent) == (39, 1, 0)
    assert len(kept(standin)) == 39
    [failed] = [outcome for outcome in heard if outcome.offset is None]
    assert failed.error in {"too large", "cannot be read"}
    assert min(standin.posts()) == 1


@pytest.mark.usefixtures("hurried")
def test_a_refused_record_is_failed_and_one_in_doubt_is_sent_again(standin: Standin) -> None:
    """One answer has places, refusals for good and records to send again."""
    doubted = dict.fromkeys(range(0, 30, 3), 2)

    def refuse(event: MeterEvent) -> tuple[str, bool] | None:
        if event.quantity == 10 and event.kind is EventKind.USAGE:
            return "unknown type", True
        if doubted.get(event.quantity, 0):
            doubted[event.quantity] -= 1
            return "leader is away", False
        return None

    standin.refuse = refuse
    meter = over(standin)
    record_many(meter, 30)

    assert meter.flush(30)
    assert meter.close(10)
    status = meter.status()
    assert (status.acknowledged, status.failed) == (29, 1)
    assert status.resent >= 20
    assert {event.quantity for event in kept(standin).values()} == set(range(30)) - {10}


def test_a_meter_finds_its_gateway_by_arguments_or_environment(
    standin: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no broker is named."""
    monkeypatch.delenv("METERSTREAM_BOOTSTRAP_SERVERS", raising=False)
    told = Meter(gateway_url=standin.url, api_key=KEY)
    monkeypatch.setenv("METERSTREAM_GATEWAY_URL", standin.url)
    monkeypatch.setenv("METERSTREAM_API_KEY", KEY)
    for meter in (told, Meter()):
        record_many(meter, 5)
        assert meter.flush(30)
        assert meter.close(10)

    assert len(kept(standin)) == 10


def test_a_key_that_is_not_accepted_is_told_with_the_remedy_and_nothing_else(
    standin: Standin,
) -> None:
    """At connecting already; the gateway's words do not bring the key into the status."""
    standin.greeting = "401"
    meter = over(standin)
    record_many(meter, 1)

    eventually(lambda: "METERSTREAM_API_KEY" in str(meter.status().last_error))

    assert KEY not in str(meter.status().last_error)
    standin.greeting = None
    assert meter.flush(30)
    assert meter.close(10)
    assert_complete(standin, 1)


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        ("redirect", "redirects are not followed"),
        ("404", "see gateway_url"),
        ("html", "does not answer as a gateway"),
        ("garbage", "does not answer as a gateway"),
        ("huge", "more than 16384 bytes"),
        ("reset", "no answer"),
        ("500", "answers 500"),
        ("packed", "packed"),
    ],
)
def test_what_is_no_gateway_is_told_at_connecting(
    standin: Standin, greeting: str, words: str
) -> None:
    """The sentence says what was wrong and where to look."""
    standin.greeting = greeting
    transport = GatewayTransport(standin.url, api_key=KEY)

    with pytest.raises(TransportUnavailable, match=words) as problem:
        transport.connect(timeout_seconds=5)

    assert KEY not in str(problem.value)


@pytest.mark.parametrize("fate", ["429", "503 with a date", "503 for a day"])
def test_a_poll_returns_at_once_while_the_gateway_wants_to_be_left_alone(
    standin: Standin, fate: str
) -> None:
    """It is asked once; the wait is what it said, within bounds and later by chance."""
    standin.always = fate
    transport = GatewayTransport(standin.url, api_key=KEY)
    transport.connect(timeout_seconds=5)
    transport.send([(1, 0, b"key", b"value")])

    assert transport.poll(0) == []
    waits = transport._wait_until - time.monotonic()
    for _ in range(20):
        assert transport.poll(0.001) == []

    assert len(standin.posts()) == 1
    low, high = {"429": (1, 1.25), "503 with a date": (0.2, 3)}.get(fate, (120, 150))
    assert low * 0.5 < waits <= high
    assert "takes nothing at present" in str(transport.trouble())
    assert transport.trouble() is None
    transport.close()


@pytest.mark.usefixtures("hurried")
def test_what_was_never_sent_is_not_in_doubt(standin: Standin) -> None:
    """While nobody listens everything waits in its order, and no sending is counted as repeated."""
    away = iter([True] * 5)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and next(away, False):
            raise httpx.ConnectError("connection refused")
        sent = httpx.Request(
            request.method, request.url, headers=request.headers, content=request.content
        )
        with httpx.HTTPTransport() as real:
            response = real.handle_request(sent)
            return httpx.Response(response.status_code, content=response.read())

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        meter = Meter(transport=GatewayTransport(standin.url, api_key=KEY, client=client))
        record_many(meter, 20)

        assert meter.flush(30)
        assert meter.close(10)
        assert not client.is_closed
    assert next(away, None) is None
    assert meter.status().resent == 0
    assert "connection refused" in str(meter.status().last_error)
    assert_complete(standin, 20)


@pytest.mark.parametrize("terms", [{"records_max": 7}, {"bytes_max": 400}])
def test_a_request_has_no_more_than_the_gateway_takes(
    standin: Standin, terms: dict[str, int]
) -> None:
    """Neither in records nor in bytes, whatever waits; the stand-in holds every request to it."""
    standin.terms.update(terms)
    meter = over(standin)
    record_many(meter, 200)

    assert meter.flush(30)
    assert meter.close(10)

    assert_complete(standin, 200)
    assert 1 < max(standin.posts()) <= 7


def test_the_placement_is_the_first_connections(standin: Standin) -> None:
    """A topic that grew keeps a lane's numbers in their partition: the sender says in which."""
    transport = GatewayTransport(standin.url, api_key=KEY)
    meter = Meter(transport=transport)
    record_many(meter, 40)
    assert meter.flush(30)
    standin.terms["partitions"] = 8
    standin.memory.partitions.extend([] for _ in range(4))
    transport.close()  # Found broken by the next poll, and connected again.
    record_many(meter, 40)

    assert meter.flush(30)
    assert meter.close(10)
    assert [asked.method for asked in standin.asked].count("GET") == 2
    assert not any(standin.memory.partitions[4:])


def test_events_on_disk_go_where_they_were_meant_to_go(standin: Standin, tmp_path: Path) -> None:
    """A process adopts what another left while answers were lost and the topic grew meanwhile."""
    standin.terms["partitions"] = 2
    standin.always = "lost answer"
    left = over(standin, durability="spool", spool=tmp_path)
    record_many(left, 100)
    eventually(lambda: len(standin.posts()) >= 2)
    assert not left.close(0.1)
    standin.always = None
    standin.terms["partitions"] = 4

    meter = over(standin, durability="spool", spool=tmp_path)
    assert meter.record("api.request", tenant="tenant 0", quantity=100)

    eventually(lambda: meter.status().adopted == 100)
    assert meter.close(10)
    assert_complete(standin, 101)
    for partition, records in enumerate(standin.memory.partitions):
        events = [decoded(record.value) for record in records]
        assert all(e.lane % 2 == partition for e in events if e.producer == left.producer)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_leaves_the_parents_connection_alone(standin: Standin) -> None:
    """Parent and child record on; each has its own numbers, none is missing."""
    meter = over(standin)
    record_many(meter, 20)
    assert meter.flush(30)
    child = os.fork()
    if child == 0:
        try:
            record_many(meter, 20)
            os._exit(0 if meter.flush(30) and meter.close(10) else 1)
        finally:
            os._exit(2)
    record_many(meter, 20)
    assert meter.flush(30)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    record_many(meter, 20)

    assert meter.flush(30)
    assert meter.close(10)
    producers = {producer for producer, _, _ in kept(standin)}
    assert len(producers) == 2
    assert len(kept(standin)) == 80
    assert meter.status().resent == 0


def test_an_answer_that_drips_does_not_hold_the_sender(standin: Standin) -> None:
    """The time is the whole request's, not that between two bytes."""
    transport = GatewayTransport(standin.url, api_key=KEY, timeout_seconds=0.3)
    transport.connect(timeout_seconds=5)
    event = MeterEvent(EventKind.USAGE, "acme", "t", 0, 1, 0, None, None, {}, "0" * 32, 0, 1, None)
    record = codec.encode(event, codec.parse_text(codec.bundled_text(codec.LATEST_ID)))
    standin.always = "dripping"
    transport.send([(1, 0, b"acme", record)])

    [(ticket, offset, failure)] = transport.poll(0)

    assert (ticket, offset) == (1, None)
    assert failure is not None
    assert not failure.permanent
    assert standin.dripped < 40, "the client left long before the end"
    transport._wait_until = 0
    standin.always = None
    assert transport.poll(0) == [], "it was reported, so it is the sender's again"
    transport.close()


def test_certificates_are_verified() -> None:
    """A gateway that cannot show who it is gets no record and no key; a host may know it."""
    with Standin(tls=True) as standin:
        doubtful = GatewayTransport(standin.url, api_key=KEY)
        with pytest.raises(TransportUnavailable, match="certificate verify failed"):
            doubtful.connect(timeout_seconds=5)
        assert standin.asked == []

        known = ssl.create_default_context(cafile=CERTIFICATE)
        with httpx.Client(verify=known) as client:
            transport = GatewayTransport(standin.url, api_key=KEY, client=client)
            meter = Meter(transport=transport)
            record_many(meter, 30)
            assert meter.flush(30)
            assert meter.close(10)
    assert_complete(standin, 30)
    assert not standin.violations


def test_the_key_is_in_no_log(standin: Standin, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a host logs; and at its usual level a request writes no line."""
    caplog.set_level(logging.DEBUG)
    standin.fates.extend(["401", "500"])
    meter = over(standin)
    record_many(meter, 30)
    assert meter.flush(30)
    assert meter.close(10)

    assert KEY not in caplog.text
    loud = [record for record in caplog.records if record.levelno >= logging.INFO]
    assert {record.name for record in loud} <= {"meterstream"}
