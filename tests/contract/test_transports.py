"""One suite over every transport: in memory, over a real Kafka, and over HTTP."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Protocol

import pytest

from meterstream.errors import TransportBroken, TransportConnecting, TransportUnavailable
from meterstream.gateway import GatewayTransport
from meterstream.kafka import KafkaTransport
from meterstream.memory import MemoryTransport
from meterstream_schemas import codec
from meterstream_schemas.events import EventKind, MeterEvent
from meterstream_schemas.placement import lane_of, partition_of
from tests.gateway_standin import KEY, Standin
from tests.integration.reading_topic import read_topic
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meterstream.transport import Parcel, Report, Transport


SCHEMA = codec.parse_text(codec.bundled_text(codec.LATEST_ID))


class Carrier(Protocol):
    """A kind of transport with four partitions, and a way to look behind it."""

    def make(self) -> Transport:
        """A transport that is not connected yet."""
        ...

    def unreachable(self) -> Transport:
        """A transport whose other end is away."""
        ...

    def stored(self) -> dict[int, list[tuple[bytes, bytes]]]:
        """Key and value of all that arrived, by partition; the place in the list is the offset."""
        ...


class MemoryCarrier:
    """Transports in memory; all that are made share one log."""

    def __init__(self) -> None:
        self._log = MemoryTransport().log

    def make(self) -> Transport:
        """See `Carrier`."""
        transport = MemoryTransport(capacity=1000)
        transport.log = self._log
        return transport

    def unreachable(self) -> Transport:
        """See `Carrier`."""
        transport = MemoryTransport()
        transport.available = False
        return transport

    def stored(self) -> dict[int, list[tuple[bytes, bytes]]]:
        """See `Carrier`."""
        return {
            partition: [(stored.key, stored.value) for stored in records]
            for partition, records in enumerate(self._log)
            if records
        }


class KafkaCarrier:
    """Transports to one topic of a real broker."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic

    def make(self) -> Transport:
        """See `Carrier`."""
        return KafkaTransport(
            bootstrap_servers=lambda: self._bootstrap_servers, topic=self._topic, client_id="test"
        )

    def unreachable(self) -> Transport:
        """See `Carrier`."""
        address = nobodys_address()
        return KafkaTransport(
            bootstrap_servers=lambda: address, topic=self._topic, client_id="test"
        )

    def stored(self) -> dict[int, list[tuple[bytes, bytes]]]:
        """See `Carrier`."""
        found: dict[int, list[tuple[bytes, bytes]]] = {}
        for placed in read_topic(self._bootstrap_servers, self._topic):
            records = found.setdefault(placed.partition, [])
            assert placed.offset == len(records), "a fresh topic without transactions has no gaps"
            records.append((placed.key, placed.value))
        return found


class GatewayCarrier:
    """Transports to one gateway that stands in for a real one."""

    def __init__(self, standin: Standin) -> None:
        self._standin = standin

    def make(self) -> Transport:
        """See `Carrier`."""
        return GatewayTransport(self._standin.url, api_key=KEY)

    def unreachable(self) -> Transport:
        """See `Carrier`."""
        return GatewayTransport(f"http://{nobodys_address()}", api_key=KEY)

    def stored(self) -> dict[int, list[tuple[bytes, bytes]]]:
        """See `Carrier`."""
        partitions = self._standin.memory.partitions
        return {
            partition: [(stored.key, stored.value) for stored in records]
            for partition, records in enumerate(partitions)
            if records
        }


def nobodys_address() -> str:
    """Nobody listens on a port that was just given back."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(params=["memory", "gateway", pytest.param("kafka", marks=pytest.mark.integration)])
def carrier(request: pytest.FixtureRequest) -> Iterator[Carrier]:
    """Each kind of transport in turn."""
    if request.param == "memory":
        yield MemoryCarrier()
    elif request.param == "gateway":
        with Standin() as standin:
            yield GatewayCarrier(standin)
        assert not standin.violations
    else:
        broker, topic = request.getfixturevalue("broker"), request.getfixturevalue("topic")
        yield KafkaCarrier(broker.bootstrap_servers, topic)


@pytest.fixture
def transport(carrier: Carrier) -> Iterator[Transport]:
    """A connected transport."""
    made = carrier.make()
    connected(made)
    yield made
    made.close()


def connected(transport: Transport) -> int:
    """The topic's partitions; goes on while the other end has not answered, as the sender does."""
    partitions = list[int]()

    def answered() -> bool:
        with suppress(TransportConnecting):
            partitions.append(transport.connect(timeout_seconds=30))
        return bool(partitions)

    eventually(answered)
    return partitions[0]


def parcels_of(count: int, *, first_ticket: int = 1) -> list[Parcel]:
    """Parcels for four partitions that can be told apart, with records as the SDK makes them."""
    return [
        (ticket, *placed(ticket % 10), record(ticket))
        for ticket in range(first_ticket, first_ticket + count)
    ]


@cache
def placed(tenant: int) -> tuple[int, bytes]:
    """Partition and key of a tenant's records."""
    name = f"tenant {tenant}"
    return partition_of(lane_of(name), 4), name.encode()


@cache
def record(number: int) -> bytes:
    """The framed record of a numbered event."""
    tenant = f"tenant {number % 10}"
    event = MeterEvent(
        kind=EventKind.USAGE,
        tenant=tenant,
        type="api.request",
        time=number,
        quantity=1,
        scale=0,
        session=None,
        subject=None,
        attributes={},
        producer="0" * 32,
        lane=lane_of(tenant),
        sequence=number,
        key=None,
    )
    return codec.encode(event, SCHEMA)


def send_all(transport: Transport, parcels: list[Parcel]) -> list[Report]:
    """Send everything and wait for a report on everything."""
    reports: list[Report] = []
    deadline = time.monotonic() + 60
    waiting = parcels
    while len(reports) < len(parcels):
        assert time.monotonic() < deadline, f"{len(reports)} of {len(parcels)} reports"
        waiting = waiting[transport.send(waiting) :]
        reports += transport.poll(0.05)
    return reports


def test_connecting_tells_the_number_of_partitions(carrier: Carrier) -> None:
    """The placement of lanes depends on it."""
    transport = carrier.make()

    assert connected(transport) == 4
    transport.close()


def test_every_parcel_is_reported_once_with_the_place_where_it_lies(
    carrier: Carrier, transport: Transport
) -> None:
    """The offset of a report is where just these bytes are, in the partition that was named."""
    parcels = parcels_of(2500)

    reports = send_all(transport, parcels)

    assert sorted(ticket for ticket, _, _ in reports) == [parcel[0] for parcel in parcels]
    stored, by_ticket = carrier.stored(), {parcel[0]: parcel for parcel in parcels}
    for ticket, offset, failure in reports:
        assert failure is None
        assert offset is not None
        _, partition, key, value = by_ticket[ticket]
        assert stored[partition][offset] == (key, value)
    assert sum(map(len, stored.values())) == len(parcels)


def test_a_partition_keeps_the_order_of_sending(carrier: Carrier, transport: Transport) -> None:
    """Parcels of one partition lie as they were sent."""
    parcels = parcels_of(2000)

    send_all(transport, parcels)

    for partition, records in carrier.stored().items():
        assert records == [parcel[2:] for parcel in parcels if parcel[1] == partition]


def test_a_full_transport_takes_the_front_and_the_rest_later(transport: Transport) -> None:
    """What finds no room is not taken, or in doubt; it can be sent when there is room."""
    parcels = parcels_of(30_000)

    taken = transport.send(parcels)

    assert 0 < taken <= len(parcels)
    reports: list[Report] = []
    deadline = time.monotonic() + 60
    while len(reports) < taken:
        assert time.monotonic() < deadline
        reports += transport.poll(0.05)
    assert sorted(ticket for ticket, _, _ in reports) == [parcel[0] for parcel in parcels[:taken]]
    for _, offset, failure in reports:
        assert (offset is None) is (failure is not None)
        assert failure is None or not failure.permanent
    assert any(offset is not None for _, offset, _ in reports)
    again = parcels_of(10, first_ticket=40_001)
    assert all(offset is not None for _, offset, _ in send_all(transport, again))


def test_a_poll_with_nothing_under_way_is_empty(transport: Transport) -> None:
    """It returns after its time with no reports."""
    assert transport.poll(0) == []
    assert transport.poll(0.01) == []


def test_connecting_again_forgets_what_was_sent(transport: Transport) -> None:
    """Reports on what was sent before never come: the sender sends all of it again."""
    transport.send(parcels_of(100))

    assert connected(transport) == 4

    reports = send_all(transport, parcels_of(100, first_ticket=1001))
    assert sorted(ticket for ticket, _, _ in reports) == list(range(1001, 1101))


def test_without_a_connection_it_is_broken(carrier: Carrier) -> None:
    """Before connecting and after closing neither sending nor polling pretends to work."""
    transport = carrier.make()

    for _ in range(2):
        with pytest.raises(TransportBroken):
            transport.send(parcels_of(1))
        with pytest.raises(TransportBroken):
            transport.poll(0)
        connected(transport)
        transport.close()
        transport.close()


def test_an_absent_other_end_is_unavailable_within_the_time(carrier: Carrier) -> None:
    """The sentence says what is wrong, and nobody waits much longer than was allowed."""
    transport = carrier.unreachable()
    began = time.monotonic()

    with pytest.raises(TransportUnavailable) as problem:
        transport.connect(timeout_seconds=0.5)

    assert str(problem.value)
    assert time.monotonic() - began < 20
    transport.close()
