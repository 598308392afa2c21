"""The Flask extension: requests of a real application, by its test client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, Response, abort, g, request, stream_with_context

from meterstream import Meter
from meterstream.context import AMBIENT
from meterstream.integrations.flask import MeterStream
from meterstream.memory import MemoryTransport
from tests.unit.producers.integrations.told_web import Told, attributes_of, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from werkzeug.test import TestResponse

    from tests.unit.producers.conftest import MakeMeter

ACME = {"x-tenant": "acme"}


@pytest.fixture
def meter(make_meter: MakeMeter) -> Meter:
    """A meter over ``transport``."""
    return make_meter()


def header() -> str | None:
    """The tenant as a header tells it."""
    return request.headers.get("x-tenant")


def app_of(meter: Meter | None, **settings: Any) -> Flask:  # noqa: ANN401 - as many types as settings
    """An application with a view of each kind."""
    app = Flask("shop")
    app.config.update(settings.pop("config", {}))
    MeterStream(app, meter, **{"tenant": header, **settings})

    @app.route("/items/<int:item>", methods=["GET", "POST"])
    def item(item: int) -> str:
        app.extensions["meterstream"].meter.record("inside")
        return f"item {item}"

    @app.route("/charged")
    def charged() -> str:
        g.meterstream.quantity = 12
        g.meterstream.attributes["model"] = "small"
        return ""

    @app.route("/fails")
    def fails() -> str:
        raise RuntimeError("no luck")

    @app.route("/refused")
    def refused() -> str:
        abort(403)

    @app.route("/streams")
    def streams() -> Response:
        def pieces() -> Iterator[str]:
            for _ in range(3):
                yield "piece"
                app.extensions["meterstream"].meter.record("inside")

        return Response(stream_with_context(pieces()))

    return app


def get(app: Flask, path: str, **headers: str) -> TestResponse:
    """One request, its answer read to the end as a server does."""
    return app.test_client().get(path, headers=headers or ACME, buffered=True)


def test_a_request_becomes_an_event(meter: Meter, transport: MemoryTransport) -> None:
    """With the rule as its route; what the view records needs no tenant."""
    response = get(app_of(meter), "/items/3")

    assert (response.status_code, response.text) == (200, "item 3")
    by_type = {event.type: event for event in told(meter, transport)}
    assert by_type["http.request"] == Told(
        "http.request",
        "acme",
        1,
        {"method": "GET", "route": "/items/<int:item>", "status": "2xx"},
    )
    assert by_type["inside"].tenant == "acme"
    assert AMBIENT.get() is None


def test_a_stream_is_counted_to_its_end(meter: Meter, transport: MemoryTransport) -> None:
    """The request is over for Flask by then; the tenant holds all the same."""
    response = get(app_of(meter, quantity="bytes_out"), "/streams")

    assert response.text == "piece" * 3
    events = told(meter, transport)
    assert [event.quantity for event in events if event.type == "http.request"] == [15]
    assert [event.tenant for event in events if event.type == "inside"] == ["acme"] * 3


def test_refusals_and_unknown_paths_are_told_by_their_class(
    meter: Meter, transport: MemoryTransport
) -> None:
    """A path that no rule fits has no route."""
    app = app_of(meter)
    for path in ("/refused", "/nowhere/1", "/nowhere/2"):
        get(app, path)

    assert attributes_of(meter, transport) == [
        {"method": "GET", "route": "/refused", "status": "4xx"},
        {"method": "GET", "status": "4xx"},
        {"method": "GET", "status": "4xx"},
    ]


@pytest.mark.parametrize("testing", [False, True])
def test_failures_are_charged_by_choice(
    meter: Meter, transport: MemoryTransport, testing: bool
) -> None:
    """Answered as 500, or passed on to the server as Flask does in testing."""
    for charge in (False, True):
        app = app_of(meter, charge_failures=charge)
        app.testing = testing
        if testing:
            with pytest.raises(RuntimeError, match="no luck"):
                get(app, "/fails")
        else:
            assert get(app, "/fails").status_code == 500

    assert attributes_of(meter, transport) == [
        {"method": "GET", "route": "/fails", "status": "5xx"}
    ]


def test_a_view_says_what_it_is_charged(meter: Meter, transport: MemoryTransport) -> None:
    """By ``g.meterstream``; further attributes by a function of the extension."""
    app = app_of(meter, attributes=lambda: {"endpoint": str(request.endpoint)})
    get(app, "/charged")

    [event] = told(meter, transport)
    assert event.quantity == 12
    assert event.attributes["model"] == "small"
    assert event.attributes["endpoint"] == "charged"


def test_a_tenant_may_be_known_only_after_other_hooks(
    meter: Meter, transport: MemoryTransport
) -> None:
    """The extension asks again behind the view; nobody's requests are not metered."""
    app = app_of(meter, tenant=lambda: g.get("tenant"))

    @app.before_request
    def authenticate() -> None:
        if "x-tenant" in request.headers:
            g.tenant = request.headers["x-tenant"]

    get(app, "/charged", other="x")
    get(app, "/charged")

    assert [event.tenant for event in told(meter, transport)] == ["acme"]
    assert meter.status().dropped == {}


def test_a_hook_that_answers_first_leaves_the_request_metered(
    meter: Meter, transport: MemoryTransport
) -> None:
    """An earlier hook keeps ours from running; the request is known at its end."""
    app = Flask("shop")
    app.before_request(lambda: ("over quota", 429))
    MeterStream(app, meter, tenant=header)

    assert get(app, "/nowhere").status_code == 429

    assert attributes_of(meter, transport) == [{"method": "GET", "status": "4xx"}]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("place", ["tenant", "attributes"])
def test_a_function_that_raises_is_counted_and_harms_nobody(
    make_meter: MakeMeter, transport: MemoryTransport, place: str, strict: bool
) -> None:
    """Once per request, in strict too."""
    meter = make_meter(strict=strict)

    def raises() -> None:
        raise LookupError("no database")

    assert get(app_of(meter, **{place: raises}), "/charged").status_code == 200

    assert [event for event in told(meter, transport) if event.type == "http.request"] == []
    assert meter.status().dropped == {"invalid": 1}


def test_settings_come_from_the_application(transport: MemoryTransport) -> None:
    """What the arguments leave out; a meter is made when none is given."""
    app = app_of(
        None,
        config={
            "METERSTREAM_TYPE": "shop.request",
            "METERSTREAM_QUANTITY": "bytes_out",
            "METERSTREAM_CHARGE_FAILURES": True,
            "METERSTREAM_SETTINGS": {"transport": transport},
        },
    )
    meter = app.extensions["meterstream"].meter
    get(app, "/refused")
    get(app, "/fails")

    events = told(meter, transport)
    meter.close(1)
    assert [(event.type, event.attributes["status"]) for event in events] == [
        ("shop.request", "4xx"),
        ("shop.request", "5xx"),
    ]
    assert all(event.quantity > 50 for event in events)
    with pytest.raises(ValueError, match="'pages' is none of"):
        app_of(
            None,
            config={
                "METERSTREAM_QUANTITY": "pages",
                "METERSTREAM_SETTINGS": {"transport": transport},
            },
        )


def test_one_extension_may_serve_many_applications(
    meter: Meter, transport: MemoryTransport
) -> None:
    """Made first, and told of applications later."""
    extension = MeterStream(meter=meter, tenant=header)
    for name in ("one", "two"):
        app = Flask(name)
        app.add_url_rule(f"/{name}", view_func=lambda: "ok")
        extension.init_app(app)
        assert get(app, f"/{name}").text == "ok"

    assert [found["route"] for found in attributes_of(meter, transport)] == ["/one", "/two"]
