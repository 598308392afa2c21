"""The WSGI middleware, held by the standard library's validator."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any
from wsgiref.handlers import SimpleHandler
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest

from meterstream.context import AMBIENT
from meterstream.integrations.wsgi import MeterMiddleware
from tests.unit.producers.integrations.told_web import Told, attributes_of, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from meterstream import Meter
    from meterstream.integrations.wsgi import App, Environ, StartResponse
    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter


@pytest.fixture
def meter(make_meter: MakeMeter) -> Meter:
    """A meter over ``transport``."""
    return make_meter()


def environ_of(**values: str) -> Environ:
    """A request of tenant acme."""
    environ: Environ = {"REMOTE_USER": "acme", "QUERY_STRING": "", **values}
    setup_testing_defaults(environ)
    return environ


def tenant_of(environ: Environ) -> str | None:
    """Who the server authenticated."""
    found = environ.get("REMOTE_USER")
    return None if found is None else str(found)


def metered(app: App, meter: Meter, **settings: Any) -> MeterMiddleware:  # noqa: ANN401 - as many types as settings
    """The application behind the middleware."""
    return MeterMiddleware(app, meter, **{"tenant": tenant_of, **settings})


def start(*head: object) -> Callable[[bytes], object]:
    """A server's ``start_response`` that sends nothing."""
    return lambda data: None


class Quiet(SimpleHandler):
    """The standard library's server, without tracebacks."""

    def log_exception(self, exc_info: object) -> None:
        """Say nothing."""


def serve(app: App, environ: Environ | None = None) -> bytes:
    """What the standard library's server sends for a request, head and all."""
    out, errors = io.BytesIO(), io.StringIO()
    handler = Quiet(io.BytesIO(), out, errors, environ or environ_of())
    handler.run(app)
    return out.getvalue()


def hello(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Answer in one piece."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def test_a_request_becomes_an_event(meter: Meter, transport: MemoryTransport) -> None:
    """With method, class of the status, and the route that a function finds."""
    app = metered(validator(hello), meter, route=lambda environ: "/" + environ["SCRIPT_NAME"])

    answer = serve(validator(app))

    assert answer.endswith(b"hello")
    assert told(meter, transport) == [
        Told("http.request", "acme", 1, {"method": "GET", "route": "/", "status": "2xx"})
    ]


def test_an_answer_of_one_piece_keeps_its_length(meter: Meter, transport: MemoryTransport) -> None:
    """The server announces the same as without the middleware."""
    assert serve(metered(hello, meter)) == serve(hello)
    assert b"Content-Length: 5" in serve(metered(hello, meter))


def test_a_generator_is_one_event_with_all_its_bytes(
    meter: Meter, transport: MemoryTransport
) -> None:
    """And what it records between its pieces needs no tenant."""

    def pieces(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        for _ in range(3):
            yield b"piece"
            meter.record("piece.made")

    answer = serve(validator(metered(validator(pieces), meter, quantity="bytes_out")))

    assert answer.endswith(b"piece" * 3)
    events = told(meter, transport)
    assert sorted((event.type, event.quantity) for event in events) == [
        ("http.request", 15),
        *[("piece.made", 1)] * 3,
    ]
    assert {event.tenant for event in events} == {"acme"}
    assert AMBIENT.get() is None


def test_what_is_written_the_old_way_is_counted(meter: Meter, transport: MemoryTransport) -> None:
    """By the callable that ``start_response`` returns."""

    def writes(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("201 Created", [("Content-Type", "text/plain")])
        write(b"one")
        write(b"two")
        return [b"three"]

    assert serve(validator(metered(writes, meter, quantity="bytes_out"))).endswith(b"onetwothree")

    [event] = told(meter, transport)
    assert (event.quantity, event.attributes["status"]) == (11, "2xx")


def test_a_file_is_closed_and_counted(meter: Meter, transport: MemoryTransport) -> None:
    """The iterable's ``close`` is called once, by the server through the middleware."""
    file = io.BytesIO(b"x" * 20_000)

    def sends(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return FileWrapper(file)

    serve(metered(sends, meter, quantity="bytes_out"))

    assert file.closed
    assert [event.quantity for event in told(meter, transport)] == [20_000]


def in_call(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Raise at once."""
    raise RuntimeError("no luck")


def in_iteration(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    """Raise behind the first piece."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"half"
    raise RuntimeError("no luck")


class InClose:
    """Raise when closed, before the end."""

    def __init__(self, environ: Environ, start_response: StartResponse) -> None:
        start_response("200 OK", [("Content-Type", "text/plain")])

    def __iter__(self) -> Iterator[bytes]:
        yield b"half"

    def close(self) -> None:
        """Raise."""
        raise RuntimeError("no luck")


def answered(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Answer that it cannot."""
    start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
    return [b"later"]


@pytest.mark.parametrize("app", [in_call, in_iteration, answered])
def test_what_failed_is_charged_by_choice(
    meter: Meter, transport: MemoryTransport, app: App
) -> None:
    """Wherever it raised, and whatever it had announced before."""
    serve(metered(app, meter))
    assert told(meter, transport) == []

    assert serve(metered(app, meter, charge_failures=True)) == serve(app)
    assert [found["status"] for found in attributes_of(meter, transport)] == ["5xx"]


def test_an_exception_passes_as_it_is(meter: Meter) -> None:
    """Out of the call, out of the answer and out of its close."""
    with pytest.raises(RuntimeError, match="no luck"):
        metered(in_call, meter)(environ_of(), start)
    with pytest.raises(RuntimeError, match="no luck"):
        list(metered(in_iteration, meter)(environ_of(), start))
    answer: Any = metered(InClose, meter)(environ_of(), start)
    with pytest.raises(RuntimeError, match="no luck"):
        answer.close()
    assert AMBIENT.get() is None


def test_an_answer_that_is_closed_before_its_end_is_told_apart(
    meter: Meter, transport: MemoryTransport
) -> None:
    """The client left; also while the server handles the exception that says so."""
    app = metered(in_iteration, meter, quantity="bytes_out")
    answers: list[Any] = [app(environ_of(), start) for _ in range(2)]
    for answer in answers:
        assert next(answer) == b"half"
    answers[0].close()
    try:
        int("what a server met while it sent")
    except ValueError:
        answers[1].close()
    answers[1].close()

    assert [(event.quantity, event.attributes["status"]) for event in told(meter, transport)] == [
        (4, "disconnected"),
        (4, "disconnected"),
    ]


def test_no_tenant_is_not_metered_and_one_that_is_found_inside_is(
    meter: Meter, transport: MemoryTransport
) -> None:
    """The tenant is asked for again after the application."""

    def login(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ["user"] = "acme"
        return hello(environ, start_response)

    for app in (hello, login):
        serve(metered(app, meter, tenant=lambda environ: environ.get("user")))

    assert [event.tenant for event in told(meter, transport)] == ["acme"]
    assert meter.status().dropped == {}


def test_skipped_requests_are_not_metered(meter: Meter, transport: MemoryTransport) -> None:
    """They are not even wrapped."""
    app = metered(hello, meter, skip=lambda environ: environ["PATH_INFO"] == "/health")
    answer = app(environ_of(PATH_INFO="/health"), start)

    assert answer == [b"hello"]
    serve(app)
    assert len(told(meter, transport)) == 1


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("place", ["tenant", "route", "attributes", "skip"])
def test_a_function_that_raises_is_counted_and_harms_nobody(
    make_meter: MakeMeter, transport: MemoryTransport, place: str, strict: bool
) -> None:
    """Once per request, in strict too; the answer is untouched."""
    meter = make_meter(strict=strict)

    def raises(environ: Environ) -> None:
        raise LookupError("no database")

    assert serve(metered(hello, meter, **{place: raises})).endswith(b"hello")

    assert told(meter, transport) == []
    assert meter.status().dropped == {"invalid": 1}


def test_announced_bytes_and_own_quantities_are_counted(
    meter: Meter, transport: MemoryTransport
) -> None:
    """The body's length as the client told it, or what the application says."""

    def counts(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ["meterstream.charge"].quantity = 7
        environ["meterstream.charge"].attributes["model"] = "small"
        return hello(environ, start_response)

    for app in (hello, counts):
        environ = environ_of(REQUEST_METHOD="POST", CONTENT_LENGTH="12")
        serve(metered(app, meter, quantity="bytes_in"), environ)

    assert [
        (event.quantity, event.attributes.get("model")) for event in told(meter, transport)
    ] == [
        (12, None),
        (7, "small"),
    ]


def test_an_unknown_quantity_is_refused_at_once(meter: Meter) -> None:
    """When the middleware is set up, not at the first request."""
    with pytest.raises(ValueError, match="'bytes' is none of"):
        metered(hello, meter, quantity="bytes")
