"""The application's lane: the same answers, refusals and counts as by all of the middleware."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from meterstream_services.gateway.memory import MemoryDoor
from meterstream_services.gateway.port import Fate, Offer, Patience, Ruling
from meterstream_services.http import front_lane
from meterstream_services.http.app import create_app
from meterstream_services.http.front_lane import LanedApplication
from meterstream_services.http.settings import Settings
from meterstream_services.keys.principal import Rate
from tests.unit.services.keys.making import Keyed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

EVENT: Final = {"type": "t", "tenant": "acme", "key": "k"}
JSON: Final = {"content-type": "application/json"}
BODY: Final = b'{"type": "t", "tenant": "acme"}'
Asked = tuple[str, dict[str, Any]]


class Door(MemoryDoor):
    """A door that gives receipts."""

    async def take(self, offers: Sequence[Offer], patience: Patience = Patience.LOG) -> list[Fate]:
        """See `Door`."""
        fates = await super().take(offers, patience)
        return [Fate(Ruling.SPOOLED)] * len(fates) if patience is Patience.SPOOL else fates


class Fault(MemoryDoor):
    """A door that breaks."""

    async def take(self, offers: Sequence[Offer], patience: Patience = Patience.LOG) -> list[Fate]:
        """See `Door`."""
        raise LookupError("ours")


class Both:
    """Two equal applications: requests of one take the lane, those of the other never do."""

    def __init__(self, path: Path, *, door: type[MemoryDoor] = Door) -> None:
        self.keyed = Keyed()
        self.key = self.keyed.make("ingest", tenants=["acme"])
        small = Rate(body_bytes_max=10)
        self.small = self.keyed.make("ingest", tenants=["acme"], rate=small)
        self.reading = self.keyed.make("read", tenants=["acme"])
        self.apps = [self._app(path / name, door) for name in ("lane", "middleware")]
        self.apps[1].lane = None

    def _app(self, path: Path, door: type[MemoryDoor]) -> LanedApplication:
        settings = Settings(path / "s", path / "a")
        app = create_app(settings, door=door(), keys=self.keyed.keys)
        assert isinstance(app, LanedApplication)
        return app

    def told(self, requests: Sequence[Asked]) -> list[list[tuple[int, list[Any], bytes]]]:
        """What each application answers: status, headers in their order, and body."""
        return [asyncio.run(_ask(app, requests)) for app in self.apps]

    def counted(self) -> list[dict[tuple[str, ...], float]]:
        """What each application counted: requests by their labels, and limits."""
        return [
            {
                (sample.name, *map(str, sample.labels.values())): sample.value
                for family in app.state.parts.metrics.registry.collect()
                for sample in family.samples
                if sample.name
                in {
                    "meterstream_http_requests_total",
                    "meterstream_http_request_duration_seconds_count",
                    "meterstream_http_requests_in_progress",
                    "meterstream_http_limited_total",
                }
            }
            for app in self.apps
        ]


async def _ask(
    app: LanedApplication, requests: Sequence[Asked]
) -> list[tuple[int, list[Any], bytes]]:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    found: list[tuple[int, list[Any], bytes]] = []
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for path, options in requests:
            answer = await client.post(path, **options)
            found.append((answer.status_code, answer.headers.raw, answer.content))
    return found


class Pieces:
    """A body without a length, of twenty pieces of this size; can be sent again."""

    def __init__(self, size: int) -> None:
        self._size = size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * self._size


@pytest.fixture
def both(tmp_path: Path) -> Both:
    """Keys were made: for a tenant, for small bodies alone, and one that may only read."""
    return Both(tmp_path)


def _requests(both: Both) -> list[Asked]:
    right = {"authorization": f"Bearer {both.key}"}
    basic = base64.b64encode(both.key.encode()).decode()
    twice = [*(right | JSON).items(), ("x-a", "1"), ("x-a", "2")]

    path = "/v1/events"
    return [
        (path, {"headers": right, "json": EVENT}),
        (path, {"headers": right, "json": EVENT}),
        (path, {"headers": right, "json": EVENT | {"quantity": 2}}),
        (path, {"headers": right, "json": {"events": [EVENT, 3, {"type": "t"}]}}),
        (path, {"headers": right, "json": {"events": [{"type": "t", "tenant": "acme"}] * 3}}),
        (path, {"headers": right, "json": EVENT | {"tenant": "other"}}),
        (path, {"headers": right, "json": EVENT | {"more": 1}}),
        (path, {"headers": right | {"prefer": "respond-async"}, "json": EVENT | {"key": "n"}}),
        (path, {"headers": right | {"idempotency-key": "h"}, "json": {"type": "t"}}),
        (path, {"headers": right | JSON | {"content-encoding": "br"}, "content": BODY}),
        (path, {"headers": right | {"content-type": "text/plain"}, "content": BODY}),
        (path, {"headers": right | {"content-type": "application/x-ndjson"}, "content": BODY}),
        (path, {"headers": right, "content": BODY}),
        (path, {"headers": right | JSON, "content": b"{"}),
        (path, {"headers": right | JSON, "content": b" " * (2 << 20)}),
        (path, {"headers": right | JSON, "content": Pieces(65_536)}),
        (path, {"headers": twice, "content": BODY}),
        (path, {"headers": {"x-api-key": both.key}, "json": EVENT}),
        (path, {"headers": {"authorization": f"Basic {basic}"}, "json": EVENT}),
        (path, {"headers": {"x-api-key": both.small}, "json": EVENT}),
        (path, {"headers": JSON | {"x-api-key": both.small}, "content": Pieces(20)}),
        (path, {"json": EVENT}),
        (path, {"headers": {"authorization": "Bearer no"}, "json": EVENT}),
        (path, {"headers": {"authorization": f"Bearer {both.reading}"}, "json": EVENT}),
        (path, {"headers": right | {"host": "evil.example"}, "json": EVENT}),
        (path, {"headers": right | {"origin": "http://evil.example"}, "json": EVENT}),
        (path, {"headers": right | {"sec-fetch-site": "cross-site"}, "json": EVENT}),
        (f"{path}?{'x' * 20_000}", {"headers": right, "json": EVENT}),
        (f"{path}?a=b", {"headers": right, "json": EVENT}),
        (f"{path}/", {"headers": right, "json": EVENT}),
        (f"/k/{both.key}{path}", {"json": EVENT}),
    ]


def test_the_same_answers_and_counts(both: Both) -> None:
    """Every guard and every format: status, headers, body, metrics, and what the door has."""
    lane, middleware = both.told(_requests(both))

    assert lane == middleware
    assert {status for status, _, _ in lane} >= {200, 201, 202, 401, 403, 409, 413, 415, 421, 422}
    assert [status for status, _, _ in lane].count(413) == 4
    assert all((b"x-content-type-options", b"nosniff") in headers for _, headers, _ in lane)
    counts = both.counted()
    assert counts[0] == counts[1]
    assert counts[0]["meterstream_http_requests_in_progress",] == 0
    assert counts[0]["meterstream_http_limited_total", "foreign_origin"] == 2
    doors = [[offer._replace(time=0) for offer in app.state.parts.door.taken] for app in both.apps]
    assert doors[0] == doors[1]


def test_wrong_keys_count_by_either_way(both: Both) -> None:
    """The lane and the middleware share what they remember: tries of one count for the other."""
    wrong = {"authorization": "Bearer no"}
    by_lane = [("/v1/events", {"headers": wrong, "json": EVENT})] * 19
    around = [("/v1/events/", {"headers": wrong, "json": EVENT})] * 3
    app = both.apps[0]

    told = [status for status, _, _ in asyncio.run(_ask(app, by_lane + around))]

    assert told[:19] == [401] * 19
    assert told[-1] == 429


def test_a_fault_is_answered_and_let_out(tmp_path: Path) -> None:
    """What nobody has a handler for: 500 in the one shape, and the server hears of it."""
    faulty = Both(tmp_path, door=Fault)
    asked: dict[str, Any] = {
        "headers": {"authorization": f"Bearer {faulty.key}"},
        "json": EVENT,
    }

    lane, middleware = faulty.told([("/v1/events", asked)])

    assert lane == middleware
    assert lane[0][0] == 500
    assert b"internal-error" in lane[0][2]
    assert faulty.counted()[0] == faulty.counted()[1]

    async def ask() -> None:
        transport = httpx.ASGITransport(app=faulty.apps[0])
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            await client.post("/v1/events", **asked)

    with pytest.raises(LookupError):
        asyncio.run(ask())


def test_requests_do_take_the_lane(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the tests above compare two ways: the middleware's innermost lane hears nothing."""
    asked = [("/v1/events", {"headers": {"authorization": f"Bearer {both.key}"}, "json": EVENT})]

    async def never(*_: object) -> None:
        raise AssertionError("the middleware was asked")

    monkeypatch.setattr(front_lane.LaneMiddleware, "__call__", never)

    lane, middleware = both.told(asked)

    assert (lane[0][0], middleware[0][0]) == (201, 500)
