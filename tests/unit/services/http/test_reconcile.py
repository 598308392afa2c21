"""What producers sent against what was counted, as the API and Prometheus are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.store.told import DeadLetterRow, PositionRow, ProducerRow
from meterstream_services.http import missing
from meterstream_services.http.reconcile import SILENT_AFTER, ReconcileDocument
from tests.unit.services.http.conftest import moment

if TYPE_CHECKING:
    import pytest

    from tests.unit.services.http.conftest import World

MARCH = moment("2026-03-01")
SINCE = moment("2026-02-28T12:00")


def _fill(world: World, monkeypatch: pytest.MonkeyPatch, *, appended: int) -> None:
    rows = [
        ProducerRow("p1", 0, 10, 9, 2, 1, ((4, 3, 5, SINCE),), ((4, 6), (0, 7)), MARCH, True),
        ProducerRow("p2", 0, 1, 1, 0, 0, (), ((2, 1),), MARCH - SILENT_AFTER - 5, True),
        ProducerRow("p1", 1, 5, 5, 0, 0, ((1, 7, 7, MARCH),), ((1, 8),), MARCH + 5, False),
    ]
    letter = DeadLetterRow(0, 9, "key_conflict", "", "t", "x", "p1", 4, 6, MARCH)
    positions = [PositionRow(p, 9, appended, 1, "w", 9, 2, 1) for p in range(2)]
    monkeypatch.setattr(
        world.store,
        "producers",
        lambda producer=None: [r for r in rows if producer in {None, r.producer}],
    )
    monkeypatch.setattr(world.store, "dead_letters", lambda _wanted, *, limit: [letter][:limit])
    monkeypatch.setattr(world.store, "positions", lambda: positions)


def test_a_producers_partitions_are_joined(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers add up, holes stand in order with since when, and closed is only what all know so."""
    _fill(world, monkeypatch, appended=MARCH + 6)

    answer = world.get("/v1/reconcile").json()

    ReconcileDocument.model_validate(answer)
    assert answer["producers"][0] == {
        "producer": "p1",
        "seen": 15,
        "counted": 14,
        "duplicates": 2,
        "refused": 1,
        "conflicts": 1,
        "missing_numbers": 4,
        "missing": [
            {"lane": 1, "from": 7, "to": 7, "since": "2026-03-01T00:00:00+00:00"},
            {"lane": 4, "from": 3, "to": 5, "since": "2026-02-28T12:00:00+00:00"},
        ],
        "lanes": None,
        "closed": False,
        "last_append": "2026-03-01T00:00:00.000005+00:00",
        "silent_since": None,
    }
    assert answer["totals"] == {
        "producers": 2, "seen": 16, "counted": 15, "duplicates": 2, "refused": 1, "conflicts": 1,
        "missing_numbers": 4, "with_missing": 1, "silent": 0,
    }  # fmt: skip


def test_silence_is_told_by_the_logs_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that did not close and is not heard of while the log goes on; a closed one may rest."""
    _fill(world, monkeypatch, appended=MARCH + 5 + SILENT_AFTER)

    first, second = world.get("/v1/reconcile").json()["producers"]

    assert first["silent_since"] == first["last_append"] == "2026-03-01T00:00:00.000005+00:00"
    assert (second["closed"], second["silent_since"]) == (True, None)


def test_one_producer_comes_with_its_lanes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The highest number of each lane, and how many are missing below it."""
    _fill(world, monkeypatch, appended=MARCH)

    [answer] = world.get("/v1/reconcile?producer=p1").json()["producers"]

    assert answer["lanes"] == [
        {"lane": 0, "highest": 7, "missing_numbers": 0},
        {"lane": 1, "highest": 8, "missing_numbers": 1},
        {"lane": 4, "highest": 6, "missing_numbers": 3},
    ]


def test_pages_and_the_filter_leave_totals_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page goes on where the last stopped; totals are over all producers all the same."""
    _fill(world, monkeypatch, appended=MARCH)

    first = world.get("/v1/reconcile?limit=1").json()
    rest = world.get("/v1/reconcile", params={"after": first["next"]}).json()
    holed = world.get("/v1/reconcile?missing=true").json()

    assert [p["producer"] for p in first["producers"] + rest["producers"]] == ["p1", "p2"]
    assert [p["producer"] for p in holed["producers"]] == ["p1"]
    assert first["totals"] == rest["totals"] == holed["totals"]
    assert rest["next"] is None


def _gauge(world: World) -> list[str]:
    lines = world.get("/metrics").text.splitlines()
    return [line for line in lines if line.startswith("meterstream_missing_numbers{")]


def test_missing_numbers_are_a_metric(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """By partition, nought included; read anew only once it is no longer fresh."""
    assert _gauge(world) == [
        'meterstream_missing_numbers{partition="0"} 0.0',
        'meterstream_missing_numbers{partition="1"} 0.0',
    ]
    _fill(world, monkeypatch, appended=MARCH)
    assert _gauge(world)[0].endswith(" 0.0")

    monkeypatch.setattr(missing, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(world.app.state.parts.metrics.missing, "_until", 0.0)

    assert _gauge(world) == [
        'meterstream_missing_numbers{partition="0"} 3.0',
        'meterstream_missing_numbers{partition="1"} 1.0',
    ]

    def away() -> list[PositionRow]:
        raise StoreUnavailable("away")

    monkeypatch.setattr(world.store, "positions", away)
    assert _gauge(world) == []
