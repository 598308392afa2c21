"""Moves, merges, external ids, lookups, the feed and the export over HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.store.memory import MemoryStore
from meterstream_services.accounts.cached import CachedDirectory
from meterstream_services.accounts.imports import read_json_lines
from meterstream_services.accounts.memory import MemoryDirectory
from meterstream_services.accounts.model import Assign, Merge, SetAccount, SetExternalId
from meterstream_services.accounts.static import StaticDirectory
from meterstream_services.http.account_feed import ChangesDocument
from meterstream_services.http.account_moves import MovedDocument
from meterstream_services.http.app import create_app
from meterstream_services.http.lookup import ExternalDocument, LookupDocument
from meterstream_services.http.settings import Settings
from tests.unit.services.http.conftest import World, moment

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

MARCH = moment("2026-03-01")


@pytest.fixture
def filled(world: World) -> World:
    """Two accounts, of which b2 has the tenant acme."""
    world.directory.apply(
        [SetAccount("a1", name="A"), SetAccount("b2"), Assign("acme", "b2", None)]
    )
    return world


def _post(world: World, path: str, body: object) -> httpx.Response:
    return world.send("POST", path, json=body)


def test_a_move_is_tried_and_made(filled: World) -> None:
    """The dry run tells what would change and keeps nothing; the move does it, and once only."""
    form = {"tenants": ["acme"], "account": "a1", "source": "b2", "from": "2026-03-01"}

    tried = _post(filled, "/v1/accounts:move?dry_run=true", form).json()
    before = filled.directory.histories(["acme"])
    made = _post(filled, "/v1/accounts:move", form).json()
    again = _post(filled, "/v1/accounts:move", form).json()

    MovedDocument.model_validate(made)
    assert tried == made | {"dry_run": True}
    assert made["changes"] == [
        {
            "kind": "tenant",
            "id": "acme",
            "was": [{"account": "b2", "from": None, "to": None}],
            "now": [
                {"account": "b2", "from": None, "to": "2026-03-01T00:00:00+00:00"},
                {"account": "a1", "from": "2026-03-01T00:00:00+00:00", "to": None},
            ],
        }
    ]
    assert before == {"acme": ((0, "b2"),)}
    assert (again["tenants_changed"], again["unchanged"], again["changes"]) == (0, 1, [])


def test_a_move_from_elsewhere_is_refused(filled: World) -> None:
    """Who is mistaken about where a tenant belongs moves none of them."""
    form = {"tenants": ["acme", "x"], "account": "a1", "source": "a1", "from": "2026-03-01"}

    response = _post(filled, "/v1/accounts:move", form)

    assert response.status_code == 422
    assert {error["value"] for error in response.json()["errors"]} == {"x"} | {"acme"}
    assert "belongs to 'b2' then, not to 'a1'" in response.json()["detail"]


def test_a_merge_and_its_end(filled: World) -> None:
    """A merged account says what took its place, can be found by its id, and can come back."""
    form = {"account": "b2", "into": "a1", "from": "2026-03-01"}

    made = _post(filled, "/v1/accounts:merge", form)
    merged = filled.get("/v1/accounts/b2").json()
    put = filled.send("PUT", "/v1/accounts/b2", json={"name": "B"})
    undone = _post(filled, "/v1/accounts:unmerge", {"account": "b2"})

    assert made.json()["tenants_changed"] == 1
    assert (merged["status"], merged["merged_into"]) == ("merged", "a1")
    assert merged["merged_from"] == "2026-03-01T00:00:00+00:00"
    assert (put.status_code, "undo the merge first" in put.json()["detail"]) == (422, True)
    assert undone.json()["tenants_changed"] == 1
    assert filled.get("/v1/accounts/b2").json()["status"] == "active"
    assert filled.directory.histories(["acme"]) == {"acme": ((0, "b2"),)}


def test_external_ids_lead_through_merges(filled: World) -> None:
    """An id of another system finds its account, and after a merge the one that took its place."""
    path = "/v1/accounts/b2/external-ids/stripe/cus%2F1"

    given = filled.send("PUT", path)
    taken = filled.send("PUT", path.replace("b2", "a1"))
    found = filled.get("/v1/lookup/external-ids/stripe/cus%2F1").json()
    filled.directory.apply([Merge("b2", "a1", MARCH)])
    after = filled.get("/v1/lookup/external-ids/stripe/cus%2F1").json()
    removed = filled.send("DELETE", path)

    assert given.json()["external_ids"] == [{"system": "stripe", "id": "cus/1"}]
    assert (taken.status_code, taken.json()["type"].rpartition(":")[2]) == (
        409,
        "external-id-taken",
    )
    ExternalDocument.model_validate(after)
    assert (found["via"], found["account"]["id"]) == ("b2", "b2")
    assert (after["via"], after["account"]["id"]) == ("b2", "a1")
    assert removed.json()["external_ids"] == []
    assert filled.send("DELETE", path).status_code == 404
    assert filled.get("/v1/lookup/external-ids/stripe/cus%2F1").status_code == 404
    assert filled.send("PUT", path.replace("b2", "zz")).status_code == 404


def test_many_tenants_are_looked_up_at_once(filled: World) -> None:
    """A batch answers in its order, with whole histories; who was never mapped has no account."""
    filled.directory.apply([Assign("acme", "a1", MARCH)])

    answer = _post(
        filled, "/v1/lookup", {"tenants": ["nobody", "acme", "acme"], "at": "2026-02-01"}
    ).json()
    one = filled.get("/v1/lookup/tenants/acme?at=2026-03-01")

    LookupDocument.model_validate(answer)
    assert [(each["tenant"], each["account"]) for each in answer["tenants"]] == [
        ("nobody", None),
        ("acme", "b2"),
    ]
    assert answer["tenants"][1]["to"] == "2026-03-01T00:00:00+00:00"
    assert [spell["account"] for spell in answer["tenants"][1]["history"]] == ["b2", "a1"]
    assert set(answer["accounts"]) == {"b2"}
    assert one.json()["tenants"][0]["account"] == "a1"
    tag = {"if-none-match": one.headers["etag"]}
    assert filled.get("/v1/lookup/tenants/acme?at=2026-03-01", headers=tag).status_code == 304
    many = {"tenants": [f"t{number}" for number in range(1001)]}
    assert _post(filled, "/v1/lookup", many).status_code == 422
    assert _post(filled, "/v1/lookup", {"tenants": []}).json() == {"tenants": [], "accounts": {}}


def test_changes_are_read_page_by_page(filled: World) -> None:
    """The cursor of one page leads to the next, and at the end to what will come."""
    first = filled.get("/v1/accounts:changes?limit=2").json()
    rest = filled.get(f"/v1/accounts:changes?after={first['next']}").json()
    none = filled.get(f"/v1/accounts:changes?after={rest['next']}").json()

    ChangesDocument.model_validate(first)
    assert [each["id"] for each in first["changes"] + rest["changes"]] == ["a1", "b2", "acme"]
    assert (first["next"], rest["next"], rest["last"]) == (2, 3, 3)
    assert none == {"changes": [], "next": 3, "last": 3}
    response = filled.get("/v1/accounts:changes")
    again = filled.get("/v1/accounts:changes", headers={"if-none-match": response.headers["etag"]})
    assert again.status_code == 304


def test_a_cursor_of_other_accounts_is_told(filled: World) -> None:
    """One beyond the last change would wait for numbers that mean something else by then."""
    answer = filled.get("/v1/accounts:changes?after=4&wait_seconds=20")

    assert answer.status_code == 410
    assert "the last change is 3" in answer.json()["detail"]


def test_an_export_makes_the_same_directory(filled: World) -> None:
    """What is exported imports as it is, in any directory, and the cursor follows from there."""
    filled.directory.apply(
        [
            SetAccount("c3", labels=(("plan", "pro"),)),
            SetExternalId("stripe", "cus_1", "b2"),
            SetExternalId("stripe", "cus_2", "b2"),
            Assign("acme", None, MARCH + 5),
            Assign("acme", "c3", MARCH + 9),
            Assign("gone", "c3", MARCH),
            Assign("gone", None, MARCH + 1),
            Assign("late", None, 5),
            Assign("late", "c3", 9),
            Merge("b2", "a1", MARCH),
        ]
    )

    response = filled.get("/v1/accounts:export")
    copy = MemoryDirectory()
    copy.apply(read_json_lines(response.content).changes)

    tenants = ["acme", "gone", "late"]
    assert copy.accounts() == filled.directory.accounts()
    assert copy.histories(tenants) == filled.directory.histories(tenants)
    assert copy.external_ids("b2") == [("stripe", "cus_1"), ("stripe", "cus_2")]
    assert response.headers["meterstream-cursor"] == str(filled.directory.changes(after=0).last)
    imported = filled.send(
        "POST",
        "/v1/accounts:import",
        content=response.content,
        headers={"content-type": "application/x-ndjson"},
    )
    assert imported.status_code == 200
    assert (imported.json()["accounts_changed"], imported.json()["tenants_changed"]) == (0, 0)


def test_an_import_takes_external_ids_and_merges(world: World) -> None:
    """Columns name ids in other systems and merges, which come after all other rows."""
    csv = (
        "account,tenant,from,merged_into,external.stripe\n"
        "b2,,2026-03-01,a1,\nb2,acme,,,cus_1\na1,,,,cus_2\n"
    )

    response = world.send(
        "POST", "/v1/accounts:import", content=csv, headers={"content-type": "text/csv"}
    )

    assert response.json()["external_ids_changed"] == 2
    assert world.directory.histories(["acme"]) == {"acme": ((0, "b2"), (MARCH, "a1"))}
    assert world.directory.account_of("stripe", "cus_1") == "b2"


@pytest.mark.parametrize(
    "rows",
    [
        [{"account": "a", "merged_into": "b"}],
        [{"account": "a", "merged_into": "b", "from": "soon"}],
        [{"tenant": "t", "merged_into": "b", "from": "2026-03-01"}],
        [{"account": "a", "status": "merged"}],
        [{"account": "a", "external_ids": ["x"]}],
        [{"account": "a", "external_ids": {"crm": 7}}],
        [{"tenant": "t", "external_ids": {"crm": "7"}}],
        [
            {"account": "a", "external_ids": {"crm": "7"}},
            {"account": "b", "external_ids": {"crm": "7"}},
        ],
    ],
)
def test_rows_that_make_no_sense_are_listed(world: World, rows: list[object]) -> None:
    """A merge without an instant, ids that are no texts, and contradictions import nothing."""
    response = _post(world, "/v1/accounts:import", rows)

    assert response.status_code == 422
    assert response.json()["type"].endswith("invalid-import")
    assert world.directory.accounts() == []


def test_ever_lists_those_that_left(filled: World) -> None:
    """All tenants that ever belonged to an account can be listed."""
    filled.directory.apply([Assign("acme", "a1", MARCH)])

    assert filled.get("/v1/accounts/b2/tenants").json()["tenants"] == []
    assert filled.get("/v1/accounts/b2/tenants?ever=true").json()["tenants"] == ["acme"]


def test_a_directory_kept_elsewhere_is_only_read(world: World, tmp_path: Path) -> None:
    """Changes of accounts that are kept in a file are refused with where to make them."""
    path = tmp_path / "accounts.json"
    path.write_text(json.dumps([{"account": "a1", "tenant": "acme"}]))
    object.__setattr__(world.app.state.parts, "directory", StaticDirectory(path))

    assert world.get("/v1/lookup/tenants/acme").json()["tenants"][0]["account"] == "a1"
    assert world.get("/v1/accounts:export").status_code == 200
    for response in (
        _post(world, "/v1/accounts", {"id": "x"}),
        world.send("PUT", "/v1/tenants/acme/account", json={"account": None, "from": "2026-03-01"}),
        world.get("/v1/accounts:changes"),
    ):
        assert response.status_code == 409
        assert response.json()["type"].endswith("accounts-kept-elsewhere")
        assert "accounts.json" in response.json()["detail"]


def test_the_cache_is_told_of_in_metrics(tmp_path: Path) -> None:
    """Hits, misses and errors of the cache in front of the accounts are counted, once each."""
    source = MemoryDirectory()
    cached = CachedDirectory(source)
    store = MemoryStore()
    app = create_app(
        Settings(tmp_path / "store.sqlite3", tmp_path / "accounts.sqlite3"),
        open_store=lambda: store,
        directory=cached,
    )
    world = World(app, store, source)
    for _ in range(3):
        world.get("/v1/lookup/tenants/acme")

    for _ in range(2):
        told = world.get("/metrics").text
        assert 'meterstream_accounts_lookups_total{result="hit"} 2.0' in told
        assert 'meterstream_accounts_lookups_total{result="miss"} 1.0' in told
        assert "meterstream_accounts_errors_total 0.0" in told
