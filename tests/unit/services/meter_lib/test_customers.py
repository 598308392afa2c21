"""The lookup of customers by meter-lib, and what its answer allows whoever brings it back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from meterstream_services.accounts.model import Assign, SetAccount
from meterstream_services.keys.principal import Scope

if TYPE_CHECKING:
    import httpx

    from tests.unit.services.agentmeter.world import World

PATHS = (
    "/metering/v1alpha1/customer-accounts/tenant/",
    "/v1alpha1/customer-accounts/tenant/",
    "/api/v1/customer-accounts/tenant/",
)
CALL = {"meter_id": "page.processed.basic", "total_usage": 1, "event_time": 1_759_791_552_000}


def look_up(
    world: World, path: str, *, key: str | None = None, tenant: str | None = None
) -> httpx.Response:
    """The lookup's answer."""
    headers = {} if tenant is None else {"x-tenant-id": tenant}
    return world.send("GET", PATHS[0] + path, key=key, headers=headers)


def post(world: World, customer: object, key: str | None = None) -> int:
    """The status of an event with this customer id."""
    body: dict[str, Any] = {"records": [{"value": CALL | {"customer_id": customer}}]}
    return world.send("POST", "/topics/usage-events", content=json.dumps(body), key=key).status_code


@pytest.mark.parametrize("path", PATHS)
def test_without_keys_a_tenant_is_its_own_customer(world: World, path: str) -> None:
    """On all paths that versions of the client ask, with and without the header."""
    for headers in ({}, {"x-tenant-id": "tenant_123"}):
        answer = world.send("GET", f"{path}tenant_123", headers=headers)
        assert answer.status_code == 200
        assert answer.json()["id"] == "tenant_123"


def test_with_keys_the_id_is_signed_and_speaks_for_its_tenant(world: World) -> None:
    """An event with it needs no other credential, and cannot be another tenant's."""
    mine = world.key("mine")

    told = look_up(world, "mine", key=mine, tenant="mine").json()["id"]

    assert told != "mine"
    assert post(world, told) == 200
    assert [offer.tenant for offer in world.door.taken] == ["mine"]
    assert post(world, "mine") == 401
    assert post(world, "yours") == 401
    forged = told[:-10] + ("A" if told[-10] != "A" else "B") + told[-9:]
    assert post(world, forged) == 401
    assert post(world, None) == 401
    assert len(world.door.taken) == 1


def test_a_key_beside_the_event_keeps_to_its_tenants(world: World) -> None:
    """Plain ids of its own tenants are taken, and signed ones of others are not."""
    mine, yours, many = world.key("mine"), world.key("yours"), world.key("mine", "third")
    signed = look_up(world, "yours", key=yours, tenant="yours").json()["id"]

    assert post(world, "mine", mine) == 200
    assert post(world, None, mine) == 200
    assert post(world, None, many) == 422
    assert post(world, "third", many) == 200
    assert post(world, "yours", mine) == 403
    assert post(world, signed, mine) == 403
    assert {offer.tenant for offer in world.door.taken} == {"mine", "third"}


def test_keys_for_other_tenants_or_other_things_look_nothing_up(world: World) -> None:
    """401, 403, and no id in the answer."""
    mine, reader = world.key("mine"), world.key("mine", scopes=[Scope.READ])

    for answer, status in (
        (look_up(world, "mine"), 401),
        (look_up(world, "yours", key=mine, tenant="yours"), 403),
        (look_up(world, "mine", key=reader, tenant="mine"), 403),
    ):
        assert answer.status_code == status
        assert answer.json()["error_code"] == status


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("x%20y", "t/../x y"), ("yours", "mine"), ("a/b", None), ("..", None), ("%2e%2e", None),
        ("a%2Fb", None), ("a%00b", "a\\x00b"), ("", ""), ("x" * 129, "x" * 129),
    ],
)  # fmt: skip
def test_paths_that_say_something_else_are_nobodys(
    world: World, path: str, header: str | None
) -> None:
    """What the client's own climbing out of the path makes of a tenant is found out."""
    answer = look_up(world, path, tenant=header)

    assert answer.status_code == 404
    assert "id" not in answer.json()


@pytest.mark.parametrize("tenant", ["a/b", "t 1", "größe", "a?b", "50%"])
def test_odd_tenants_are_themselves(world: World, tenant: str) -> None:
    """Whatever is a tenant can be looked up, as long as path and header agree."""
    for encoding in ("latin-1", "utf-8"):
        answer = world.send(
            "GET", PATHS[0] + quote(tenant), headers={"x-tenant-id": tenant.encode(encoding)}
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["id"] == tenant


def test_where_there_are_accounts_only_their_tenants_are_customers(world: World) -> None:
    """As `meterstream.compat.meter_lib` has it: mapped, or skipped."""
    world.directory.apply([SetAccount("account-7"), Assign("mine", "account-7", None)])

    assert look_up(world, "mine").json() == {
        "id": "mine", "tenant_id": "mine", "account_id": "account-7",
    }  # fmt: skip
    assert look_up(world, "unknown").status_code == 404
