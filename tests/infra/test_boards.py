"""Boards ask for metrics and tables that exist, and are laid out so that Grafana shows them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
import yaml

from meterstream_aggregator.changes import UsageKey
from meterstream_aggregator.store.opening import open_store
from meterstream_services.gateway.port import Ruling
from meterstream_services.http.access import Access, access_of
from meterstream_services.http.app import create_app
from meterstream_services.http.settings import Settings
from tests.contract.stores import BINDING, CATALOGUE, WINDOW, added, commit, row
from tests.infra.promql import faults
from tests.infra.series import EVERYWHERE, known_series
from tests.unit.services.keys.routes import ways

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meterstream_aggregator.store.address import PostgresAddress

FOLDER: Final = Path(__file__).parents[2] / "infra/grafana"
BOARDS: Final = {
    path.stem: json.loads(path.read_text("utf-8"))
    for path in sorted((FOLDER / "dashboards").glob("*.json"))
}
GATEWAY: Final = BOARDS["meterstream-gateway"]
_PROMETHEUS: Final = {"type": "prometheus", "uid": "${metrics}"}
_SQL: Final = {"type": "grafana-postgresql-datasource", "uid": "${store}"}
_BUILT_IN: Final = frozenset({"__rate_interval", "__interval"})
HOUR_SECONDS: Final = 3600


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Panels that show something."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def statements() -> list[tuple[str, str]]:
    """Every statement of SQL, by where it is: of panels and of variables."""
    found: list[tuple[str, str]] = []
    for name, board in BOARDS.items():
        for panel in panels(board):
            found += [
                (f"{name}: {panel['title']}", target["rawSql"])
                for target in panel["targets"]
                if "rawSql" in target
            ]
        found += [
            (f"{name}: ${variable['name']}", variable["query"])
            for variable in board["templating"]["list"]
            if variable["type"] == "query" and variable["datasource"] == _SQL
        ]
    return found


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_has_a_name_that_stays(name: str) -> None:
    """Its uid is its file's name, so that links to it live through an upgrade."""
    board = BOARDS[name]

    assert board["uid"] == name
    assert board["title"].startswith("meterstream: ")
    assert board["timezone"] == "utc"
    assert "id" not in board
    assert {*BOARDS} == {
        f"meterstream-{each}" for each in ("gateway", "pipeline", "producers", "usage")
    }


@pytest.mark.parametrize("name", BOARDS)
def test_panels_lie_side_by_side(name: str) -> None:
    """No two share a place or a number, none leaves the grid, and each says what it shows."""
    taken: set[tuple[int, int]] = set()
    for panel in BOARDS[name]["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells

    numbers = [panel["id"] for panel in BOARDS[name]["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in panels(BOARDS[name]):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["targets"], panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_sources_are_chosen_by_variables(name: str) -> None:
    """No panel is bound to one installation's data source, and every variable named is there."""
    board = BOARDS[name]
    known = {variable["name"] for variable in board["templating"]["list"]} | _BUILT_IN

    for panel in panels(board):
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            assert target["datasource"] in (_PROMETHEUS, _SQL)
    named = set(re.findall(r"\$\{?(\w+)", json.dumps(board)))
    assert {each for each in named - known if not each.startswith("__")} == set()


def test_variables_begin_with_what_is_provisioned() -> None:
    """The uid that a board opens with is that of a provisioned source of its type."""
    file = FOLDER / "provisioning/datasources/meterstream.yaml"
    sources = yaml.safe_load(file.read_text("utf-8"))["datasources"]
    provisioned = {source["uid"]: source["type"] for source in sources}

    for board in BOARDS.values():
        for variable in board["templating"]["list"]:
            if variable["type"] == "datasource":
                assert provisioned[variable["current"]["value"]] == variable["query"]


@pytest.mark.parametrize("name", BOARDS)
def test_expressions_name_what_exists(name: str) -> None:
    """Every metric is in the reference, with the labels that are matched, grouped by and shown."""
    known = known_series()
    for panel in panels(BOARDS[name]):
        for target in panel["targets"]:
            if "expr" not in target:
                continue
            expression = target["expr"].replace("$__rate_interval", "5m")
            assert faults(expression, known, EVERYWHERE) == [], panel["title"]
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            kept = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", expression))))
            assert shown <= (kept or EVERYWHERE), panel["title"]


def test_rulings_that_are_matched_exist() -> None:
    """A ruling that the door no longer gives would show as nothing, for good."""
    named = {each for found in matched("ruling") for each in found.split("|")}

    assert named == {"refused", "conflict", "unavailable"}
    assert named < {ruling.value for ruling in Ruling}


def test_every_client_has_its_routes(tmp_path: Path) -> None:
    """What is called a client's are routes of the program, each of one client, and none is left."""
    app = create_app(Settings(store=tmp_path / "store", accounts=tmp_path / "accounts"))
    known = {way.path for way in ways(app)}
    taking = {
        way.path
        for way in ways(app)
        if way.method == "POST" and access_of("POST", way.path) in {Access.INGEST, Access.SIGNED}
    }
    [panel] = [each for each in panels(GATEWAY) if each["title"] == "Requests by client"]
    clients = re.findall(r'route=~"([^"]+)"', " ".join(each["expr"] for each in panel["targets"]))

    for route in taking:
        assert sum(re.fullmatch(client, route) is not None for client in clients) == 1, route
    for pattern in matched("route"):
        for each in re.split(r"\|(?![^(]*\))", pattern):
            assert any(re.fullmatch(each, route) for route in known), each


def matched(label: str) -> set[str]:
    """What the gateway's board matches a label with."""
    text = " ".join(target["expr"] for panel in panels(GATEWAY) for target in panel["targets"])
    return set(re.findall(rf'{label}=~?"([^"$]+)"', text))


def expanded(statement: str, variables: Mapping[str, str], start: int, end: int) -> str:
    """A statement as Grafana sends it."""
    text = re.sub(r"\$__unixEpochGroup\((\w+), \$__interval\)", r"floor((\1)/900)*900", statement)
    text = text.replace("$__unixEpochFrom()", str(start)).replace("$__unixEpochTo()", str(end))
    for name, value in variables.items():
        quoted = ",".join(f"'{each}'" for each in value.split(","))
        text = text.replace(f"${{{name}:sqlstring}}", quoted).replace(f"${{{name}}}", value)
    assert "$" not in text, text
    return text


@pytest.fixture
def address(postgres_address: PostgresAddress) -> PostgresAddress:
    """A store on PostgreSQL that holds usage in time and late, with decimal places."""
    store = open_store(postgres_address)
    try:
        store.bind(BINDING, CATALOGUE)
        rows: dict[UsageKey, tuple[int, int]] = {
            row(scale=2): (2, 1_250),
            row(scale=0): (1, 3),
            row(tenant="beta"): (1, 7),
            row(WINDOW - 2 * HOUR_SECONDS * 1_000_000): (4, 5),
            row(arrival=WINDOW + 90_000_000_000): (1, 4),
            row(meter="calls", group=("/pay", "200")): (9, 0),
        }
        commit(store, store.claim(0, "test"), added(rows))
    finally:
        store.close()
    return postgres_address


def ask(address: PostgresAddress, where: str, **variables: str) -> list[tuple[Any, ...]]:
    """The rows of one statement, for the hours around the stored windows."""
    [statement] = [sql for place, sql in statements() if place.endswith(where)]
    start = WINDOW // 1_000_000 - HOUR_SECONDS
    given = {"schema": address.schema, "meter": "credit", "tenant": "acme,beta"} | variables
    text = expanded(statement, given, start, start + 4 * HOUR_SECONDS)
    with psycopg.connect(address.url) as connection:
        connection.read_only = True
        return connection.execute(text.encode()).fetchall()


def test_every_statement_runs(address: PostgresAddress) -> None:
    """Tables and columns are those of the store, and nothing is written."""
    places = [place for place, _ in statements()]

    assert len(places) == 7
    for place in places:
        ask(address, place)


def test_usage_is_added_up_exactly(address: PostgresAddress) -> None:
    """Different decimal places and late rows together; windows outside the time are left out."""
    assert ask(address, "Who used most") == [
        ("acme", "19.5", "4", 73.58),
        ("beta", "7", None, 26.42),
    ]
    assert ask(address, "Who used most", tenant="beta")[0][:2] == ("beta", "7")


def test_counting_meters_show_events(address: PostgresAddress) -> None:
    """Their amounts are 0 in the store: what is counted are the events."""
    [(tenant, amount, late, share)] = ask(address, "Who used most", meter="calls")

    assert (tenant, amount, late, share) == ("acme", "9", None, 100.0)


def test_meters_that_do_not_add_up_are_not_offered(address: PostgresAddress) -> None:
    """Extremes, distinct values and gauges have no figure in these rows: the API answers them."""
    offered = [name for name, _ in ask(address, "$meter")]

    assert offered == ["call", "calls", "credit", "run"]
    assert ask(address, "$tenant") == [("acme",), ("beta",)]


def test_usage_over_time_and_late_usage_have_times(address: PostgresAddress) -> None:
    """A point per quarter of an hour here, at the window's start or the arrival."""
    points = ask(address, "Usage by tenant")

    assert {(int(at.timestamp()), who): value for at, who, value in points} == {
        (WINDOW // 1_000_000, "acme"): 19.5,
        (WINDOW // 1_000_000, "beta"): 7.0,
    }
    [(came, who, value)] = ask(address, "Came late")
    assert (int(came.timestamp()), who, value) == (WINDOW // 1_000_000 + 90_000, "acme", 4.0)
