"""The table of what each path needs, against the routes that there are."""

from __future__ import annotations

import re

import pytest
from starlette.routing import compile_path

from meterstream_services.http.access import TABLE, Access, access_of, rule_of
from meterstream_services.http.app import create_app
from meterstream_services.http.settings import Settings
from meterstream_services.keys.principal import ANYBODY, NOBODY, Principal, Scope
from tests.unit.services.keys.routes import Way, ways

PARTS = ("x", "a b", "..", "account", "history", "events:import", "\n", "\u00fc")
RESTS = (*PARTS, "a/b", "a/account", "/", "a/account/history", "")


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[Way]:
    """All there are."""
    place = tmp_path_factory.mktemp("routes")
    found = ways(create_app(Settings(place / "s", place / "a")))
    assert len(found) > 60
    return found


def paths_of(template: str) -> list[str]:
    """Paths that fit a template, ordinary and odd ones."""
    found = [template]
    while "{" in found[0]:
        found = [
            re.sub(r"\{[^}]*\}", word.replace("\\", r"\\"), path, count=1)
            for path in found
            for word in (RESTS if ":path}" in path.partition("}")[0] + "}" else PARTS)
        ]
    return found


def test_every_route_is_in_the_table(routes: list[Way]) -> None:
    """A route that somebody adds has to be written into the table: what it needs is decided."""
    unlisted = [
        (way.method, way.path)
        for way in routes
        if rule_of(way.method, re.sub(r"\{[^}]*\}", "x", way.path)) is None
    ]

    assert unlisted == []


def test_every_line_has_a_route(routes: list[Way]) -> None:
    """A line of the table that no route fits is a mistake, or left over."""
    known = [(way.method, re.sub(r"\{[^}]*\}", "x", way.path)) for way in routes]
    for methods, template, access in TABLE:
        expression = re.sub(r"\{\w+:path\}", ".*", re.sub(r"\{\w+\}", "[^/]+", template))
        expression = expression.replace("/**", "(/.*)?")
        fits = [
            (method, path)
            for method, path in known
            if method in methods and re.fullmatch(expression, path)
        ]
        assert fits, (methods, template, access)


def test_the_router_and_the_table_agree(routes: list[Way]) -> None:
    """Whatever stands in a path, it needs at least what the route needs that answers it."""
    compiled = [(way, compile_path(way.path)[0]) for way in routes]
    strictness = list(Access)

    for way in routes:
        for path in paths_of(way.path):
            first = next(
                (
                    other
                    for other, expression in compiled
                    if other.method == way.method and expression.match(path)
                ),
                None,
            )
            if first is None:
                continue
            needed = access_of(first.method, re.sub(r"\{[^}]*\}", "x", first.path))
            told = access_of(way.method, path)
            assert strictness.index(told) >= strictness.index(needed), (way.method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nothing"),
        ("GET", "/v1/usage/"),
        ("GET", "/v1/usage\n"),
        ("GET", "//v1/usage"),
        ("GET", "/V1/usage"),
        ("GET", "/healthy"),
        ("GET", "/docs/x"),
        ("POST", "/v1/usage"),
        ("OPTIONS", "/v1/usage"),
        ("TRACE", "/"),
        ("get", "/v1/usage"),
        ("GET", ""),
        ("GET", "/v1/accounts/a/b/c"),
        ("DELETE", "/v1/deadletters"),
    ],
)
def test_what_is_not_in_the_table(method: str, path: str) -> None:
    """Every other path and method needs an admin's key."""
    assert access_of(method, path) is Access.ADMIN


def test_who_is_allowed() -> None:
    """Admin includes the others; what is everybody's takes a key for all tenants."""
    a = frozenset({"a"})
    for access, scope, tenants, allowed in [
        (Access.READ, Scope.READ, a, True),
        (Access.READ, Scope.INGEST, None, False),
        (Access.READ, Scope.ADMIN, None, True),
        (Access.INGEST, Scope.INGEST, a, True),
        (Access.INGEST, Scope.READ, None, False),
        (Access.SIGNED, Scope.INGEST, a, True),
        (Access.SIGNED, Scope.READ, a, False),
        (Access.KNOWN, Scope.READ, a, True),
        (Access.KNOWN, Scope.INGEST, a, True),
        (Access.READ_ALL, Scope.READ, None, True),
        (Access.READ_ALL, Scope.READ, a, False),
        (Access.MONITOR, Scope.READ, a, False),
        (Access.ADMIN, Scope.ADMIN, None, True),
        (Access.ADMIN, Scope.ADMIN, a, False),
        (Access.ADMIN, Scope.READ, None, False),
    ]:
        principal = Principal("k", frozenset({scope}), tenants)
        assert access.allows(principal) is allowed, (access, scope, tenants)
        assert access.needs()
    for access in Access:
        assert access.allows(ANYBODY)
        assert access.allows(NOBODY) is (access in {Access.OPEN, Access.KNOWN})
