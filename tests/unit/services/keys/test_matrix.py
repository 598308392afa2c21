"""Keys and endpoints: who is let in where, and that nobody is told anything of another tenant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from meterstream_services.http.access import Access, access_of
from meterstream_services.keys.principal import Principal, Scope
from tests.unit.services.keys.routes import ways
from tests.unit.services.keys.two_tenants import ALPHA, BETA, BOTH, FIGURES, Service, traces

if TYPE_CHECKING:
    import httpx

SPAN: Final = "from=2026-01-01&to=2026-05-01"
QUERIES: Final = {
    "/v1/usage": f"meter=calls&{SPAN}&by=who",
    "/v1/periods": f"meter=calls&{SPAN}&every=1mo",
    "/v1/adjustments": f"meter=calls&{SPAN}",
    "/v1/explain": f"meter=calls&{SPAN}&tenant={ALPHA}",
    "/v1/events": f"tenantId={ALPHA}-vendor&customerRef={ALPHA}",
    "/v1/mappings": f"tenantId={ALPHA}-vendor",
    "/v1/usage/current": f"tenantId={ALPHA}-vendor&customerRef={ALPHA}",
    "/v1/usage/history": f"tenantId={ALPHA}-vendor&customerRef={ALPHA}",
}
NOBODYS: Final = ("none", "wrong", "revoked", "expired")
OWN: Final = {
    "ingest of alphaco": frozenset({ALPHA}),
    "read of alphaco": frozenset({ALPHA}),
    "both of alphaco": frozenset({ALPHA}),
    "read of betaco": frozenset({BETA}),
}
SCOPES: Final = {
    "ingest of alphaco": {Scope.INGEST},
    "read of alphaco": {Scope.READ},
    "both of alphaco": {Scope.INGEST, Scope.READ},
    "read of betaco": {Scope.READ},
    "read of both": {Scope.READ},
    "read of all": {Scope.READ},
    "ingest of all": {Scope.INGEST},
    "admin": {Scope.ADMIN},
}
ALL: Final = ("read of all", "ingest of all", "admin")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """One application for all: nothing here changes what it answers."""
    return Service(tmp_path_factory.mktemp("matrix"))


def requests(service: Service, *, of: str) -> list[tuple[str, str]]:
    """Every method of every route, filled in with the names of one tenant."""
    found: list[tuple[str, str]] = []
    for way in ways(service.app):
        path = way.path.replace("{account}", f"{of}-account")
        path = re.sub(r"\{(tenant|project|user|who|subject)(:path)?\}", of, path)
        path = re.sub(r"\{[^}]*\}", "x", path)
        query = QUERIES.get(way.path, "").replace(ALPHA, of)
        found.append((way.method, f"{path}?{query}" if query else path))
    return found


def principal(key: str) -> Principal:
    """What a key of the matrix allows."""
    tenants = None if key in ALL else OWN.get(key, frozenset({ALPHA, BETA}))
    return Principal("k", frozenset(SCOPES[key]), tenants)


def told_of(response: httpx.Response, foreign: str) -> list[str]:
    """What an answer tells of a tenant, but for what the question itself had named."""
    answer = response.text + str(response.headers)
    return [each for each in traces(foreign) if each in answer and each not in str(response.url)]


@pytest.mark.parametrize("key", NOBODYS)
def test_nobody_gets_in(service: Service, key: str) -> None:
    """Without a key that lives everything but the open paths is 401, and nothing is told."""
    asked = requests(service, of=ALPHA)
    answers = service.send_all(key, [(*each, {}) for each in asked])

    for (method, url), response in zip(asked, answers, strict=True):
        access = access_of(method, url.partition("?")[0])
        if access in {Access.OPEN, Access.MONITOR}:
            assert response.status_code < 400, (method, url)
        elif access is Access.SIGNED and key == "none":
            assert 400 <= response.status_code < 500, (method, url)
        else:
            assert response.status_code == 401, (method, url, response.text)
            assert response.headers["www-authenticate"]
        if url.partition("?")[0] not in {"/docs", "/openapi.json"}:
            assert told_of(response, ALPHA) == [], (method, url)


@pytest.mark.parametrize("key", sorted(SCOPES))
@pytest.mark.parametrize("of", [ALPHA, BETA])
def test_every_endpoint(service: Service, key: str, of: str) -> None:
    """A key without the scope is 403; with it nothing fails, and nothing foreign is told."""
    asked = [
        each
        for each in requests(service, of=of)
        # What an admin may remove would be gone for the others.
        if key != "admin" or each[0] in {"GET", "HEAD"}
    ]
    bodies: dict[str, Any] = {"json": {}}
    answers = service.send_all(
        key, [(m, url, {} if m in {"GET", "HEAD"} else bodies) for m, url in asked]
    )
    who = principal(key)

    for (method, url), response in zip(asked, answers, strict=True):
        path = url.partition("?")[0]
        access = access_of(method, path)
        place = (key, method, url, response.status_code, response.text[:300])
        if access not in {Access.OPEN, Access.MONITOR} and not access.allows(who):
            assert response.status_code == 403, place
        else:
            assert response.status_code not in {401, 500}, place
        if who.tenants is not None and path not in {"/docs", "/openapi.json"}:
            for tenant in {ALPHA, BETA} - who.tenants:
                assert told_of(response, tenant) == [], place


def test_figures_are_the_keys_own(service: Service) -> None:
    """Unasked, a key sees the figures of its tenants; a total is over these and nobody else's."""
    whole = {
        "read of alphaco": {ALPHA},
        "read of betaco": {BETA},
        "read of both": {ALPHA, BETA},
        "read of all": {ALPHA, BETA},
        "admin": {ALPHA, BETA},
    }
    for key, tenants in whole.items():
        url = f"/v1/usage?meter=calls&{SPAN}"
        rows = service.send(key, "GET", url).json()["rows"]
        assert {row["tenant"] for row in rows} == tenants, key
        [total] = service.send(key, "GET", f"{url}&total=true").json()["rows"]
        assert total["value"] == str(2 * sum(FIGURES[tenant] for tenant in tenants)), key
        for path in ("periods", "adjustments"):
            url = f"/v1/{path}?meter=calls&{SPAN}"
            rows = service.send(key, "GET", url).json()["rows"]
            assert {row["tenant"] for row in rows} == tenants, (key, path)
        told = service.send(key, "GET", "/v1/sessions").json()["sessions"]
        assert {each["tenant"] for each in told} == tenants, key
        told = service.send(key, "GET", "/v1/tenants").json()["tenants"]
        assert {each["tenant"] for each in told} == tenants, key
        told = service.send(key, "GET", "/v1/deadletters").json()["deadletters"]
        nobodys = {None} if key in ALL else set[None]()
        assert {each["tenant"] for each in told} == tenants | nobodys, key
        peaks = service.send(key, "GET", f"/v1/usage?meter=runs&{SPAN}&peak=true&total=true")
        assert peaks.json()["rows"][0]["peak"] <= len(tenants), key


@pytest.mark.parametrize(
    "url",
    [
        f"/v1/usage?meter=calls&{SPAN}&tenant={BETA}",
        f"/v1/usage?meter=calls&{SPAN}&tenant={ALPHA}&tenant={BETA}",
        f"/v1/usage?meter=none&{SPAN}&tenant={BETA}",
        f"/v1/usage?meter=calls&{SPAN}&tenant={BETA}&every=billing",
        f"/v1/periods?meter=calls&{SPAN}&tenant={BETA}",
        f"/v1/adjustments?meter=calls&{SPAN}&tenant={BETA}",
        f"/v1/explain?meter=calls&{SPAN}&tenant={BETA}",
        f"/v1/sessions?tenant={BETA}",
        f"/v1/thresholds?who={BETA}",
        f"/v1/thresholds?who={BETA}-account",
        "/v1/thresholds?who=nobody",
        f"/v1/deadletters?tenant={BETA}",
        f"/v1/tenants/{BETA}/account",
        f"/v1/tenants/{BETA}/account/history",
        f"/v1/lookup/tenants/{BETA}",
    ],
)
def test_a_foreign_tenant_is_forbidden(service: Service, url: str) -> None:
    """Whoever names a tenant of somebody else hears 403, whether there is such a tenant or not."""
    response = service.send("read of alphaco", "GET", url)
    made_up = service.send("read of alphaco", "GET", url.replace(BETA, "madeup"))

    assert (response.status_code, made_up.status_code) == (403, 403)
    assert response.json()["type"] == "urn:meterstream:problem:foreign-tenant"
    assert response.text.replace(BETA, "madeup") == made_up.text


@pytest.mark.parametrize(
    "url",
    [
        f"/v1/mappings?tenantId={BETA}",
        f"/v1/mappings?tenantId={BETA}-vendor",
        f"/v1/usage/current?tenantId={ALPHA}&customerRef={BETA}",
        f"/v1/usage/history?tenantId={BETA}-vendor&customerRef={BETA}",
    ],
)
def test_what_stripemeter_asks_of_others_is_forbidden(service: Service, url: str) -> None:
    """Also the prices and limits of another account, whether it has any or not."""
    response = service.send("read of alphaco", "GET", url)
    made_up = service.send("read of alphaco", "GET", url.replace(BETA, "madeup"))

    assert (response.status_code, made_up.status_code) == (403, 403)
    assert response.text.replace(BETA, "madeup") == made_up.text
    assert not [each for each in traces(BETA)[1:] if each in response.text]


def test_prices_of_an_account_are_for_keys_of_all_and_of_that_name(service: Service) -> None:
    """A customer's key that is bound to the account's name as well reads its list."""
    told = {
        (key, account): service.send(key, "GET", f"/v1/mappings?tenantId={account}").status_code
        for key in ("read of all", "read of both", "read of alphaco", "ingest of all")
        for account in (ALPHA, f"{ALPHA}-vendor")
    }
    [mapping] = service.send("read of all", "GET", f"/v1/mappings?tenantId={BETA}-vendor").json()[
        "mappings"
    ]

    assert told == {
        ("read of all", ALPHA): 200,
        ("read of all", f"{ALPHA}-vendor"): 200,
        ("read of both", ALPHA): 200,
        ("read of both", f"{ALPHA}-vendor"): 403,
        ("read of alphaco", ALPHA): 200,
        ("read of alphaco", f"{ALPHA}-vendor"): 403,
        ("ingest of all", ALPHA): 403,
        ("ingest of all", f"{ALPHA}-vendor"): 403,
    }
    assert (mapping["unitPrice"], mapping["limit"]) == (FIGURES[BETA], FIGURES[BETA])


@pytest.mark.parametrize(
    "url",
    [
        f"/v1/usage?meter=calls&{SPAN}&account=ACCOUNT",
        f"/v1/usage?meter=calls&{SPAN}&account=ACCOUNT&every=billing",
        f"/v1/usage?meter=calls&{SPAN}&account=ACCOUNT&tenant={ALPHA}",
        f"/v1/periods?meter=calls&{SPAN}&account=ACCOUNT",
        f"/v1/adjustments?meter=calls&{SPAN}&account=ACCOUNT",
        "/v1/sessions?account=ACCOUNT",
        "/v1/accounts/ACCOUNT",
        "/v1/accounts/ACCOUNT/tenants",
        "/v1/accounts/ACCOUNT/external-ids",
    ],
)
def test_a_foreign_account_is_not_there(service: Service, url: str) -> None:
    """An account without a tenant of the key's is answered as one that does not exist."""
    theirs = service.send("read of alphaco", "GET", url.replace("ACCOUNT", f"{BETA}-account"))
    nobodys = service.send("read of alphaco", "GET", url.replace("ACCOUNT", "made-up"))
    own = service.send("read of alphaco", "GET", url.replace("ACCOUNT", f"{ALPHA}-account"))

    assert (theirs.status_code, nobodys.status_code, own.status_code) == (404, 404, 200)
    assert theirs.text.replace(f"{BETA}-account", "made-up") == nobodys.text


def test_a_shared_account_shows_the_keys_part(service: Service) -> None:
    """Of an account with others' tenants a key sees its own, in figures and in lists."""
    url = "/v1/accounts/shared-account/tenants?at=2026-01-15"
    assert service.send("read of alphaco", "GET", url).json()["tenants"] == [ALPHA]
    assert service.send("read of both", "GET", url).json()["tenants"] == [ALPHA, BETA]

    url = "/v1/sessions?account=shared-account"
    assert service.send("read of alphaco", "GET", url).status_code == 200
    url = f"/v1/usage?meter=calls&{SPAN}&account={ALPHA}-account&total=true"
    for key in ("read of alphaco", "read of both", "admin"):
        [row] = service.send(key, "GET", url).json()["rows"]
        assert row["value"] == str(2 * FIGURES[ALPHA]), key


def test_watched_figures(service: Service) -> None:
    """A tenant's figure is for its key; an account's for whoever may see all of its tenants."""
    told = {
        key: {
            each["tenant"] or each["account"]
            for each in service.send(key, "GET", "/v1/thresholds").json()["thresholds"]
        }
        for key in ("read of alphaco", "read of betaco", "read of both", "read of all")
    }

    everything = {ALPHA, BETA, f"{ALPHA}-account", f"{BETA}-account", "shared-account"}
    assert told == {
        "read of alphaco": {ALPHA, f"{ALPHA}-account"},
        "read of betaco": {BETA, f"{BETA}-account"},
        "read of both": everything,
        "read of all": everything,
    }


def test_an_explanation_is_of_ones_own(service: Service) -> None:
    """A bound key gets the figure and its rows, but nothing of the partition it shares."""
    url = f"/v1/explain?meter=calls&{SPAN}&tenant={ALPHA}"
    own = service.send("read of alphaco", "GET", url).json()
    whole = service.send("admin", "GET", url).json()

    assert own["figure_hash"] == whole["figure_hash"]
    assert own["windows"] == whole["windows"]
    assert own["producers"] is None
    assert own["log"] == {"topic": "events"}
    assert BOTH in str(whole["log"])


OFFERS: Final[list[tuple[str, str, Any]]] = [
    ("POST", "/v1/events", {"type": "t", "tenant": BETA}),
    ("POST", "/v1/events", [{"type": "t", "tenant": BETA}, {"type": "t", "tenant": ALPHA}]),
    ("POST", "/v1/events", [{"account_id": 42, "metric_code": "m", "value": 1}]),
    (
        "POST",
        "/api/v1/events",
        {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": BETA, "data": {}},
    ),
    (
        "POST",
        "/v1/events/ingest",
        {"events": [{"tenant_id": "x", "metric": "m", "customer_ref": BETA, "quantity": 1.0}]},
    ),
    (
        "POST",
        "/api/meter/event",
        {"id": "1", "project_id": BETA, "agent_id": "a", "user_id": "u", "event_type": "api_call"},
    ),
    (
        "POST",
        "/api/v1/meter-events/",
        {"meter_type_id": BETA, "subject_id": BETA, "quantity": 1.0},
    ),
    (
        "POST",
        "/topics/usage-events",
        {"records": [{"value": {"meter_id": "m", "customer_id": BETA, "total_usage": 1}}]},
    ),
    ("POST", "/v1/events/batch", {"events": [{"command": "c", "tool_slug": BETA}]}),
    ("POST", "/v1/consumer/call", {"tool_id": BETA, "event_name": "call"}),
]


@pytest.mark.parametrize(("method", "path", "body"), OFFERS)
def test_events_never_reach_another_tenant(
    service: Service, method: str, path: str, body: object
) -> None:
    """Whatever the body says, a bound key's events are of its own tenant, or are refused."""
    service.door.taken.clear()

    for key in ("ingest of alphaco", "both of alphaco", "read of alphaco", *NOBODYS):
        response = service.send(key, method, path, json=body)
        assert response.status_code != 500, response.text
        if key in {*NOBODYS, "read of alphaco"}:
            assert response.status_code in {400, 401, 403}, (key, response.text)

    assert {offer.tenant for offer in service.door.taken} <= {ALPHA}
