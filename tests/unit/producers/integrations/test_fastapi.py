"""The FastAPI dependency: routes that have it are metered when their function has ended."""

# No postponed annotations of parameters here: FastAPI reads them.
from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from meterstream.context import AMBIENT
from meterstream.integrations.asgi import MeterMiddleware
from meterstream.integrations.fastapi import Charge, metered
from tests.unit.producers.integrations.told_web import Told, attributes_of, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meterstream import Meter
    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter


@pytest.fixture
def meter(make_meter: MakeMeter) -> Meter:
    """A meter over ``transport``."""
    return make_meter()


async def current_tenant(x_tenant: Annotated[str | None, Header()] = None) -> str | None:
    """A dependency as an application has it."""
    if x_tenant == "nobody":
        raise HTTPException(401)
    return x_tenant


def served(app: FastAPI) -> TestClient:
    """A client of tenant acme."""
    return TestClient(app, raise_server_exceptions=False, headers={"x-tenant": "acme"})


def app_of(meter: Meter, **settings: Any) -> FastAPI:  # noqa: ANN401 - as many types as settings
    """An application with a metered route of each kind."""
    app = FastAPI()
    dependency = metered(meter, "llm.completion", **{"tenant": current_tenant, **settings})

    @app.post("/chat/{room}")
    async def chat(room: str, charge: Charge = Depends(dependency)) -> str:  # noqa: B008 - FastAPI's way
        charge.quantity = 42
        charge.attributes["model"] = "small"
        meter.record("inside")
        return room

    @app.get("/plain", dependencies=[Depends(dependency)])
    def plain() -> str:
        meter.record("inside")
        return "plain"

    @app.get("/missing", dependencies=[Depends(dependency)])
    async def missing() -> None:
        raise HTTPException(404)

    @app.get("/fails", dependencies=[Depends(dependency)])
    async def fails() -> None:
        raise RuntimeError("no luck")

    @app.get("/gone", dependencies=[Depends(dependency)])
    async def gone() -> None:
        raise HTTPException(503)

    @app.get("/streams", dependencies=[Depends(dependency)])
    def streams() -> StreamingResponse:
        return StreamingResponse(iter(["a", "b"]))

    @app.get("/free")
    async def free() -> str:
        return "free"

    return app


def test_a_route_says_what_it_is_charged(meter: Meter, transport: MemoryTransport) -> None:
    """Quantity and attributes by the route's function; method and template beside them."""
    response = served(app_of(meter)).post("/chat/blue")

    assert (response.status_code, response.json()) == (200, "blue")
    by_type = {event.type: event for event in told(meter, transport)}
    assert by_type["llm.completion"] == Told(
        "llm.completion",
        "acme",
        42,
        {"method": "POST", "route": "/chat/{room}", "model": "small"},
    )
    assert by_type["inside"].tenant == "acme"
    assert AMBIENT.get() is None


def test_a_function_in_a_thread_has_the_tenant_too(
    meter: Meter, transport: MemoryTransport
) -> None:
    """FastAPI runs plain functions in threads."""
    assert served(app_of(meter)).get("/plain").json() == "plain"

    assert {(event.type, event.tenant) for event in told(meter, transport)} == {
        ("inside", "acme"),
        ("llm.completion", "acme"),
    }


def test_only_routes_that_depend_on_it_are_metered(
    meter: Meter, transport: MemoryTransport
) -> None:
    """And of those only calls that have a tenant."""
    app = app_of(meter)
    assert served(app).get("/free").json() == "free"
    assert TestClient(app).get("/streams").text == "ab"
    assert served(app).get("/plain", headers={"x-tenant": "nobody"}).status_code == 401

    assert told(meter, transport) == []
    assert meter.status().dropped == {}


def test_failures_are_charged_by_choice(meter: Meter, transport: MemoryTransport) -> None:
    """A refusal below 500 is the caller's; anything else is ours."""
    client = served(app_of(meter))
    statuses = [client.get(path).status_code for path in ("/missing", "/fails", "/gone")]
    assert statuses == [404, 500, 503]
    assert attributes_of(meter, transport) == [
        {"method": "GET", "route": "/missing", "status": "4xx"}
    ]

    client = served(app_of(meter, charge_failures=True))
    for path in ("/fails", "/gone"):
        client.get(path)
    assert [found["status"] for found in attributes_of(meter, transport)] == ["4xx", "5xx", "5xx"]


def test_attributes_come_from_the_request(meter: Meter, transport: MemoryTransport) -> None:
    """A function that raises is counted, and the answer is untouched."""
    good = app_of(meter, attributes=lambda request: {"agent": request.headers["user-agent"]})
    bad = app_of(meter, attributes=lambda request: {"agent": request.headers["no-such"]})

    assert served(good).get("/streams").text == "ab"
    assert served(bad).get("/streams").text == "ab"

    assert [found["agent"] for found in attributes_of(meter, transport)] == ["testclient"]
    assert meter.status().dropped == {"invalid": 1}


@pytest.mark.parametrize("strict", [False, True])
def test_a_wrong_tenant_is_counted_and_harms_nobody(make_meter: MakeMeter, strict: bool) -> None:
    """In strict too."""
    meter = make_meter(strict=strict)

    assert served(app_of(meter, tenant=lambda: 7)).get("/streams").text == "ab"

    assert meter.status().dropped == {"invalid": 1}


def test_time_is_counted(meter: Meter, transport: MemoryTransport) -> None:
    """In whole milliseconds."""
    served(app_of(meter, quantity="ms")).get("/streams")

    assert told(meter, transport)[0].quantity >= 0
    with pytest.raises(ValueError, match="bytes_out"):
        metered(meter, "t", tenant=current_tenant, quantity="bytes_out")  # type: ignore[arg-type]  # wrong on purpose


def test_dependencies_of_routers_and_the_middleware_stand_beside_each_other(
    meter: Meter, transport: MemoryTransport
) -> None:
    """A router's prefix is part of the template; the middleware sees the same one."""
    router = APIRouter(
        prefix="/v1", dependencies=[Depends(metered(meter, "call", tenant=current_tenant))]
    )

    @router.get("/items/{item}")
    async def item(item: int) -> int:
        return item

    app = FastAPI()
    app.include_router(router)
    app.add_middleware(MeterMiddleware, meter=meter, tenant=lambda _: "acme")

    assert served(app).get("/v1/items/3").json() == 3

    events = told(meter, transport)
    assert {event.type for event in events} == {"call", "http.request"}
    assert {event.attributes["route"] for event in events} == {"/v1/items/{item}"}


def test_dependencies_that_yield_go_on_working(meter: Meter, transport: MemoryTransport) -> None:
    """The tenant's own dependency may have an end of its own."""
    ended: list[str] = []

    def tenant() -> Iterator[str]:
        yield "acme"
        ended.append("tenant")

    assert served(app_of(meter, tenant=tenant)).get("/streams").text == "ab"

    assert ended == ["tenant"]
    assert len(told(meter, transport)) == 1
