"""Which event a round trip sends, by the catalogue."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from meterstream_services.probe import NoProbe, choose_probe

NOW = "2026-03-01T12:00:00+00:00"


def definition(name: str, aggregate: str = "count", **rest: object) -> dict[str, Any]:
    """A definition as the API answers it."""
    return {
        "name": name,
        "type": "call",
        "aggregate": aggregate,
        "value": "quantity",
        "where": [],
        "from": None,
        "to": None,
        "window_seconds": 900,
    } | rest


def condition(name: str, test: str, *values: str) -> dict[str, Any]:
    """A condition as the API answers it."""
    return {"name": name, "test": test, "values": list(values)}


def test_a_count_goes_before_a_sum() -> None:
    """Whatever their order."""
    probe = choose_probe([definition("a", "sum"), definition("b")], now=NOW)

    assert (probe.meter, probe.others, probe.stuck) == ("b", ("a",), ())
    assert probe.amount == 1


def test_what_can_be_taken_back_goes_before_what_cannot() -> None:
    """A maximum of the same type keeps the event for good."""
    stuck = [definition("calls"), definition("peak", "max")]
    free = definition("tokens", "sum", type="completion")

    assert choose_probe([*stuck, free], now=NOW).meter == "tokens"
    assert choose_probe(stuck, now=NOW).stuck == ("peak",)


def test_attributes_fulfil_conditions_and_carry_the_amount() -> None:
    """Only as many as needed, so that other meters do not count it."""
    meter = definition(
        "cost",
        "sum",
        value="attributes.cost",
        where=[
            condition("env", "in", "prod", "staging"),
            condition("model", "exists"),
            condition("test", "absent"),
            condition("region", "not_in", "eu"),
        ],
    )
    other = definition("latest", "latest", value="attributes.level")
    people = definition("people", "unique", value="subject")

    probe = choose_probe([other, people, meter], now=NOW)

    assert probe.attributes == {"env": "prod", "model": "check", "cost": "1"}
    assert (probe.others, probe.stuck) == ((), ())


def test_an_amount_may_come_from_a_condition() -> None:
    """The figure rises by what the condition wants."""
    where = [condition("units", "in", "2.5")]

    probe = choose_probe([definition("m", "sum", value="attributes.units", where=where)], now=NOW)

    assert probe.amount == Decimal("2.5")


def test_definitions_of_other_times_are_left_out() -> None:
    """As are sessions, which no usage event reaches."""
    definitions = [
        definition("past", to="2026-01-01T00:00:00+00:00"),
        definition("future", **{"from": "2026-04-01T00:00:00+00:00"}),
        definition("runs", "session"),
        definition("now", **{"from": "2026-02-01T00:00:00+00:00"}),
    ]

    assert choose_probe(definitions, now=NOW).meter == "now"
    with pytest.raises(NoProbe, match="none of the catalogue's 3 definitions reads usage"):
        choose_probe(definitions[:3], now=NOW)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (
            {"event_type": "cal"},
            "no meter of the catalogue reads type 'cal'; those in force read c",
        ),
        ({"meter": "x"}, "no meter 'x' is in force; there are calls, peak"),
        ({"meter": "calls", "event_type": "x"}, "no meter 'calls' of type 'x' is in force"),
        ({"meter": "peak"}, r"none of the meters peak \(max\) rises by a known amount"),
    ],
)
def test_what_is_not_there_is_told(asked: dict[str, str], sentence: str) -> None:
    """With what there is."""
    definitions = [definition("calls"), definition("peak", "max")]

    with pytest.raises(NoProbe, match=sentence):
        choose_probe(definitions, now=NOW, **asked)
