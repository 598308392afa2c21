"""Every operation of the API, in process: what is asked is answered or refused, never by a 500.

Those in /openapi.json get requests made from it: right ones, and ones that break what it says.
Answers must have the shape that is described for their status. The others are the clients' own
paths: they get bodies, parameters and paths of any kind.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_aggregator.store.port import TopicBinding
from meterstream_services.accounts.memory import MemoryDirectory
from meterstream_services.accounts.model import Assign, SetAccount
from meterstream_services.gateway.memory import MemoryDoor
from meterstream_services.http.app import create_app
from meterstream_services.http.settings import Settings
from tests.unit.services.http.conftest import CATALOGUE, World, moment

_EXAMPLES = 10
_EXAMPLES_QUICK = 3
_SHAPES = [response_schema_conformance, content_type_conformance]


def _application() -> FastAPI:
    """An application with a little of everything behind it."""
    store, directory = MemoryStore(), MemoryDirectory()
    store.bind(TopicBinding("meterstream.events", "id-of-topic", 1), parse_catalogue(CATALOGUE))
    store.claim(0, "worker-1")
    home = Path(tempfile.gettempdir()) / "nothing-is-opened-here"
    app = create_app(
        Settings(home / "store.sqlite3", home / "accounts.sqlite3"),
        open_store=lambda: store,
        directory=directory,
        now=lambda: moment("2026-06-01"),
        door=MemoryDoor(),
    )
    world = World(app, store, directory)
    directory.apply([SetAccount("mine"), Assign("0", "mine", 0)])
    world.use("api.requests", "0", "2026-03-01T10:00", events=5, group=("200",))
    return app


def _routes(routes: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Method and path of all routes, also of routers within routers."""
    for route in routes:
        if hasattr(route, "original_router"):
            yield from _routes(route.original_router.routes)
        else:
            yield from ((method, route.path) for method in route.methods)


_APP = _application()
_SCHEMA = schemathesis.openapi.from_dict(_APP.openapi())
_FOUND: list[Any] = [found.ok() for found in _SCHEMA.get_all_operations() if isinstance(found, Ok)]
# No text can be made for the body of /v1/records: it is asked with those that are not described.
_DESCRIBED = {found.label: found for found in _FOUND if found.label != "POST /v1/records"}
_OTHERS = sorted(
    f"{method} {path}"
    for method, path in set(_routes(_APP.routes))
    if f"{method} {path}" not in _DESCRIBED
)

_texts = st.text(max_size=12) | st.sampled_from(
    [
        "0",
        "mine",
        "-1",
        "1e999999",
        "NaN",
        "2026-03-01",
        "a" * 2000,
        "\0",
        "../x",
        "api.requests",
        "%",
    ]
)
_NAMES = """
event events event_type tenant tenant_id customer customer_ref metric quantity value amount
timestamp time ts start end from to id idempotency_key idempotencyKey meta metadata properties
name type tool tool_id project_id projectId user_id userId limit page group_by window data
session_id status currency price balance api_key metric_id period meter_id command
"""
_names = st.sampled_from(_NAMES.split()) | st.text(max_size=8)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=8),
    max_leaves=14,
)


class _Caller:
    """Requests to one application on one event loop."""

    def __init__(self) -> None:
        app = _application()
        self._runner = asyncio.Runner()
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://localhost:8080"
        )

    def ask(self, case: Any) -> httpx.Response:  # noqa: ANN401 - schemathesis' own
        """The answer to a request. What the application raises is raised."""
        told = case.as_transport_kwargs(base_url="http://localhost:8080")
        told = {name: value for name, value in told.items() if name != "cookies"}
        if isinstance(told.get("data"), bytes | str):
            told["content"] = told.pop("data")
        return self._runner.run(self._client.request(**told))

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        """The answer to a request that is not from the description."""
        return self._runner.run(self._client.request(method, path, **options))

    def close(self) -> None:
        """End the loop."""
        self._runner.run(self._client.aclose())
        self._runner.close()


@pytest.fixture(scope="module")
def caller() -> Iterator[_Caller]:
    """One application for all operations, so that they find what others made."""
    made = _Caller()
    yield made
    made.close()


@pytest.mark.parametrize("label", list(_DESCRIBED))
def test_what_is_described_is_answered_so(
    caller: _Caller, label: str, request: pytest.FixtureRequest
) -> None:
    """No request is answered by a 500, and answers look as described."""
    operation = _DESCRIBED[label]

    @settings(
        max_examples=_EXAMPLES_QUICK if request.config.getoption("--quick") else _EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.one_of(
            operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
            operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
        )
    )
    def asked(case: Any) -> None:  # noqa: ANN401 - schemathesis' own
        for name, value in dict(case.query or {}).items():
            if name == "wait_seconds" and re.fullmatch(r"[\d.]+", str(value)):
                case.query[name] = 0  # It would wait so long, as it is asked to.
        try:
            answer = caller.ask(case)
        except httpx.InvalidURL:
            reject()  # A query of more than 64 KiB, which this client does not send.
        assert answer.status_code not in {500, 501, 502, 504}, answer.text
        if 200 <= answer.status_code < 300 or answer.status_code == 422:
            case.validate_response(answer, checks=_SHAPES)

    asked()


def test_the_description_can_be_read() -> None:
    """Every operation of /openapi.json is one that requests can be made from."""
    assert all(isinstance(found, Ok) for found in _SCHEMA.get_all_operations())
    assert len(_DESCRIBED) > 40
    assert len(_OTHERS) > 40


@pytest.mark.parametrize("label", _OTHERS)
def test_what_is_not_described_is_answered_too(
    caller: _Caller, label: str, request: pytest.FixtureRequest
) -> None:
    """A client's own path answers or refuses any body, parameters and path."""
    method, _, template = label.partition(" ")

    @settings(
        max_examples=_EXAMPLES_QUICK if request.config.getoption("--quick") else _EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        data=st.data(),
        query=st.lists(st.tuples(_names, _texts), max_size=4),
        body=_json.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40),
    )
    def asked(data: st.DataObject, query: list[tuple[str, str]], body: bytes) -> None:
        path = re.sub(r"\{[^}]*\}", lambda _: quote(data.draw(_texts), safe=""), template)
        sent = {"content": body, "headers": {"content-type": "application/json"}}
        answer = caller.send(method, path, params=query, **(sent if method != "GET" else {}))
        assert answer.status_code not in {500, 501, 502, 504}, answer.text

    asked()
