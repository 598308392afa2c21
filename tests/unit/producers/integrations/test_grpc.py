"""The interceptors of gRPC, in real servers on this machine, with handlers of plain bytes."""

# ruff: noqa: ANN401 - gRPC publishes no types

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from meterstream.integrations.calls import current_charge
from meterstream.integrations.grpc import AioMeterInterceptor, MeterInterceptor
from tests.unit.producers.integrations.told_web import Told, attributes_of, told
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from meterstream import Meter
    from meterstream.integrations.grpc import Call
    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter

ACME = (("x-tenant", "acme"),)
THREE = [b"one", b"two", b"three"]


@pytest.fixture
def meter(make_meter: MakeMeter) -> Meter:
    """A meter over ``transport``."""
    return make_meter()


def header(call: Call) -> str | None:
    """The tenant as the metadata tell it."""
    found = call.metadata.get("x-tenant")
    return None if found is None else str(found)


class Blocking:
    """A service of functions that run in threads."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.began = threading.Event()
        self.release = threading.Event()

    def echo(self, request: bytes, context: Any) -> bytes:
        """One for one."""
        self.meter.record("inside")
        if request == b"charge":
            charge = current_charge()
            assert charge is not None
            charge.quantity = 9
        return request

    def repeat(self, request: bytes, context: Any) -> Iterator[bytes]:
        """Three for one."""
        for _ in range(3):
            self.meter.record("inside")
            yield request

    def count(self, requests: Iterator[bytes], context: Any) -> bytes:
        """One for many."""
        return b"%d" % len(list(requests))

    def mirror(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """As many as came."""
        yield from requests

    def abort(self, request: bytes, context: Any) -> bytes:
        """End with the code that is asked for."""
        context.abort(grpc.StatusCode[request.decode()], "as asked")
        return b""

    def fails(self, request: bytes, context: Any) -> bytes:
        """Raise."""
        raise RuntimeError("no luck")

    def hang(self, request: bytes, context: Any) -> bytes:
        """Wait for the test's end."""
        self.began.set()
        self.release.wait(20)
        return b""

    def endless(self, request: bytes, context: Any) -> Iterator[bytes]:
        """Answer until nobody listens."""
        while context.is_active():
            yield request


class Concurrent(Blocking):
    """The same service as coroutines and asynchronous generators."""

    async def echo(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]  # a twin
        """One for one."""
        return Blocking.echo(self, request, context)

    async def repeat(self, request: bytes, context: Any) -> AsyncIterator[bytes]:  # type: ignore[override]  # a twin
        """Three for one."""
        for _ in range(3):
            self.meter.record("inside")
            yield request

    async def count(self, requests: AsyncIterator[bytes], context: Any) -> bytes:  # type: ignore[override]  # a twin
        """One for many."""
        return b"%d" % len([request async for request in requests])

    async def mirror(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:  # type: ignore[override]  # a twin
        """As many as came."""
        async for request in requests:
            yield request

    async def abort(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]  # a twin
        """End with the code that is asked for."""
        await context.abort(grpc.StatusCode[request.decode()], "as asked")
        return b""

    async def fails(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]  # a twin
        """Raise."""
        raise RuntimeError("no luck")

    async def hang(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]  # a twin
        """Wait until cancelled."""
        self.began.set()
        await asyncio.sleep(20)
        return b""

    async def endless(self, request: bytes, context: Any) -> AsyncIterator[bytes]:  # type: ignore[override]  # a twin
        """Answer until nobody listens."""
        while True:
            yield request
            await asyncio.sleep(0)


KINDS = {
    "echo": "unary_unary",
    "abort": "unary_unary",
    "fails": "unary_unary",
    "hang": "unary_unary",
    "repeat": "unary_stream",
    "endless": "unary_stream",
    "count": "stream_unary",
    "mirror": "stream_stream",
}


def handlers(service: Blocking) -> Any:
    """The service as generic handlers, whose messages are bytes."""
    return grpc.method_handlers_generic_handler(
        "test.Service",
        {
            name: getattr(grpc, f"{kind}_rpc_method_handler")(getattr(service, name))
            for name, kind in KINDS.items()
        },
    )


class Client:
    """Calls the methods of the service by their names."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, KINDS.get(name, "unary_unary"))(f"/test.Service/{name}")


@contextmanager
def blocking(meter: Meter, **settings: Any) -> Iterator[tuple[Client, Blocking]]:
    """A server with threads."""
    service = Blocking(meter)
    interceptor = MeterInterceptor(meter, **{"tenant": header, **settings})
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, interceptors=[interceptor])
        server.add_generic_rpc_handlers([handlers(service)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield Client(channel), service
        finally:
            service.release.set()
            server.stop(5).wait()


@asynccontextmanager
async def concurrent(meter: Meter, **settings: Any) -> AsyncIterator[tuple[Client, Blocking]]:
    """A server in an event loop."""
    service = settings.pop("service", Concurrent)(meter)
    interceptor = AioMeterInterceptor(meter, **{"tenant": header, **settings})
    server = grpc.aio.server(interceptors=[interceptor])
    server.add_generic_rpc_handlers([handlers(service)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Client(channel), service
    finally:
        service.release.set()
        await server.stop(0)


def four_kinds(meter: Meter, **settings: Any) -> None:
    """One call of each kind, to a server with threads."""
    with blocking(meter, **settings) as (client, _):
        assert client.echo(b"hello", metadata=ACME) == b"hello"
        assert list(client.repeat(b"hello", metadata=ACME)) == [b"hello"] * 3
        assert client.count(iter(THREE), metadata=ACME) == b"3"
        assert list(client.mirror(iter(THREE), metadata=ACME)) == THREE


async def four_kinds_async(meter: Meter, **settings: Any) -> None:
    """One call of each kind, to a server in an event loop."""
    async with concurrent(meter, **settings) as (client, _):
        assert await client.echo(b"hello", metadata=ACME) == b"hello"
        assert [piece async for piece in client.repeat(b"hello", metadata=ACME)] == [b"hello"] * 3
        assert await client.count(iter(THREE), metadata=ACME) == b"3"
        assert [piece async for piece in client.mirror(iter(THREE), metadata=ACME)] == THREE


def run_four_kinds(kind: str, meter: Meter, **settings: Any) -> None:
    """One call of each kind, to either server."""
    if kind == "blocking":
        four_kinds(meter, **settings)
    else:
        asyncio.run(four_kinds_async(meter, **settings))


@pytest.mark.parametrize("kind", ["blocking", "concurrent"])
def test_each_kind_of_call_becomes_an_event(
    meter: Meter, transport: MemoryTransport, kind: str
) -> None:
    """Messages pass as they are; what handlers record needs no tenant."""
    run_four_kinds(kind, meter)

    events = told(meter, transport)
    assert [event for event in events if event.type == "grpc.call"] == [
        Told("grpc.call", "acme", 1, {"method": f"/test.Service/{name}", "code": "OK"})
        for name in ("echo", "repeat", "count", "mirror")
    ]
    assert [event.tenant for event in events if event.type == "inside"] == ["acme"] * 4


@pytest.mark.parametrize("kind", ["blocking", "concurrent"])
@pytest.mark.parametrize(
    ("quantity", "expected"), [("messages_in", [1, 1, 3, 3]), ("messages_out", [1, 3, 1, 3])]
)
def test_messages_are_counted(
    meter: Meter, transport: MemoryTransport, kind: str, quantity: str, expected: list[int]
) -> None:
    """In either direction, streamed or not."""
    run_four_kinds(kind, meter, quantity=quantity)

    events = told(meter, transport)
    assert [event.quantity for event in events if event.type == "grpc.call"] == expected


@pytest.mark.parametrize("charge_failures", [False, True])
@pytest.mark.parametrize("kind", ["blocking", "concurrent"])
def test_failures_are_charged_by_choice(
    meter: Meter, transport: MemoryTransport, kind: str, charge_failures: bool
) -> None:
    """What the server refused by a code of the caller's fault is charged; clients see the same."""
    asked = [("abort", b"NOT_FOUND"), ("abort", b"UNAVAILABLE"), ("fails", b"")]
    seen: list[str] = []

    def ask() -> None:
        with blocking(meter, charge_failures=charge_failures) as (client, _):
            for name, request in asked:
                with pytest.raises(grpc.RpcError) as problem:
                    getattr(client, name)(request, metadata=ACME)
                seen.append(problem.value.code().name)

    async def ask_async() -> None:
        async with concurrent(meter, charge_failures=charge_failures) as (client, _):
            for name, request in asked:
                with pytest.raises(grpc.aio.AioRpcError) as problem:
                    await getattr(client, name)(request, metadata=ACME)
                seen.append(problem.value.code().name)

    if kind == "blocking":
        ask()
    else:
        asyncio.run(ask_async())

    assert seen == ["NOT_FOUND", "UNAVAILABLE", "UNKNOWN"]
    assert [found["code"] for found in attributes_of(meter, transport)] == (
        seen if charge_failures else ["NOT_FOUND"]
    )


def test_a_call_that_its_client_cancels_is_charged(
    meter: Meter, transport: MemoryTransport
) -> None:
    """One that waits and one that streams; each once."""
    with blocking(meter) as (client, service):
        waiting = client.hang.future(b"", metadata=ACME)
        assert service.began.wait(10)
        waiting.cancel()
        eventually(lambda: meter.status().recorded == 1)
        stream = client.endless(b"more", metadata=ACME)
        assert next(stream) == b"more"
        stream.cancel()
        eventually(lambda: meter.status().recorded == 2)

    assert attributes_of(meter, transport) == [
        {"method": "/test.Service/hang", "code": "CANCELLED"},
        {"method": "/test.Service/endless", "code": "CANCELLED"},
    ]


def test_a_call_in_an_event_loop_that_its_client_cancels_is_charged(
    meter: Meter, transport: MemoryTransport
) -> None:
    """One that waits and one that streams; each once."""

    async def cancel() -> None:
        async with concurrent(meter) as (client, service):
            waiting = client.hang(b"", metadata=ACME)
            await asyncio.to_thread(service.began.wait, 10)
            waiting.cancel()
            await asyncio.to_thread(eventually, lambda: meter.status().recorded == 1)
            stream = client.endless(b"more", metadata=ACME)
            async for _ in stream:
                break
            stream.cancel()
            await asyncio.to_thread(eventually, lambda: meter.status().recorded == 2)

    asyncio.run(cancel())

    assert attributes_of(meter, transport) == [
        {"method": "/test.Service/hang", "code": "CANCELLED"},
        {"method": "/test.Service/endless", "code": "CANCELLED"},
    ]


def test_a_deadline_that_is_over_is_a_failure(meter: Meter, transport: MemoryTransport) -> None:
    """The server was too slow: charged by choice."""
    with (
        blocking(meter, charge_failures=True) as (client, _),
        pytest.raises(grpc.RpcError, match="DEADLINE_EXCEEDED"),
    ):
        client.hang(b"", metadata=ACME, timeout=0.2)

    assert [found["code"] for found in attributes_of(meter, transport)] == ["DEADLINE_EXCEEDED"]


@pytest.mark.parametrize("kind", ["blocking", "concurrent"])
def test_nobodys_skipped_and_unknown_calls_are_not_metered(
    meter: Meter, transport: MemoryTransport, kind: str
) -> None:
    """An unknown method is answered as without the interceptor."""

    def ask() -> None:
        with blocking(meter, skip=lambda method: method.endswith("/count")) as (client, _):
            assert client.echo(b"hello") == b"hello"
            assert client.count(iter(THREE), metadata=ACME) == b"3"
            with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
                client.unknown(b"", metadata=ACME)

    async def ask_async() -> None:
        skip = "/test.Service/count".__eq__
        async with concurrent(meter, skip=skip) as (client, _):
            assert await client.echo(b"hello") == b"hello"
            assert await client.count(iter(THREE), metadata=ACME) == b"3"
            with pytest.raises(grpc.aio.AioRpcError, match="UNIMPLEMENTED"):
                await client.unknown(b"", metadata=ACME)

    if kind == "blocking":
        ask()
    else:
        asyncio.run(ask_async())

    # What the handler recorded had no tenant either.
    assert told(meter, transport) == []
    assert meter.status().dropped == {"invalid": 1}


@pytest.mark.parametrize("kind", ["blocking", "concurrent"])
@pytest.mark.parametrize("place", ["tenant", "attributes", "skip"])
def test_a_function_that_raises_is_counted_and_harms_nobody(
    make_meter: MakeMeter, transport: MemoryTransport, place: str, kind: str
) -> None:
    """Once per call, in strict too."""
    meter = make_meter(strict=True)

    def raises(call: object) -> None:
        raise LookupError("no database")

    def ask() -> None:
        with blocking(meter, **{place: raises}) as (client, _):
            assert client.count(iter(THREE), metadata=ACME) == b"3"

    async def ask_async() -> None:
        async with concurrent(meter, **{place: raises}) as (client, _):
            assert await client.count(iter(THREE), metadata=ACME) == b"3"

    if kind == "blocking":
        ask()
    else:
        asyncio.run(ask_async())

    assert told(meter, transport) == []
    assert meter.status().dropped == {"invalid": 1}


def test_a_handler_says_what_it_is_charged(meter: Meter, transport: MemoryTransport) -> None:
    """In threads and in an event loop, where plain functions may be handlers, too."""

    async def ask(service: type[Blocking]) -> None:
        async with concurrent(meter, service=service) as (client, _):
            assert await client.echo(b"charge", metadata=ACME) == b"charge"

    with blocking(meter) as (client, _):
        client.echo(b"charge", metadata=ACME)
    asyncio.run(ask(Concurrent))
    asyncio.run(ask(Blocking))

    events = told(meter, transport)
    assert [event.quantity for event in events if event.type == "grpc.call"] == [9, 9, 9]
    assert current_charge() is None
