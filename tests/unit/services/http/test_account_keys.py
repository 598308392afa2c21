"""Keys at the paths of accounts: a key that is bound to tenants hears of no other's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.unit.services.keys.two_tenants import ALPHA, BETA, Service

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

KEY: Final = f"read of {ALPHA}"


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """Two tenants with an account each, and an external id each; both once shared an account."""
    made = Service(tmp_path)
    for tenant in (ALPHA, BETA):
        url = f"/v1/accounts/{tenant}-account/external-ids/crm/{tenant}-id"
        assert made.send("admin", "PUT", url).status_code == 200
    return made


def _lookup(service: Service, *tenants: str) -> httpx.Response:
    return service.send(KEY, "POST", "/v1/lookup", json={"tenants": list(tenants)})


def test_many_tenants_are_looked_up_only_where_all_are_the_keys(service: Service) -> None:
    """One foreign tenant among them refuses the whole question, whether it exists or not."""
    own = _lookup(service, ALPHA, ALPHA)
    assert own.status_code == 200
    assert [each["tenant"] for each in own.json()["tenants"]] == [ALPHA]
    assert BETA not in own.text

    theirs, nobodys = _lookup(service, ALPHA, BETA), _lookup(service, ALPHA, "madeup")
    assert (theirs.status_code, nobodys.status_code) == (403, 403)
    assert theirs.text.replace(BETA, "madeup") == nobodys.text
    assert _lookup(service).json() == {"tenants": [], "accounts": {}}


def test_a_foreign_external_id_means_nothing(service: Service) -> None:
    """It is answered as one that does not exist."""
    url = "/v1/lookup/external-ids/crm/TENANT-id"
    own = service.send(KEY, "GET", url.replace("TENANT", ALPHA))
    theirs = service.send(KEY, "GET", url.replace("TENANT", BETA))
    nobodys = service.send(KEY, "GET", url.replace("TENANT", "madeup"))

    assert own.json()["account"]["id"] == f"{ALPHA}-account"
    assert (theirs.status_code, nobodys.status_code) == (404, 404)
    assert theirs.text == nobodys.text


def test_a_merge_opens_no_account(service: Service) -> None:
    """Into a foreign account: it is seen from the instant on which the key's tenant belongs there.

    A merge whose tenants had left before shows nothing of the account that took its place.
    """
    body: dict[str, Any] = {"account": "shared-account", "into": f"{BETA}-account"}
    body["from"] = "2026-03-01"
    assert service.send("admin", "POST", "/v1/accounts:merge", json=body).status_code == 200
    url = "/v1/accounts/shared-account/external-ids/crm/shared"
    assert service.send("admin", "PUT", url).status_code == 200

    for path in (
        f"/v1/accounts/{BETA}-account",
        f"/v1/accounts/{BETA}-account/tenants?ever=true",
        "/v1/lookup/external-ids/crm/shared",
    ):
        answer = service.send(KEY, "GET", path)
        assert answer.status_code == 404, path
        assert BETA not in answer.text.replace(f"{BETA}-account", ""), path
    for path in ("/v1/accounts/shared-account", f"/v1/lookup/tenants/{ALPHA}?at=2026-01-15"):
        theirs, all_of_it = (service.send(key, "GET", path) for key in (KEY, "read of all"))
        assert '"status":"merged"' in theirs.text
        assert BETA not in theirs.text
        assert f'"merged_into":"{BETA}-account"' in all_of_it.text
    found = service.send("read of all", "GET", "/v1/lookup/external-ids/crm/shared").json()
    assert found["account"]["id"] == f"{BETA}-account"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/accounts", None),
        ("GET", "/v1/accounts:changes", None),
        ("GET", "/v1/accounts:export", None),
        ("POST", "/v1/accounts", {"id": "new"}),
        ("PUT", f"/v1/accounts/{ALPHA}-account", {"name": "mine"}),
        ("DELETE", f"/v1/accounts/{ALPHA}-account", None),
        ("PUT", f"/v1/accounts/{ALPHA}-account/external-ids/crm/x", None),
        ("DELETE", f"/v1/accounts/{ALPHA}-account/external-ids/crm/{ALPHA}-id", None),
        ("POST", "/v1/accounts:import", [{"account": "new"}]),
        ("POST", "/v1/accounts:import?dry_run=true", [{"account": "new"}]),
        ("POST", "/v1/accounts:move", {"tenants": [ALPHA], "account": "shared-account"}),
        ("POST", "/v1/accounts:merge", {"account": "shared-account", "into": "x"}),
        ("POST", "/v1/accounts:unmerge", {"account": "shared-account"}),
        ("PUT", f"/v1/tenants/{ALPHA}/account", {"account": "shared-account"}),
        ("DELETE", f"/v1/tenants/{ALPHA}/account?from=2026-03-01", None),
    ],
)
def test_lists_and_changes_are_not_for_bound_keys(
    service: Service, method: str, path: str, body: object
) -> None:
    """Not even for the key's own tenant: what is done to accounts changes others' figures."""
    before = service.send("admin", "GET", "/v1/accounts:export").text

    for key in (KEY, f"both of {ALPHA}"):
        answer = service.send(key, method, path, json=body)
        assert answer.status_code == 403, answer.text
        assert BETA not in answer.text

    assert service.send("admin", "GET", "/v1/accounts:export").text == before
