"""Sessions, status, reconciliation, dead letters, the catalogue, tenants, health and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.errors import StoreMismatch, StoreUnavailable
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_aggregator.store.told import DeadLetterRow, PositionRow, SessionRow
from meterstream_services.accounts.model import Assign, SetAccount
from meterstream_services.http.deadletters import DeadLettersDocument
from meterstream_services.http.meters import MetersDocument
from meterstream_services.http.sessions import SessionsDocument
from meterstream_services.http.status import StatusDocument
from meterstream_services.http.tenants import TenantsDocument
from tests.unit.services.http.conftest import moment

if TYPE_CHECKING:
    from tests.unit.services.http.conftest import World


def _session(tenant: str, session: str, start: int | None, end: int | None) -> SessionRow:
    state = "unstarted" if start is None else "open" if end is None else "closed"
    sign = end or start or 0
    return SessionRow(
        0, tenant, "agent.run", session, "u1", {"m": "x"}, start, end, sign, sign, state, 0
    )


def test_sessions(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session comes with its times in the asked zone and its exact length."""
    start = moment("2026-03-01T10:00")
    rows = [
        _session("acme", "s1", start, start + 750_250_001),
        _session("acme", "s2", start, None),
        _session("acme", "s3", None, start),
    ]
    monkeypatch.setattr(world.store, "sessions", lambda **_: rows)
    world.now("2026-03-01T10:00:30")

    answer = world.get("/v1/sessions?zone=Asia/Tokyo").json()

    SessionsDocument.model_validate(answer)
    assert [
        (s["session"], s["start"], s["end"], s["seconds"], s["state"]) for s in answer["sessions"]
    ] == [
        (
            "s1",
            "2026-03-01T19:00:00+09:00",
            "2026-03-01T19:12:30.250001+09:00",
            "750.250001",
            "closed",
        ),
        ("s2", "2026-03-01T19:00:00+09:00", None, "30", "open"),
        ("s3", None, "2026-03-01T19:00:00+09:00", None, "unstarted"),
    ]
    assert [s["at_stake"] for s in answer["sessions"]] == ["0", "30", "0"]
    assert (answer["at_stake"], answer["next"]) == ("30", None)


def test_sessions_page_by_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Following ``next`` gives every session once, whatever characters ids hold."""
    rows = [_session("t\u00fc", f"s/{n}&=?", moment("2026-03-01"), None) for n in range(7)]

    def sessions(*, after: str | None, limit: int, **_: object) -> list[SessionRow]:
        later = [
            r for r in rows if after is None or f"{r.tenant}\x1f{r.type}\x1f{r.session}" > after
        ]
        return later[:limit]

    monkeypatch.setattr(world.store, "sessions", sessions)

    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        answer = world.get("/v1/sessions", params={"limit": "3", **after}).json()
        seen += [session["session"] for session in answer["sessions"]]
        if answer["next"] is None:
            break
        after = {"after": answer["next"]}

    assert seen == [row.session for row in rows]


def test_sessions_are_asked_as_meant(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every filter reaches the store in its own terms."""
    asked: dict[str, object] = {}

    def sessions(**given: object) -> list[SessionRow]:
        asked.update(given)
        return []

    monkeypatch.setattr(world.store, "sessions", sessions)

    world.get(
        "/v1/sessions?tenant=a&tenant=b&tenant=a&type=agent.run&state=timed_out"
        "&from=2026-03-01&to=2026-03-02&zone=Asia/Tokyo&limit=5"
    )

    assert asked == {
        "tenants": ["a", "b"],
        "type": "agent.run",
        "state": "timed_out",
        "start": moment("2026-02-28T15:00"),
        "end": moment("2026-03-01T15:00"),
        "limit": 6,
        "after": None,
    }


@pytest.mark.parametrize(
    "query", ["state=gone", "limit=0", "limit=10001", "after=%00", "after=a", "from=x", "colour=1"]
)
def test_bad_questions_about_sessions(world: World, query: str) -> None:
    """What cannot be meant is refused."""
    response = world.get(f"/v1/sessions?{query}")

    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"


def test_status(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status shows the topic, the catalogue, every partition and the sums."""
    at = moment("2026-03-01")
    monkeypatch.setattr(
        world.store,
        "positions",
        lambda: [
            PositionRow(0, 10, at, 3, "w1", 8, 1, 1),
            PositionRow(1, -1, 0, 1, "w2", 0, 0, 0),
        ],
    )

    answer = world.get("/v1/status").json()

    StatusDocument.model_validate(answer)
    assert answer["topic"] == {
        "topic": "meterstream.events", "topic_id": "id-of-topic", "partitions": 2,
    }  # fmt: skip
    assert answer["catalogue"]["meters"] == 5
    assert (answer["counted"], answer["duplicates"], answer["refused"]) == (8, 1, 1)
    assert answer["folded_until"] is None
    assert [
        (p["partition"], p["next_offset"], p["appended"], p["owner"]) for p in answer["partitions"]
    ] == [(0, 10, "2026-03-01T00:00:00+00:00", "w1"), (1, None, None, "w2")]


def test_status_tells_what_waits_and_what_overflows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VOIDs without their original, tenants with too many groups, and how far a partition is."""
    at = moment("2026-03-01")
    monkeypatch.setattr(world.store, "awaited", lambda: 3)
    monkeypatch.setattr(world.store, "overflowing", lambda: [("llm.tokens", "acme", 17)])
    monkeypatch.setattr(
        world.store, "positions", lambda: [PositionRow(0, 10, at, 3, "w1", 8, 1, 1)]
    )
    world.now("2026-03-01T00:01:30")

    answer = world.get("/v1/status").json()

    assert answer["awaited_voids"] == 3
    assert answer["overflowing"] == [{"meter": "llm.tokens", "tenant": "acme", "events": 17}]
    assert answer["partitions"][0]["behind_seconds"] == "90"


def test_dead_letters(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead letter shows its reason, its place in the log and its number."""
    row = DeadLetterRow(
        3, 99, "unknown_type", "no meter reads it", None, "x", "p", 5, 6, moment("2026-03-01")
    )
    monkeypatch.setattr(world.store, "dead_letters", lambda *_, **__: [row])

    answer = world.get("/v1/deadletters?reason=unknown_type&producer=p").json()

    DeadLettersDocument.model_validate(answer)
    assert answer["deadletters"][0]["append_time"] == "2026-03-01T00:00:00+00:00"
    assert answer["deadletters"][0]["sequence"] == 6
    refused = world.get("/v1/deadletters?reason=bad_luck")
    assert "'bad_luck' is no reason; there are undecodable" in refused.json()["detail"]


def test_meters(world: World) -> None:
    """The catalogue comes out with every rule that makes a figure."""
    answer = world.get("/v1/meters").json()

    MetersDocument.model_validate(answer)
    tokens = next(meter for meter in answer["meters"] if meter["name"] == "llm.tokens")
    assert tokens["where"] == [{"name": "env", "test": "in", "values": ["prod", "stage"]}]
    assert (tokens["from"], tokens["to"]) == (None, None)
    assert (tokens["window_seconds"], tokens["grace_seconds"]) == (900, 86400)
    assert answer["metering_since"] == "2026-01-01T00:00:00+00:00"


def test_tenants(world: World) -> None:
    """Tenants with usage are listed page by page, each with its account now."""
    world.directory.apply([SetAccount("a"), Assign("t1", "a", moment("2026-05-01"))])
    for tenant in ("t0", "t1", "t2"):
        world.use("api.requests", tenant, "2026-03-01")

    first = world.get("/v1/tenants?limit=2").json()
    rest = world.get("/v1/tenants", params={"after": first["next"]}).json()

    TenantsDocument.model_validate(first)
    assert first["tenants"] == [
        {"tenant": "t0", "account": None},
        {"tenant": "t1", "account": "a"},
    ]
    assert rest == {"tenants": [{"tenant": "t2", "account": None}], "next": None}


def test_alive_before_ready(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a store the process lives, is not ready, says why, and answers 503 with a hint."""

    def away() -> MemoryStore:
        raise StoreUnavailable("store.sqlite3: there is no store yet; start a worker")

    monkeypatch.setattr(world.app.state, "parts", _with_store(world, away))

    assert world.get("/health/live").json() == {"status": "live"}
    ready = world.get("/health/ready")
    assert ready.status_code == 503
    assert ready.json()["detail"].endswith("there is no store yet; start a worker")
    for path in ("/v1/status", "/v1/meters", "/v1/tenants", "/v1/sessions", "/v1/deadletters"):
        answer = world.get(path)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        assert answer.json()["type"] == "urn:meterstream:problem:store-unavailable"


def test_a_foreign_store_is_not_an_outage(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of another version will not heal by waiting: no Retry-After."""

    def foreign() -> MemoryStore:
        raise StoreMismatch("store.sqlite3: has version 9, this program reads 1")

    monkeypatch.setattr(world.app.state, "parts", _with_store(world, foreign))

    answer = world.get("/v1/status")

    assert answer.status_code == 500
    assert "retry-after" not in answer.headers
    assert answer.json()["detail"] == "store.sqlite3: has version 9, this program reads 1"


def _with_store(world: World, open_store: object) -> object:
    from dataclasses import replace  # noqa: PLC0415 - only here

    return replace(world.app.state.parts, open_store=open_store)


def test_a_bug_is_not_reflected(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What went wrong inside stays inside: the answer is a plain problem."""

    def broken() -> list[str]:
        raise RuntimeError("secret of the house")

    monkeypatch.setattr(world.store, "tenants", broken)

    answer = world.get("/v1/tenants")

    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text


def test_metrics_have_bounded_labels(world: World) -> None:
    """Requests are counted by route, never by what somebody put into a path."""
    world.get("/v1/tenants/somebody/account")
    world.get("/made/up/path")
    world.send("BREW", "/v1/status")

    text = world.get("/metrics").text

    assert 'route="/v1/tenants/{tenant:path}/account",status="404"' in text
    assert 'method="GET",route="unmatched",status="404"' in text
    assert 'method="other"' in text
    assert "somebody" not in text
    assert "made/up" not in text
    assert 'meterstream_build_info{version="' in text
