"""AgentMeter 0.3.x: aggregates are told by the method of their meter type."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_services.clients.agentmeter import methods
from tests.unit.services.agentmeter.world import World, exact, made_world

if TYPE_CHECKING:
    from pathlib import Path

TIMES = ("2026-05-01T12:00:00Z", "2026-05-01T10:07:30Z", "2026-05-01T10:20:00Z")
"""The first that is recorded is the latest."""


def recorded(world: World, method: str | None) -> str:
    """A meter type with three events of 0.25, 3 and 0.5; its id."""
    fields = {} if method is None else {"aggregation_method": method}
    body = {"name": "seats", "project_id": "p"} | fields
    kind = str(world.send("POST", "/api/v1/meter-types/", json=body).json()["id"])
    for time, quantity, subject in zip(TIMES, (0.25, 3, 0.5), "aba", strict=True):
        event = {"meter_type_id": kind, "subject_id": subject, "quantity": quantity}
        answer = world.send("POST", "/api/v1/meter-events/", json=event | {"timestamp": time})
        assert answer.status_code == 201
    world.fold()
    return kind


def asked(world: World, **parameters: str) -> Any:  # noqa: ANN401 - JSON may be anything
    """The aggregates."""
    answer = world.send("GET", "/api/v1/meter-events/aggregates", params=parameters)
    return exact(answer) if answer.is_success else answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "everything", "of_one", "early"),
    [
        (None, "3.75", "0.75", "3.5"),
        ("sum", "3.75", "0.75", "3.5"),
        ("something", "3.75", "0.75", "3.5"),
        ("COUNT", "3", "2", "2"),
        ("avg", "1.25", "0.375", "1.75"),
        ("max", "3", "0.5", "3"),
        ("min", "0.25", "0.25", "0.5"),
        ("last", "0.25", "0.25", "0.5"),
    ],
)
def test_a_meter_type_is_added_up_by_its_method(
    world: World, method: str | None, everything: str, of_one: str, early: str
) -> None:
    """Over all, of one subject, and of a time; how many events there are is told beside it."""
    kind = recorded(world, method)

    told = [
        asked(world, meter_type_id=kind),
        asked(world, meter_type_id=kind, subject_id="a"),
        asked(world, meter_type_id=kind, end_time="2026-05-01T11:30:00Z"),
    ]

    assert [each["total_quantity"] for each in told] == [
        Decimal(everything), Decimal(of_one), Decimal(early),
    ]  # fmt: skip
    assert [each["total_events"] for each in told] == [3, 2, 2]


@pytest.mark.parametrize("method", ["avg", "max", "min", "last", "count"])
def test_nothing_is_nought(world: World, method: str) -> None:
    """The client takes no null and nothing below nought."""
    kind = recorded(world, method)

    told = asked(world, meter_type_id=kind, subject_id="nobody")

    assert (told["total_quantity"], told["total_events"]) == (0, 0)


def test_without_a_meter_type_quantities_are_added(world: World) -> None:
    """Several types have no method in common."""
    recorded(world, "max")
    recorded(world, "count")

    assert asked(world, project_id="p")["total_quantity"] == Decimal("7.5")


def test_a_greatest_of_too_many_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a wrong one: 422 says what to do, and the latest needs no more than one event."""
    monkeypatch.setattr(methods, "READ_MAX", 3)

    assert "name a shorter time" in asked(world, meter_type_id=recorded(world, "max"))
    assert asked(world, meter_type_id=recorded(world, "last"))["total_quantity"] == Decimal("0.25")


def test_what_retention_took_is_not_passed_over(world: World) -> None:
    """Figures outlive the log: the greatest of what is left would be a guess."""
    greatest, latest = recorded(world, "max"), recorded(world, "last")
    del world.door.taken[1]

    assert "no longer" in asked(world, meter_type_id=greatest)
    assert asked(world, meter_type_id=latest)["total_quantity"] == Decimal("0.25")

    world.door.taken.clear()
    assert "no longer" in asked(world, meter_type_id=latest)


def test_without_a_broker_what_needs_the_log_is_refused(tmp_path: Path) -> None:
    """503 with a sentence; counts and averages of whole windows need none."""
    world = made_world(tmp_path, has_log=False)

    for method in ("max", "last"):
        assert "no broker" in asked(world, meter_type_id=recorded(world, method))
    assert asked(world, meter_type_id=recorded(world, "avg"))["total_quantity"] == Decimal("1.25")
