"""Accounts and tenants over HTTP: made, changed under conditions, imported in bulk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_services.accounts.model import Assign, SetAccount
from meterstream_services.http.account_forms import (
    AccountDocument,
    AccountsDocument,
    HistoryDocument,
    ImportDocument,
    TenantAccountDocument,
)
from tests.unit.services.http.conftest import moment

if TYPE_CHECKING:
    import httpx

    from tests.unit.services.http.conftest import World

ACME = {
    "id": "a1",
    "name": "Acme, Inc.",
    "zone": "Europe/Berlin",
    "billing_anchor": 31,
    "labels": {"plan": "pro"},
    "status": "active",
}
CSV = """\
account,name,zone,label.plan,tenant,from
a1,Acme,Europe/Berlin,pro,acme,
b2,,,,acme,2026-03-01
"""


def _import(
    world: World, content: str | bytes, kind: str = "text/csv", query: str = ""
) -> httpx.Response:
    return world.send(
        "POST", f"/v1/accounts:import{query}", content=content, headers={"content-type": kind}
    )


def test_an_account_comes_back_as_it_was_sent(world: World) -> None:
    """Made, read and listed, an account is the same document."""
    made = world.send("POST", "/v1/accounts", json=ACME)

    assert made.status_code == 201
    assert made.headers["location"] == "/v1/accounts/a1"
    assert made.json() == ACME
    read = world.get("/v1/accounts/a1")
    assert read.json() == ACME
    assert read.headers["etag"] == made.headers["etag"]
    AccountDocument.model_validate(read.json())
    listed = world.get("/v1/accounts").json()
    AccountsDocument.model_validate(listed)
    assert listed == {"accounts": [ACME], "next": None}


def test_an_account_is_made_once(world: World) -> None:
    """A second one of the same id is a conflict and changes nothing."""
    world.send("POST", "/v1/accounts", json=ACME)

    again = world.send("POST", "/v1/accounts", json={"id": "a1", "name": "Other"})

    assert again.status_code == 409
    assert again.json()["type"] == "urn:meterstream:problem:account-exists"
    assert world.get("/v1/accounts/a1").json() == ACME


def test_put_makes_and_replaces(world: World) -> None:
    """PUT makes the account exactly what it says: fields left out get their default again."""
    made = world.send("PUT", "/v1/accounts/a1", json={"name": "One", "billing_anchor": 15})
    replaced = world.send("PUT", "/v1/accounts/a1", json={"labels": {"plan": "pro"}})
    emptied = world.send("PUT", "/v1/accounts/a1", json={})

    assert (made.status_code, replaced.status_code) == (201, 200)
    assert replaced.json() == {
        "id": "a1",
        "name": "",
        "zone": "UTC",
        "billing_anchor": 1,
        "labels": {"plan": "pro"},
        "status": "active",
    }
    assert emptied.json()["labels"] == {}


def test_ids_of_any_shape_have_a_place(world: World) -> None:
    """An id with spaces, percent signs or letters of any script is found under its location."""
    made = world.send("POST", "/v1/accounts", json={"id": "Ünï 100%?#&+"})

    assert made.status_code == 201
    assert world.get(made.headers["location"]).json()["id"] == "Ünï 100%?#&+"


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"name": "no id"}, "id"),
        ({"id": "a/b"}, "account"),
        ({"id": ""}, "account"),
        ({"id": "a", "zone": "Mars"}, "zone"),
        ({"id": "a", "billing_anchor": 32}, "billing_anchor"),
        ({"id": "a", "billing_anchor": "1"}, "billing_anchor"),
        ({"id": "a", "billing_anchor": 1.0}, "billing_anchor"),
        ({"id": "a", "status": "gone"}, "status"),
        ({"id": "a", "colour": "red"}, "colour"),
        ({"id": "a", "labels": {"plan": 1}}, "labels.plan"),
        ({"id": "a", "name": "x\x00"}, "name"),
    ],
)
def test_malformed_accounts_are_refused(world: World, form: dict[str, object], field: str) -> None:
    """What cannot be an account is refused by field, and nothing is made."""
    response = world.send("POST", "/v1/accounts", json=form)

    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert field in [error["field"] for error in response.json()["errors"]]
    assert world.directory.accounts() == []


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"null", b"9" * 5000, b"[" * 100_000, b""])
def test_malformed_bodies_are_refused(world: World, body: bytes) -> None:
    """A body that is no account is a problem of the caller, never of the service."""
    response = world.send(
        "POST", "/v1/accounts", content=body, headers={"content-type": "application/json"}
    )

    assert response.status_code in (400, 422), response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_readers_are_told_of_no_change(world: World) -> None:
    """With the tag of what was read, an unchanged account, list, mapping or history is a 304."""
    world.directory.apply([SetAccount("a1"), Assign("t", "a1", None)])

    for path in (
        "/v1/accounts/a1",
        "/v1/accounts",
        "/v1/accounts/a1/tenants",
        "/v1/tenants/t/account",
        "/v1/tenants/t/account/history",
    ):
        first = world.get(path)
        again = world.get(path, headers={"if-none-match": f'"x", W/{first.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b""), path
        assert again.headers["etag"] == first.headers["etag"]

    world.directory.apply([SetAccount("a1", name="new"), SetAccount("b2")])
    world.directory.apply([Assign("t", "b2", moment("2026-01-05"))])
    assert world.get(path, headers={"if-none-match": first.headers["etag"]}).status_code == 200


def test_writers_change_only_what_they_read(world: World) -> None:
    """If-Match lets a change through once; who comes second must read again."""
    made = world.send("POST", "/v1/accounts", json=ACME)
    tag = {"if-match": made.headers["etag"]}

    first = world.send("PUT", "/v1/accounts/a1", json={"name": "first"}, headers=tag)
    second = world.send("PUT", "/v1/accounts/a1", json={"name": "second"}, headers=tag)
    removal = world.send("DELETE", "/v1/accounts/a1", headers=tag)
    anew = world.send(
        "PUT", "/v1/accounts/a1", json={"name": "anew"}, headers={"if-none-match": "*"}
    )
    ghost = world.send("PUT", "/v1/accounts/zz", json={}, headers={"if-match": "*"})

    assert first.status_code == 200
    assert [r.status_code for r in (second, removal, anew, ghost)] == [412] * 4
    assert world.get("/v1/accounts/a1").json()["name"] == "first"
    gone = world.send("DELETE", "/v1/accounts/a1", headers={"if-match": first.headers["etag"]})
    assert gone.status_code == 204
    assert world.get("/v1/accounts/a1").status_code == 404


def test_an_account_in_use_stays(world: World) -> None:
    """An account in a tenant's history cannot be removed; the answer says what to do."""
    world.directory.apply([SetAccount("a1"), Assign("t", "a1", None)])

    response = world.send("DELETE", "/v1/accounts/a1")

    assert response.status_code == 409
    assert "set its status to closed" in response.json()["detail"]
    assert world.send("DELETE", "/v1/accounts/zz").status_code == 404


def test_a_tenant_is_mapped_and_moved(world: World) -> None:
    """The account of a tenant can be asked for any instant; its history shows all of them."""
    world.send("POST", "/v1/accounts", json=ACME)
    world.send("POST", "/v1/accounts", json={"id": "b2"})

    world.send("PUT", "/v1/tenants/acme/account", json={"account": "a1"})
    moved = world.send(
        "PUT", "/v1/tenants/acme/account", json={"account": "b2", "from": "2026-03-01"}
    )
    ended = world.send("DELETE", "/v1/tenants/acme/account?from=2026-05-01T00:00:00Z")

    assert moved.status_code == 200
    HistoryDocument.model_validate(moved.json())
    assert ended.json() == {
        "tenant": "acme",
        "history": [
            {"account": "a1", "from": None, "to": "2026-03-01T00:00:00+00:00"},
            {
                "account": "b2",
                "from": "2026-03-01T00:00:00+00:00",
                "to": "2026-05-01T00:00:00+00:00",
            },
            {"account": None, "from": "2026-05-01T00:00:00+00:00", "to": None},
        ],
    }
    before = world.get("/v1/tenants/acme/account?at=2026-02-28T23:59:59.999999Z").json()
    TenantAccountDocument.model_validate(before)
    assert (before["account"], before["from"], before["to"]) == (
        ACME,
        None,
        "2026-03-01T00:00:00+00:00",
    )
    after = world.get("/v1/tenants/acme/account?at=2026-03-01").json()
    assert after["account"]["id"] == "b2"
    assert world.get("/v1/tenants/acme/account").status_code == 404
    assert world.get("/v1/accounts/a1/tenants?at=2026-02-01").json()["tenants"] == ["acme"]
    assert world.get("/v1/accounts/a1/tenants?at=2026-03-01").json()["tenants"] == []


def test_a_mapping_in_force_is_not_guessed_away(world: World) -> None:
    """Mapping a mapped tenant elsewhere without saying from when is refused by field."""
    world.directory.apply([SetAccount("a1"), SetAccount("b2"), Assign("t", "a1", None)])

    response = world.send("PUT", "/v1/tenants/t/account", json={"account": "b2"})

    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "from"


def test_a_mapping_changes_only_if_unchanged(world: World) -> None:
    """The tag of a tenant's account or history protects a change of the mapping."""
    world.directory.apply([SetAccount("a1"), SetAccount("b2"), Assign("t", "a1", None)])
    tags = [
        world.get(path).headers["etag"]
        for path in ("/v1/tenants/t/account", "/v1/tenants/t/account/history")
    ]
    form = {"account": "b2", "from": "2026-03-01"}

    world.directory.apply([SetAccount("a1", name="renamed: the mapping is the same")])
    fine = world.send("PUT", "/v1/tenants/t/account", json=form, headers={"if-match": tags[0]})
    stale = [
        world.send("DELETE", "/v1/tenants/t/account?from=2026-04-01", headers={"if-match": tag})
        for tag in tags
    ]

    assert fine.status_code == 200
    assert [response.status_code for response in stale] == [412, 412]


@pytest.mark.parametrize(
    "tenant", ["a/b", "a/account", "x/account/history", "a b", "ü", "?", "%2F"]
)
def test_tenants_of_any_shape_have_a_place(world: World, tenant: str) -> None:
    """Whatever characters a tenant holds, its mapping is its own."""
    from urllib.parse import quote  # noqa: PLC0415 - only here

    world.directory.apply([SetAccount("a1"), SetAccount("b2"), Assign("a", "b2", None)])
    path = f"/v1/tenants/{quote(tenant, safe='')}/account"

    mapped = world.send("PUT", path, json={"account": "a1"})

    assert mapped.json()["tenant"] == tenant
    assert world.get(path).json()["account"]["id"] == "a1"
    assert world.get(f"{path}/history").json()["tenant"] == tenant
    assert set(world.directory.histories(["a", tenant])) == {"a", tenant}


def test_import_of_csv(world: World) -> None:
    """A file makes accounts and mappings at once, and a second time changes nothing."""
    first = _import(world, CSV)
    second = _import(world, CSV, kind="text/csv; charset=utf-8")

    ImportDocument.model_validate(first.json())
    assert first.json() == {
        "rows": 2,
        "accounts_created": 2,
        "accounts_changed": 0,
        "tenants_changed": 2,
        "unchanged": 0,
        "dry_run": False,
    }
    assert second.json()["unchanged"] == 4
    assert world.get("/v1/tenants/acme/account?at=2026-03-01").json()["account"]["id"] == "b2"


def test_import_of_json(world: World) -> None:
    """A JSON list says the same."""
    rows = [{"account": "a1", "labels": {"plan": "pro"}}, {"account": "a1", "tenant": "acme"}]

    response = world.send("POST", "/v1/accounts:import", json=rows)

    assert response.json()["accounts_created"] == 1
    assert world.get("/v1/accounts/a1/tenants").json()["tenants"] == ["acme"]


def test_a_dry_run_keeps_nothing(world: World) -> None:
    """A dry run answers as if, and leaves everything as it was."""
    response = _import(world, CSV, query="?dry_run=true")

    assert (response.json()["accounts_created"], response.json()["dry_run"]) == (2, True)
    assert world.directory.accounts() == []


def test_bad_rows_are_listed_and_nothing_is_imported(world: World) -> None:
    """Rows that cannot be read and rows that do not fit what is stored come by number."""
    world.directory.apply([SetAccount("x"), Assign("t", "x", None)])

    unreadable = _import(world, "account,status\ngood,active\nbad,gone\n")
    unfit = _import(world, "account,zone,tenant\ngood,,\nfar,Mars/Base,\nnew,,t\n")

    assert [(e["row"], e["field"], e["value"]) for e in unreadable.json()["errors"]] == [
        (2, "status", "gone")
    ]
    assert [(e["row"], e["field"], e["value"]) for e in unfit.json()["errors"]] == [
        (2, "zone", "Mars/Base"),
        (3, "from", ""),
    ]
    assert unfit.status_code == 422
    assert unfit.json()["detail"].startswith("nothing was imported: row 2, zone: 'Mars/Base'")
    assert [account.id for account in world.directory.accounts()] == ["x"]


def test_only_known_formats_are_imported(world: World) -> None:
    """Another content type is refused before anything is read."""
    response = _import(world, "<a/>", kind="application/xml")

    assert response.status_code == 415
    assert "send text/csv or application/json" in response.json()["detail"]
