"""The ASGI middleware around Starlette and around bare applications."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient

from meterstream.context import AMBIENT
from meterstream.integrations.asgi import MeterMiddleware
from meterstream.memory import MemoryTransport
from meterstream_schemas.events import EventKind
from tests.unit.producers.integrations.told_web import Told, attributes_of, told
from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

    from meterstream import Meter
    from meterstream.integrations.asgi import App, Message, Receive, Scope, Send
    from tests.unit.producers.conftest import MakeMeter


@pytest.fixture
def meter(make_meter: MakeMeter) -> Meter:
    """A meter over ``transport``."""
    return make_meter()


def header(scope: Scope) -> str | None:
    """The tenant as a header tells it."""
    found = dict(scope["headers"]).get(b"x-tenant")
    return None if found is None else str(found.decode())


async def hello(request: Request) -> Response:
    """Answer with the body that came."""
    return PlainTextResponse(b"hello " + await request.body())


async def fails(request: Request) -> Response:
    """Raise."""
    raise RuntimeError("no luck")


async def unavailable(request: Request) -> Response:
    """Answer that it cannot."""
    return PlainTextResponse("later", 503)


async def streams(request: Request) -> Response:
    """Answer piece by piece."""

    async def pieces() -> AsyncIterator[str]:
        for _ in range(5):
            yield "piece"

    return StreamingResponse(pieces())


def served(meter: Meter, *routes: Any, **settings: Any) -> MeterMiddleware:  # noqa: ANN401 - as they come
    """A Starlette application behind the middleware."""
    app = Starlette(
        routes=[
            Route("/hello/{name}", hello, methods=["GET", "POST"]),
            Route("/fails", fails),
            Route("/unavailable", unavailable),
            Route("/streams", streams),
            *routes,
        ]
    )
    return MeterMiddleware(app, meter, **{"tenant": header, **settings})


async def ask(app: MeterMiddleware, method: str, path: str, **more: Any) -> httpx.Response:  # noqa: ANN401 - as httpx has it
    """One request of tenant acme."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path, **{"headers": {"x-tenant": "acme"}, **more})


def get(app: MeterMiddleware, path: str, **more: Any) -> httpx.Response:  # noqa: ANN401 - see ask
    """One GET of tenant acme."""
    return asyncio.run(ask(app, "GET", path, **more))


def test_a_request_becomes_an_event(meter: Meter, transport: MemoryTransport) -> None:
    """With method, template of the route and class of the status; the answer is untouched."""
    response = get(served(meter), "/hello/bob")

    assert (response.status_code, response.text) == (200, "hello ")
    assert told(meter, transport) == [
        Told(
            "http.request",
            "acme",
            1,
            {"method": "GET", "route": "/hello/{name}", "status": "2xx"},
        )
    ]


def test_paths_that_no_route_fits_share_their_attributes(
    meter: Meter, transport: MemoryTransport
) -> None:
    """However many there are, and whatever method a client makes up."""
    app = served(meter)
    for path in ("/nowhere/1", "/nowhere/2"):
        assert get(app, path).status_code == 404
    asyncio.run(ask(app, "BREW", "/hello/x"))

    assert attributes_of(meter, transport) == [
        {"method": "GET", "status": "4xx"},
        {"method": "GET", "status": "4xx"},
        {"method": "other", "route": "/hello/{name}", "status": "4xx"},
    ]


@pytest.mark.parametrize(("quantity", "expected"), [("bytes_out", 10), ("bytes_in", 4)])
def test_bytes_are_counted(
    meter: Meter, transport: MemoryTransport, quantity: str, expected: int
) -> None:
    """Of the request's body or the answer's."""
    response = asyncio.run(
        ask(served(meter, quantity=quantity), "POST", "/hello/x", content=b"body")
    )

    assert response.text == "hello body"
    assert [event.quantity for event in told(meter, transport)] == [expected]


def test_a_stream_is_one_event_with_all_its_bytes(meter: Meter, transport: MemoryTransport) -> None:
    """Recorded when the last piece is out."""
    assert get(served(meter, quantity="bytes_out"), "/streams").text == "piece" * 5

    assert [event.quantity for event in told(meter, transport)] == [25]


def test_time_is_counted_in_milliseconds(meter: Meter, transport: MemoryTransport) -> None:
    """A whole number of them."""

    async def slow(request: Request) -> Response:
        await asyncio.sleep(0.03)
        return PlainTextResponse("")

    get(served(meter, Route("/slow", slow), quantity="ms"), "/slow")

    assert told(meter, transport)[0].quantity >= 29


@pytest.mark.parametrize("path", ["/fails", "/unavailable"])
def test_what_failed_is_charged_by_choice(
    meter: Meter, transport: MemoryTransport, path: str
) -> None:
    """An exception and a 5xx alike; both are answered as without the middleware."""
    assert get(served(meter), path).status_code in {500, 503}
    assert told(meter, transport) == []

    get(served(meter, charge_failures=True), path)
    assert [found["status"] for found in attributes_of(meter, transport)] == ["5xx"]


def test_an_exception_passes_as_it_is(meter: Meter, transport: MemoryTransport) -> None:
    """Also out of a bare application that answered nothing."""

    async def bare(scope: Scope, receive: Receive, send: Send) -> None:
        raise KeyError("mine")

    app = MeterMiddleware(bare, meter, tenant=lambda _: "acme", charge_failures=True)
    with pytest.raises(KeyError, match="mine"):
        TestClient(app).get("/")

    assert attributes_of(meter, transport) == [{"method": "GET", "status": "5xx"}]


def test_no_tenant_is_not_metered_and_one_that_is_found_inside_is(
    meter: Meter, transport: MemoryTransport
) -> None:
    """The tenant is asked for again after the application, which may have authenticated."""

    async def login(request: Request) -> Response:
        request.scope["user"] = "acme"
        return PlainTextResponse("")

    app = served(meter, Route("/login", login), tenant=lambda scope: scope.get("user"))
    get(app, "/hello/x")
    get(app, "/login")

    assert [found["route"] for found in attributes_of(meter, transport)] == ["/login"]
    assert meter.status().dropped == {}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("place", ["tenant", "attributes", "skip"])
def test_a_function_that_raises_is_counted_and_harms_nobody(
    make_meter: MakeMeter, transport: MemoryTransport, place: str, strict: bool
) -> None:
    """Once per request, in strict too; the answer is untouched."""
    meter = make_meter(strict=strict)

    def raises(scope: Scope) -> None:
        raise LookupError("no database")

    response = get(served(meter, **{place: raises}), "/hello/x")

    assert response.text == "hello "
    assert told(meter, transport) == []
    assert meter.status().dropped == {"invalid": 1}
    assert "no database" in str(meter.status().last_error)


@pytest.mark.parametrize("strict", [False, True])
def test_a_tenant_that_is_none_of_ours_is_counted_once(
    make_meter: MakeMeter, transport: MemoryTransport, strict: bool
) -> None:
    """A wrong argument goes the way of all wrong arguments."""
    meter = make_meter(strict=strict)

    assert get(served(meter, tenant=lambda _: 7), "/hello/x").text == "hello "

    assert meter.status().dropped == {"invalid": 1}


def test_skipped_requests_are_not_metered(meter: Meter, transport: MemoryTransport) -> None:
    """Such as health checks."""
    app = served(meter, skip=lambda scope: scope["path"].startswith("/hello"))
    get(app, "/hello/x")
    get(app, "/streams")

    assert [found["route"] for found in attributes_of(meter, transport)] == ["/streams"]


def test_what_is_recorded_inside_needs_no_tenant(meter: Meter, transport: MemoryTransport) -> None:
    """Nor in background tasks; behind the request nothing of it holds any more."""

    def later() -> None:
        meter.record("report.sent")

    async def reports(request: Request) -> Response:
        with meter.context(attributes={"part": "inner"}, subject="bob"):
            meter.record("report.made", quantity=3)
            return PlainTextResponse("", background=BackgroundTask(later))

    get(served(meter, Route("/reports", reports)), "/reports")

    assert AMBIENT.get() is None
    found = {event.type: event for event in told(meter, transport)}
    assert {event.tenant for event in found.values()} == {"acme"}
    assert found["report.made"].attributes == {"part": "inner"}
    assert found["http.request"].attributes.keys() == {"method", "route", "status"}
    assert found.keys() == {"report.made", "report.sent", "http.request"}


def test_a_request_has_nothing_of_blocks_inside(meter: Meter, transport: MemoryTransport) -> None:
    """Its event is the same wherever the application sends the last piece."""

    async def bare(scope: Scope, receive: Receive, send: Send) -> None:
        with meter.context(attributes={"part": "inner"}, subject="bob"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    run_bare(MeterMiddleware(bare, meter, tenant=lambda _: "acme"), [])

    assert attributes_of(meter, transport) == [{"method": "GET", "status": "2xx"}]
    assert [event.subject for event in arrived(transport)] == [None]


def test_an_application_may_change_what_is_charged(
    meter: Meter, transport: MemoryTransport
) -> None:
    """Quantity and attributes of the request's own event, and attributes by a function."""

    async def counts(request: Request) -> Response:
        request.scope["meterstream"].quantity = "2.5"
        request.scope["meterstream"].attributes["model"] = "small"
        return PlainTextResponse("")

    app = served(
        meter, Route("/counts", counts), attributes=lambda scope: {"path": scope["path"][:3]}
    )
    get(app, "/counts")

    [event] = arrived(transport) if meter.flush(10) else []
    assert (event.quantity, event.scale) == (25, 1)
    assert event.attributes["model"] == "small"
    assert event.attributes["path"] == "/co"


def test_concurrent_requests_keep_their_tenants(meter: Meter, transport: MemoryTransport) -> None:
    """Each task has its own."""

    async def works(request: Request) -> Response:
        await asyncio.sleep(0)
        meter.record("work", attributes={"told": request.headers["x-tenant"]})
        return PlainTextResponse("")

    async def many(app: MeterMiddleware) -> None:
        await asyncio.gather(
            *(ask(app, "GET", "/works", headers={"x-tenant": f"t{n}"}) for n in range(20))
        )

    asyncio.run(many(served(meter, Route("/works", works))))

    work = [event for event in told(meter, transport) if event.type == "work"]
    assert len(work) == 20
    assert all(event.tenant == event.attributes["told"] for event in work)


def run_bare(app: MeterMiddleware, messages: list[Message], *, broken_send: bool = False) -> None:
    """One request by hand: what the client does comes from ``messages``."""
    coming = iter(messages)

    async def receive() -> Message:
        return next(coming)

    async def send(message: Message) -> None:
        if broken_send and message["type"] == "http.response.body":
            raise OSError("client is gone")

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(app(scope, receive, send))


def test_a_client_that_leaves_is_charged_and_told_apart(
    meter: Meter, transport: MemoryTransport
) -> None:
    """Whether the server says so to who listens, or to who sends, or cancels."""

    async def listens(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await receive()

    async def sends(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async def cancelled(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    def metered(app: App) -> MeterMiddleware:
        return MeterMiddleware(app, meter, tenant=lambda _: "acme")

    run_bare(metered(listens), [{"type": "http.disconnect"}])
    with pytest.raises(OSError, match="gone"):
        run_bare(metered(sends), [], broken_send=True)
    with pytest.raises(asyncio.CancelledError):
        run_bare(metered(cancelled), [])

    assert [found["status"] for found in attributes_of(meter, transport)] == ["disconnected"] * 3


def test_other_scopes_pass(meter: Meter, transport: MemoryTransport) -> None:
    """The lifespan of an application is nobody's request."""
    with TestClient(served(meter)):
        pass

    assert told(meter, transport) == []


def test_a_mounted_application_is_metered(meter: Meter, transport: MemoryTransport) -> None:
    """Its routes are its own."""
    inner = Mount("/inner", routes=[Route("/deep/{id}", hello)])

    assert get(served(meter, inner), "/inner/deep/4").status_code == 200

    assert attributes_of(meter, transport)[0]["route"].endswith("/deep/{id}")


@pytest.mark.parametrize("raises", [False, True])
def test_an_open_websocket_is_a_session(
    meter: Meter, transport: MemoryTransport, raises: bool
) -> None:
    """From being accepted to its end, however that comes; inside, events need no tenant."""

    async def chat(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()
        meter.record("chat.message")
        await websocket.send_text("yes")
        if raises:
            raise RuntimeError("no luck")
        await websocket.close()

    app = served(meter, WebSocketRoute("/chat/{room}", chat), websocket_type="chat.session")
    client: Any = TestClient(app)
    try:
        with client.websocket_connect("/chat/1", headers={"x-tenant": "acme"}) as websocket:
            websocket.send_text("hello")
            assert websocket.receive_text() == "yes"
    except RuntimeError:
        assert raises

    assert meter.flush(10)
    events = {event.kind: event for event in arrived(transport)}
    assert events.keys() == {EventKind.SESSION_START, EventKind.USAGE, EventKind.SESSION_END}
    assert {event.tenant for event in events.values()} == {"acme"}
    assert events[EventKind.SESSION_START].attributes == {"route": "/chat/{room}"}
    assert meter.status().open_sessions == 0


@pytest.mark.parametrize(
    ("settings", "dropped"),
    [
        ({}, {}),
        ({"websocket_type": "chat", "tenant": lambda _: None}, {}),
        ({"websocket_type": "chat", "attributes": lambda scope: scope["no such"]}, {"invalid": 1}),
        ({"websocket_type": "", "tenant": lambda _: "acme"}, {"invalid": 1}),
    ],
)
def test_a_websocket_that_cannot_be_metered_works_all_the_same(
    make_meter: MakeMeter,
    transport: MemoryTransport,
    settings: dict[str, Any],
    dropped: dict[str, int],
) -> None:
    """Without a type or a tenant it is not metered; what is wrong is counted, in strict too."""
    meter = make_meter(strict=True)

    async def chat(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("yes")
        await websocket.close()

    client = TestClient(served(meter, WebSocketRoute("/chat", chat), **settings))
    with client.websocket_connect("/chat", headers={"x-tenant": "acme"}) as websocket:
        assert websocket.receive_text() == "yes"

    assert meter.flush(10)
    assert arrived(transport) == []
    assert meter.status().dropped == dropped
