"""``/v1/thresholds``: how far watched figures are, and what was told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.changes import Changes
from meterstream_aggregator.thresholds import FiredRow, Place, identity
from meterstream_schemas.quantity import Amount
from tests.contract.stores import BINDING
from tests.unit.services.http.conftest import moment

if TYPE_CHECKING:
    from tests.unit.services.http.conftest import World

CATALOGUE = parse_catalogue("""
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: tokens, aggregate: sum}
thresholds:
  - {name: month, meter: tokens, zone: Europe/Berlin, at: ["100", "300"]}
  - {name: shared, meter: tokens, scope: account, every: 1d, at: ["7"]}
""")
MONTH, SHARED = (identity(threshold) for threshold in CATALOGUE.thresholds)


@pytest.fixture
def watched(world: World) -> World:
    """A tenant that passed one of two values, another that did last month, and an account."""
    store, ledger = world.store, world.store.content.ledger
    store.content.bound = (BINDING, CATALOGUE)
    june, may = moment("2026-05-31T22:00"), moment("2026-04-30T22:00")
    ledger.keep_total(MONTH, "acme", june, Amount(2005, 1))
    ledger.keep_total(MONTH, "b", may, Amount(999, 0))
    ledger.keep_total(SHARED, "", moment("2026-06-10"), Amount(0, 0))
    ledger.keep_total(SHARED, "one", moment("2026-06-10"), Amount(8, 0))
    place = Place(3, 77, moment("2026-06-09T10:00"))
    told = [
        FiredRow(MONTH, june, "acme", "100", Amount(101, 0), place),
        FiredRow(SHARED, moment("2026-06-10"), "one", "7", Amount(8, 0), Place(0, -1, 0)),
    ]
    store.commit([], Changes(told=told))
    world.now("2026-06-10T12:00")
    return world


def test_every_figure_of_the_present_period(watched: World) -> None:
    """Value, percent and when each value was reached, in the threshold's own zone."""
    answer = watched.get("/v1/thresholds").json()

    assert answer["thresholds"][0] == {
        "threshold": "month",
        "meter": "tokens",
        "scope": "tenant",
        "tenant": "acme",
        "account": None,
        "from": "2026-06-01T00:00:00+02:00",
        "to": "2026-07-01T00:00:00+02:00",
        "zone": "Europe/Berlin",
        "value": "200.5",
        "values": [
            {
                "at": "100",
                "percent": "200.5",
                "told": True,
                "reached": "2026-06-09T12:00:00+02:00",
                "partition": 3,
                "offset": 77,
            },
            {
                "at": "300",
                "percent": "66.8",
                "told": False,
                "reached": None,
                "partition": None,
                "offset": None,
            },
        ],
    }
    [shared] = answer["thresholds"][1:]
    assert (shared["tenant"], shared["account"], shared["value"]) == (None, "one", "8")
    assert shared["values"] == [
        {
            "at": "7",
            "percent": "114.3",
            "told": True,
            "reached": None,
            "partition": None,
            "offset": None,
        }
    ]


def test_some_of_them(watched: World) -> None:
    """By threshold, by tenant or account, and no more than asked for."""
    for query, wanted in (
        ("threshold=shared", ["one"]),
        ("who=acme", ["acme"]),
        ("who=nobody", []),
        ("limit=1", ["acme"]),
    ):
        figures = watched.get(f"/v1/thresholds?{query}").json()["thresholds"]
        assert [each["tenant"] or each["account"] for each in figures] == wanted


def test_a_threshold_that_is_none(watched: World) -> None:
    """It is told which there are."""
    answer = watched.get("/v1/thresholds?threshold=x")

    assert answer.status_code == 404
    assert answer.json()["detail"].endswith("the catalogue has: month, shared")
