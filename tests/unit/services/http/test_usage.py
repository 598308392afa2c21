"""``/v1/usage``: the question in, the figures out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.changes import Changes
from meterstream_aggregator.store.port import Advance
from meterstream_services.accounts.errors import AccountsUnavailable
from meterstream_services.accounts.model import Assign, SetAccount
from meterstream_services.http.usage import UsageDocument
from tests.unit.services.http.conftest import moment

if TYPE_CHECKING:
    from tests.unit.services.http.conftest import World

DAY = {"start": "2026-03-01", "end": "2026-03-02"}


def test_the_answer_has_the_promised_shape(world: World) -> None:
    """Keys, their order, text decimals and times with offset are as documented."""
    world.use("llm.tokens", "acme", "2026-03-01T10:00", 18059974, events=8819, group=("x", "eu"))

    text = world.get(
        "/v1/usage?meter=llm.tokens&from=2026-03-01&to=2026-03-02&every=1d&by=model"
    ).text

    assert text == json.dumps(
        {
            "meter": "llm.tokens",
            "unit": "token",
            "from": "2026-03-01T00:00:00+00:00",
            "to": "2026-03-02T00:00:00+00:00",
            "every": "1d",
            "zone": "UTC",
            "rows": [
                {
                    "from": "2026-03-01T00:00:00+00:00",
                    "to": "2026-03-02T00:00:00+00:00",
                    "tenant": "acme",
                    "account": None,
                    "group": {"model": "x"},
                    "value": "18059974",
                    "events": 8819,
                    "closing": "18059974",
                    "adjustment": "0",
                    "status": "closing",
                }
            ],
        },
        separators=(",", ":"),
    )


def test_answers_fit_their_documentation(world: World) -> None:
    """What goes out is what the OpenAPI document says goes out."""
    world.use("llm.tokens", "acme", "2026-03-01T10:00", 15, scale=1, group=("x", "eu"))

    document = UsageDocument.model_validate(world.usage(meter="llm.tokens", **DAY))

    assert document.rows[0].value == "1.5"
    assert set(UsageDocument.model_fields) == {
        "meter", "unit", "start", "end", "every", "zone", "rows",
    }  # fmt: skip


def test_days_of_a_zone(world: World) -> None:
    """Usage goes to the local day, and times come back with the zone's offset of that day."""
    for when in ("2026-03-29T22:45", "2026-03-29T21:45", "2026-03-28T22:45"):
        world.use("api.requests", "acme", when, events=3)

    answer = world.usage(
        meter="api.requests", start="2026-03-28", end="2026-03-31", every="1d", zone="Europe/Berlin"
    )

    assert [(row["from"], row["to"], row["value"]) for row in answer["rows"]] == [
        ("2026-03-28T00:00:00+01:00", "2026-03-29T00:00:00+01:00", "3"),
        ("2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00", "3"),
        ("2026-03-30T00:00:00+02:00", "2026-03-31T00:00:00+02:00", "3"),
    ]


def test_groups_and_filters(world: World) -> None:
    """``by`` keeps figures apart; the same name twice in ``where`` means either."""
    for group, amount in (
        (("a", "eu"), 1),
        (("b", "eu"), 10),
        (("c", "us"), 100),
        (("", ""), 1000),
    ):
        world.use("llm.tokens", "acme", "2026-03-01T10:00", amount, group=group)

    by = world.usage(meter="llm.tokens", by=["region", "model"], **DAY)
    either = world.usage(meter="llm.tokens", where=["model=a", "model=b"], **DAY)
    absent = world.usage(meter="llm.tokens", where="model=", **DAY)

    assert [(row["group"], row["value"]) for row in by["rows"]] == [
        ({"region": "", "model": ""}, "1000"),
        ({"region": "eu", "model": "a"}, "1"),
        ({"region": "eu", "model": "b"}, "10"),
        ({"region": "us", "model": "c"}, "100"),
    ]
    assert [row["value"] for row in either["rows"]] == ["11"]
    assert [row["value"] for row in absent["rows"]] == ["1000"]


def test_tenants_and_totals(world: World) -> None:
    """Rows are per tenant; totals join tenants and partitions and show empty periods too."""
    world.use("api.requests", "a", "2026-03-01T10:00", events=1)
    world.use("api.requests", "a", "2026-03-01T10:00", events=5, partition=1)
    world.use("api.requests", "b", "2026-03-01T10:00", events=10)

    every = world.usage(meter="api.requests", **DAY)
    one = world.usage(meter="api.requests", tenant=["b", "nobody"], **DAY)
    total = world.usage(
        meter="api.requests", start="2026-03-01", end="2026-03-03", every="1d", total="true"
    )

    assert [(row["tenant"], row["value"]) for row in every["rows"]] == [("a", "6"), ("b", "10")]
    assert [(row["tenant"], row["value"]) for row in one["rows"]] == [("b", "10")]
    assert [(row["tenant"], row["value"], row["events"]) for row in total["rows"]] == [
        (None, "16", 16),
        (None, "0", 0),
    ]


def test_extremes_of_nothing_are_null(world: World) -> None:
    """A period without readings has no greatest one."""
    (row,) = world.usage(meter="cpu.peak", total="true", **DAY)["rows"]

    assert (row["value"], row["closing"], row["adjustment"]) == (None, None, None)


def test_session_meters_answer_exact_seconds(world: World) -> None:
    """Microseconds of sessions come out as decimal seconds, none lost."""
    world.use("agent.hours", "acme", "2026-03-01T10:00", 900_000_000, scale=6)
    world.use("agent.hours", "acme", "2026-03-01T10:15", 1, events=0, scale=6)

    (row,) = world.usage(meter="agent.hours", **DAY)["rows"]

    assert (row["value"], row["events"]) == ("900.000001", 1)


def _fold_to(world: World, text: str) -> None:
    advances = [Advance(p, 1, None, 0, 10, moment(text), 0, 0, 0) for p in range(2)]
    world.store.commit(advances, Changes())


def test_status_follows_clock_and_log(world: World) -> None:
    """A figure is open while its period lasts, then closing, final once all is folded past it."""
    world.use("api.requests", "acme", "2026-03-01T10:00")

    def status() -> str:
        return str(world.usage(meter="api.requests", **DAY)["rows"][0]["status"])

    world.now("2026-03-01T23:59:59")
    assert status() == "open"
    world.now("2026-03-02")
    assert status() == "closing"
    world.now("2026-12-31")
    assert status() == "closing"
    _fold_to(world, "2026-03-03")
    assert status() == "final"


def test_a_moved_tenant_is_split_at_the_window(world: World) -> None:
    """Usage by account follows a tenant's move, window by window, also inside a period."""
    world.directory.apply([SetAccount("old"), SetAccount("new"), Assign("t", "old", None)])
    world.directory.apply([Assign("t", "new", moment("2026-03-01T12:00"))])
    world.use("api.requests", "t", "2026-03-01T11:45", events=1)
    world.use("api.requests", "t", "2026-03-01T12:00", events=10)
    world.use("api.requests", "stranger", "2026-03-01T12:00", events=100)

    def of(account: str, **more: str) -> list[tuple[str | None, str, str]]:
        rows = world.usage(meter="api.requests", account=account, **DAY, **more)["rows"]
        return [(row["tenant"], row["account"], row["value"]) for row in rows]

    assert of("old") == [("t", "old", "1")]
    assert of("new") == [("t", "new", "10")]
    assert of("new", total="true") == [(None, "new", "10")]
    assert of("old", tenant="stranger") == []


def test_a_row_names_its_account_when_there_is_one(world: World) -> None:
    """A tenant's row shows the account that all of its usage belongs to, and none where mixed."""
    world.directory.apply([SetAccount("old"), SetAccount("new"), Assign("t", "old", None)])
    world.directory.apply([Assign("t", "new", moment("2026-03-01T12:00"))])
    for when in ("2026-03-01T11:45", "2026-03-01T12:00", "2026-03-02T00:00"):
        world.use("api.requests", "t", when)

    rows = world.usage(meter="api.requests", start="2026-03-01", end="2026-03-03", every="6h")[
        "rows"
    ]
    whole = world.usage(meter="api.requests", start="2026-03-01", end="2026-03-03")["rows"]

    assert [row["account"] for row in rows] == ["old", "new", "new"]
    assert [row["account"] for row in whole] == [None]


def test_an_account_without_tenants_has_no_usage(world: World) -> None:
    """An account that nobody belongs to is answered with nothing, not with everybody's usage."""
    world.directory.apply([SetAccount("empty")])
    world.use("api.requests", "t", "2026-03-01T11:45")

    assert world.usage(meter="api.requests", account="empty", **DAY)["rows"] == []


def test_usage_does_not_wait_for_accounts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With accounts away usage is answered without them; only questions by account are refused."""
    world.use("api.requests", "t", "2026-03-01T11:45")

    def away(*_: object, **__: object) -> None:
        raise AccountsUnavailable("accounts are away")

    for name in ("histories", "account", "tenants_of", "accounts"):
        monkeypatch.setattr(world.directory, name, away)

    (row,) = world.usage(meter="api.requests", **DAY)["rows"]
    refused = world.get("/v1/usage?meter=api.requests&account=a&from=2026-03-01&to=2026-03-02")
    ready = world.get("/health/ready")

    assert (row["tenant"], row["account"], row["value"]) == ("t", None, "1")
    assert refused.status_code == 503
    assert refused.json()["type"] == "urn:meterstream:problem:accounts-unavailable"
    assert refused.headers["retry-after"] == "2"
    assert ready.status_code == 200
    assert ready.json()["checks"]["accounts"] == "unavailable: accounts are away"
    assert "meterstream_accounts_failures_total 1.0" in world.get("/metrics").text


@pytest.mark.parametrize(
    ("query", "status", "field", "detail"),
    [
        ("meter=nix&from=2026-03-01&to=2026-03-02", 404, None, "no meter is called 'nix'"),
        ("from=2026-03-01&to=2026-03-02", 422, "meter", "is missing"),
        ("meter=api.requests&from=2026-03-01", 422, "to", "is missing"),
        ("meter=api.requests&from=x&to=2026-03-02", 422, "from", "is not an ISO 8601 time"),
        ("meter=api.requests&from=2026-03-02&to=2026-03-01", 422, "to", "is not after from"),
        ("meter=api.requests&from=2026-03-01T00:07&to=2026-03-02", 422, "from", "the nearest are"),
        ("meter=api.requests&from=2026-03-01&to=2026-03-02&every=1x", 422, "every", "no length"),
        ("meter=api.requests&from=2026-03-01&to=2026-03-02&every=10m", 422, "every", "nearest are"),
        (
            "meter=hourly&from=2026-03-01T00:30&to=2026-03-03T00:30&every=1d&zone=Asia/Kolkata",
            422,
            "every",
            "no",
        ),
        ("meter=api.requests&from=2026-03-01&to=2026-03-02&zone=Berlin", 422, "zone", "no IANA"),
        ("meter=api.requests&from=2026-03-01&to=2026-03-02&zone=../etc", 422, "zone", "no IANA"),
        ("meter=api.requests&from=2026-03-01&to=2026-03-02&by=model", 422, "by", "by: status"),
        ("meter=api.requests&from=2026-03-01&to=2026-03-02&where=x", 422, "where", "NAME=VALUE"),
        ("meter=api.requests&from=2026-03-01&to=2026-03-02&where=m=1", 422, "where", "by: status"),
        ("meter=api.requests&from=2026-03-01&to=2026-03-02&tennant=a", 422, "tennant", "not known"),
        ("meter=api.requests&from=2026-03-01&to=2026-03-02&zone=UTC&zone=UTC", 422, "zone", "once"),
        ("meter=api.requests&from=2026-03-01&to=2026-03-02&total=maybe", 422, "total", "bool"),
        ("meter=api.requests&from=2026-03-01&to=2026-03-02&account=a", 404, None, "no account 'a'"),
        (f"meter={'m' * 2000}&from=2026-03-01&to=2026-03-02", 422, "meter", "longer than 1024"),
    ],
)
def test_bad_questions(
    world: World, query: str, status: int, field: str | None, detail: str
) -> None:
    """A question that cannot be answered names the field and the remedy, as a problem document."""
    response = world.get(f"/v1/usage?{query}")

    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == status
    if detail != "no":
        assert detail in document["detail"]
    if field is not None:
        assert field in [error["field"] for error in document["errors"]]


def test_offsets_in_a_url(world: World) -> None:
    """An offset's plus must be escaped, and the error says so when it was not."""
    fine = world.get(
        "/v1/usage?meter=api.requests&from=2026-03-01T01:00%2B01:00&to=2026-03-02&every=total"
    )
    lost = world.get("/v1/usage?meter=api.requests&from=2026-03-01T01:00+01:00&to=2026-03-02")

    assert fine.json()["from"] == "2026-03-01T00:00:00+00:00"
    assert "write + as %2B" in lost.json()["detail"]


@pytest.mark.parametrize("tenant", ["<script>", "a&b", "a\x00b", "ü/..", "' OR 1=1 --", "%"])
def test_hostile_tenants_are_only_text(world: World, tenant: str) -> None:
    """A tenant of any shape is answered for itself alone."""
    world.use("api.requests", tenant, "2026-03-01T10:00", events=7)
    world.use("api.requests", "other", "2026-03-01T10:00", events=1)

    (row,) = world.usage(meter="api.requests", tenant=tenant, **DAY)["rows"]

    assert (row["tenant"], row["value"]) == (tenant, "7")
