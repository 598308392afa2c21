"""The example catalogue for web services reads what the middlewares record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from meterstream import Meter
from meterstream.integrations.asgi import MeterMiddleware
from meterstream.memory import MemoryTransport
from meterstream_aggregator.catalogue_file import load_catalogue
from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from meterstream_schemas.events import MeterEvent

EXAMPLE = Path(__file__).parents[2] / "docs/examples/web-meters.yaml"


async def answer(request: Request) -> Response:
    """Answer with the status that the path names."""
    return PlainTextResponse("hello", int(request.path_params["status"]))


def recorded(*paths: str) -> list[MeterEvent]:
    """The events of requests, all of them charged."""
    transport = MemoryTransport()
    with Meter(transport=transport) as meter:
        app = Starlette(routes=[Route("/status/{status}", answer)])
        app.add_middleware(
            MeterMiddleware,
            meter=meter,
            tenant=lambda _: "acme",
            quantity="bytes_out",
            charge_failures=True,
        )
        client = TestClient(app)
        for path in paths:
            client.get(path)
        assert meter.flush(10)
    return arrived(transport)


def test_each_request_is_read_by_the_meters_that_are_of_its_status() -> None:
    """By type, status and route, as the middleware for ASGI records them."""
    meters = load_catalogue(EXAMPLE).meters
    paths = {200: "/status/200", 302: "/status/302", 404: "/nowhere", 503: "/status/503"}

    read = {}
    for status, path in paths.items():
        (event,) = recorded(path)
        attributes = dict(event.attributes)
        read[status] = {
            meter.name
            for meter in meters
            if meter.type == event.type and all(each.holds(attributes) for each in meter.where)
        }

    every = {"http.requests", "http.bytes_out"}
    assert read == {
        200: every | {"http.answered"},
        302: every | {"http.answered"},
        404: every | {"http.refused"},
        503: every | {"http.failed"},
    }


def test_it_groups_by_what_events_have() -> None:
    """A name that no event has would group everything under nothing."""
    (event,) = recorded("/status/200")

    grouped = {name for meter in load_catalogue(EXAMPLE).meters for name in meter.group_by}

    assert grouped == set(dict(event.attributes))
    assert event.quantity == len("hello")
