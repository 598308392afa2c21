"""The demo's plan and its books: the same each time, and no difference goes unseen."""

from __future__ import annotations

import itertools
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.catalogue_file import load_catalogue
from meterstream_schemas.connection import Connection
from meterstream_services.demo.plan import (
    SESSIONS,
    SPAN_SECONDS,
    TENANTS,
    Kind,
    Plan,
    Planned,
    draw_plan,
    expected,
)
from meterstream_services.demo.running import (
    DemoResult,
    catalogue_text,
    differences,
    tenant_lines,
)

if TYPE_CHECKING:
    from collections.abc import Callable

UNTIL = 1_800_000_000_000_000
EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"


@pytest.fixture(scope="module")
def plan() -> Plan:
    """One plan for all tests."""
    return draw_plan(1, until=UNTIL)


def test_a_plan_comes_out_the_same_again(plan: Plan) -> None:
    """Every process draws the same plan from the same seed, and another from another."""
    assert draw_plan(1, until=UNTIL) == plan
    assert draw_plan(2, until=UNTIL) != plan


def test_a_plan_has_what_makes_counting_hard(plan: Plan) -> None:
    """Repeats inside a service and across processes, disorder, and sessions."""
    everything = [event for events in plan.services.values() for event in events]
    keyed = [(event.tenant, event.key) for event in everything if event.key]
    others = {event for name in ("api-1", "api-2") for event in map(_exact, plan.services[name])}
    retried = [event for event in plan.services["retrier"] if event.type == "api.request"]
    times = [event.time for event in plan.services["api-1"]]

    assert len(keyed) - len(set(keyed)) == plan.repeated > 1000
    assert retried
    assert others.issuperset(map(_exact, retried))
    assert sum(a > b for a, b in itertools.pairwise(times)) > len(times) // 3
    assert {event.kind for event in everything} == set(Kind)
    assert {event.tenant for event in everything} == set(TENANTS)
    assert all(UNTIL - SPAN_SECONDS * 1_000_000 <= time <= UNTIL for time in times)


def _exact(event: Planned) -> tuple[object, ...]:
    return (*event[:6], *sorted(event.attributes.items()), event.key)


def test_the_books_count_every_event_once() -> None:
    """Repeats add nothing, decimals stay exact, sessions have their length and number."""
    spent = Planned(
        Kind.USAGE, "llm.completion", "a", 1, "10", "", {"model": "m", "cost": "0.1"}, "k"
    )
    start = Planned(Kind.START, "agent.run", "a", 1_000_000, "0", "s", {}, "s1")
    end = Planned(Kind.END, "agent.run", "a", 2_500_000, "0", "s", {}, "s2")
    services = {"x": [spent, end, spent], "y": [start, spent, end]}

    books = expected(Plan(services, 3))

    assert books == {
        ("llm.tokens", "a", "model=m"): Decimal(10),
        ("llm.cost", "a", ""): Decimal("0.1"),
        ("agent.seconds", "a", ""): Decimal("1.5"),
        (SESSIONS, "a", ""): Decimal(1),
    }


def result_of(plan: Plan) -> DemoResult:
    """A demo in which everything went well."""
    books = expected(plan)
    result = DemoResult(Connection("b", "u"), books, dict(books), plan.calls, plan.repeated)
    result.duplicates = plan.repeated
    return result


def lose_one(result: DemoResult) -> None:
    """One event is not counted."""
    key = ("api.requests", "acme", "route=/login")
    result.counted[key] -= 1


def double_one(result: DemoResult) -> None:
    """One event is counted twice."""
    result.counted["agent.seconds", "acme", ""] *= 2


def move_one(result: DemoResult) -> None:
    """Usage shows up under another tenant."""
    result.counted["llm.cost", "stranger", ""] = result.counted.pop(("llm.cost", "hooli", ""))


def miss_a_group(result: DemoResult) -> None:
    """A figure is right in sum and wrong by group."""
    result.counted["llm.tokens", "acme", "model=small"] += 1
    result.counted["llm.tokens", "acme", "model=large"] -= 1


def miss_a_duplicate(result: DemoResult) -> None:
    """A repeat was not found as one."""
    result.duplicates -= 1


def test_equal_books_have_no_differences(plan: Plan) -> None:
    """Nothing is found where nothing differs, resent events or not."""
    result = result_of(plan)
    assert differences(result) == []

    result.resent, result.duplicates = 3, result.repeated + 2
    assert differences(result) == []


@pytest.mark.parametrize("spoil", [lose_one, double_one, move_one, miss_a_group, miss_a_duplicate])
def test_every_difference_is_found(plan: Plan, spoil: Callable[[DemoResult], None]) -> None:
    """A lost, doubled, moved or wrongly grouped event is named."""
    result = result_of(plan)

    spoil(result)

    assert differences(result)


def test_the_lines_join_groups(plan: Plan) -> None:
    """One line per tenant and meter, groups added up."""
    lines = tenant_lines(result_of(plan))

    requests = {tenant: sent for tenant, meter, sent, _ in lines if meter == "api.requests"}
    assert sum(requests.values()) == 16_000
    assert all(sent == counted for _, _, sent, counted in lines)


def test_the_catalogue_is_the_one_in_the_documents() -> None:
    """People read the same catalogue that the demo runs on."""
    assert (EXAMPLES / "demo.yaml").read_text("utf-8") == catalogue_text()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: str(path.name))
def test_every_example_catalogue_loads(path: Path) -> None:
    """The documents' catalogues are right."""
    assert load_catalogue(path).meters
