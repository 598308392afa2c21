"""Whatever a client sends, it gets an answer: never a 500, never somebody else's figures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterstream_services.accounts.model import Assign, SetAccount

if TYPE_CHECKING:
    from tests.unit.services.http.conftest import World

_texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "", "api.requests", "llm.tokens", "2026-03-01", "2026-03-02T00:00:00Z", "1d", "1h",
            "total",
            "9999-12-31T23:59:59Z", "0001-01-01", "1970-01-01T00:00:00+23:59", "999999y", "999999m",
            "America/St_Johns", "Europe/Berlin", "UTC", "true", "1e999999", "NaN", "-0", "model=x",
            "\x00", "\ufeff", "a" * 1025, "%", "../../etc/passwd", "\u202e", "x=y=z", "=", "mine",
        ]
    ),
)  # fmt: skip
_JSON = {"content-type": "application/json"}
_names = st.sampled_from(
    [
        "meter", "from", "to", "every", "zone", "tenant", "account", "by", "where", "total",
        "limit", "after", "at", "state", "type", "producer", "reason", "other",
    ]
)  # fmt: skip
_paths = st.sampled_from(
    [
        "/v1/usage", "/v1/sessions", "/v1/status", "/v1/reconcile", "/v1/deadletters", "/v1/meters",
        "/v1/tenants", "/v1/accounts", "/v1/accounts/mine", "/v1/accounts/mine/tenants",
        "/v1/tenants/t/account", "/v1/tenants/t/account/history", "/docs", "/openapi.json",
    ]
)  # fmt: skip
_quiet = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(path=_paths, query=st.lists(st.tuples(_names, _texts), max_size=6))
@_quiet
def test_any_query_is_answered_or_refused(
    world: World, path: str, query: list[tuple[str, str]]
) -> None:
    """Reading with any parameters gives an answer or a problem of the caller's."""
    response = world.get(path, params=query)

    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == response.status_code


@given(
    start=_texts, end=_texts, every=_texts, zone=_texts, rest=st.lists(st.tuples(_names, _texts))
)
@_quiet
def test_any_question_about_usage_is_answered_or_refused(  # noqa: PLR0917 - drawn in this order
    world: World, start: str, end: str, every: str, zone: str, rest: list[tuple[str, str]]
) -> None:
    """A question with all its parts, each of any kind, is answered or refused by field."""
    fixed = {"meter": "api.requests", "from": start, "to": end, "every": every, "zone": zone}
    query = [*fixed.items(), *(pair for pair in rest if pair[0] not in fixed)]

    response = world.get("/v1/usage", params=query)

    assert response.status_code in {200, 404, 422}, response.text


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["mine", "\ud800", "2026-03-01", "UTC"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "name",
                    "zone",
                    "billing_anchor",
                    "labels",
                    "status",
                    "account",
                    "from",
                    "tenant",
                ]
            )
            | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=8,
)


@given(body=_json, path=st.sampled_from(["/v1/accounts", "/v1/accounts:import"]))
@_quiet
def test_any_posted_document_is_taken_or_refused(world: World, body: object, path: str) -> None:
    """Making and importing accounts from any JSON never fails on our side."""
    response = world.send("POST", path, content=json.dumps(body), headers=_JSON)

    assert response.status_code in {200, 201, 409, 422}, response.text


@given(body=_json, tenant=st.text(min_size=1, max_size=10).filter(lambda t: t not in {".", ".."}))
@_quiet
def test_any_mapping_is_taken_or_refused(world: World, body: object, tenant: str) -> None:
    """Mapping any tenant by any JSON never fails on our side."""
    world.directory.apply([SetAccount("mine")])

    response = world.send(
        "PUT",
        f"/v1/tenants/{quote(tenant, safe='')}/account",
        content=json.dumps(body),
        headers=_JSON,
    )

    assert response.status_code in {200, 404, 422}, response.text


@given(tenant=_texts, account=_texts, where=_texts)
@_quiet
def test_a_question_about_one_answers_for_one(
    world: World, tenant: str, account: str, where: str
) -> None:
    """Asking for a tenant or account never gives another's usage, whatever it is called."""
    world.directory.apply([SetAccount("mine"), Assign("owned", "mine", 0)])
    world.use("api.requests", "victim", "2026-03-01T10:00", events=5, group=("200",))
    world.use("api.requests", "owned", "2026-03-01T10:00", events=7, group=("200",))
    span = {"meter": "api.requests", "from": "2026-03-01", "to": "2026-03-02"}

    for more in ({"tenant": tenant}, {"account": account}, {"tenant": "owned", "where": where}):
        response = world.get("/v1/usage", params=span | more)
        if response.status_code == 200:
            shown = {row["tenant"] for row in response.json()["rows"]}
            allowed = {more.get("tenant"), "owned" if more.get("account") == "mine" else None}
            assert shown <= allowed
        assert response.status_code in {200, 404, 422}
