"""Which tool a question about a wallet means."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.unit.services.clients.world import ClientWorld

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> ClientWorld:
    """The application with the catalogue of CLIMeter, asked with some key."""
    return ClientWorld("climeter", tmp_path)


@pytest.mark.parametrize(
    ("query", "tool"),
    [
        ("tool=a+b", "a+b"),
        ("tool=a&b=c", "a&b=c"),
        ("tool=a%2Bb", "a+b"),
        ("tool=a%20b", "a b"),
        ("tool=%C3%BC", "ü"),
        ("tool=100%", "100%"),
        ("x=1&tool=plain", "plain"),
        ("tool=", ""),
        ("", ""),
    ],
)
def test_a_slug_is_read_as_the_client_writes_it(world: ClientWorld, query: str, tool: str) -> None:
    """It puts it behind ``tool=`` and encodes nothing of it; an encoded one is the same."""
    if tool:
        path = f"/v1/clients/climeter/tools/{quote(tool, safe='')}"
        assert world.send("PUT", path, json={"price": "0.30", "free_calls": 7}).status_code == 200
    answer = world.get(f"/v1/consumer/balance?{query}").json()

    assert answer["tool"] == tool
    assert answer["free_calls_remaining"] == (7 if tool else 0)


def test_a_slug_in_the_encoding_of_forms_is_found_too(world: ClientWorld) -> None:
    """Where nothing has the name as it was written, and something the other one."""
    world.send("PUT", "/v1/clients/climeter/tools/a%20b", json={"price": "1", "free_calls": 5})
    for query, tool in (("a+b", "a b"), ("a%20b&x=1", "a b"), ("a+c", "a+c")):
        assert world.get(f"/v1/consumer/balance?tool={query}").json()["tool"] == tool
    world.send("PUT", "/v1/clients/climeter/tools/a+b", json={"price": "1", "free_calls": 9})

    assert world.get("/v1/consumer/balance?tool=a+b").json()["free_calls_remaining"] == 9
    assert world.get(f"/v1/consumer/balance?tool={'x' * 129}").status_code == 422
