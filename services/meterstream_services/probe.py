"""The event that a round trip sends: of which type, with what attributes, seen in which figure.

Chosen from the catalogue that the API answers with, so that it is counted like any other event and,
where that can be, taken back afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

_COUNTED: Final = ("count", "sum")
"""Aggregates whose figure rises by a known amount, whatever was counted before."""
_TAKEN_BACK: Final = frozenset({"count", "sum", "average"})
_ATTRIBUTE: Final = "attributes."

Definition = Mapping[str, Any]


class NoProbe(Exception):
    """No event can be chosen; the message says why and what to pass."""


class Probe(NamedTuple):
    """What to record and what to look for.

    ``amount`` is what the figure of ``meter`` rises by. ``others`` are further meters that count
    the event, ``stuck`` those of all that cannot give it back.
    """

    type: str
    meter: str
    attributes: Mapping[str, str]
    amount: Decimal
    window_seconds: int
    others: tuple[str, ...]
    stuck: tuple[str, ...]


def choose_probe(
    definitions: Sequence[Definition],
    *,
    now: str,
    meter: str | None = None,
    event_type: str | None = None,
) -> Probe:
    """The best of the catalogue: one that can be taken back, a count before a sum.

    ``now`` is an ISO 8601 time in UTC as the API writes them. Raises `NoProbe`.
    """
    usable = [
        each for each in definitions if _in_force(each, now) and each["aggregate"] != "session"
    ]
    asked = [
        each
        for each in usable
        if meter in {None, each["name"]} and event_type in {None, each["type"]}
    ]
    if not asked:
        raise NoProbe(_nothing_like(definitions, usable, meter, event_type))
    probes = [
        probe
        for aggregate in _COUNTED
        for each in asked
        if each["aggregate"] == aggregate and (probe := _probe_of(each, usable)) is not None
    ]
    if not probes:
        names = ", ".join(f"{each['name']} ({each['aggregate']})" for each in asked[:10])
        raise NoProbe(
            f"none of the meters {names} rises by a known amount with one event; name a meter with "
            "--meter that is a count or a sum, or add one to the catalogue"
        )
    return min(probes, key=lambda probe: bool(probe.stuck))


def _in_force(definition: Definition, now: str) -> bool:
    start, end = definition["from"], definition["to"]
    return (start is None or start <= now) and (end is None or now < end)


def _nothing_like(
    definitions: Sequence[Definition],
    usable: Sequence[Definition],
    meter: str | None,
    event_type: str | None,
) -> str:
    if not usable:
        return (
            f"none of the catalogue's {len(definitions)} definitions reads usage events now; "
            "add a meter with aggregate count or sum"
        )
    if meter is None:
        types = ", ".join(sorted({each["type"] for each in usable}))
        return f"no meter of the catalogue reads type {event_type!r}; those in force read {types}"
    names = ", ".join(sorted({each["name"] for each in usable}))
    of_type = "" if event_type is None else f" of type {event_type!r}"
    return f"no meter {meter!r}{of_type} is in force; there are {names}"


def _probe_of(definition: Definition, usable: Sequence[Definition]) -> Probe | None:
    """An event that this definition counts, or None when its conditions cannot be fulfilled."""
    attributes: dict[str, str] = {}
    for condition in definition["where"]:
        if condition["test"] == "in":
            attributes.setdefault(condition["name"], condition["values"][0])
        elif condition["test"] == "exists":
            attributes.setdefault(condition["name"], "check")
    amount = Decimal(1)
    if definition["aggregate"] == "sum" and definition["value"].startswith(_ATTRIBUTE):
        text = attributes.setdefault(definition["value"].removeprefix(_ATTRIBUTE), "1")
        try:
            amount = Decimal(text)
        except InvalidOperation:
            return None
    if not amount > 0 or not _counts(definition, attributes):
        return None
    counting = [
        each for each in usable if each["type"] == definition["type"] and _counts(each, attributes)
    ]
    return Probe(
        type=definition["type"],
        meter=definition["name"],
        attributes={name: text for name, text in attributes.items() if text},
        amount=amount,
        window_seconds=definition["window_seconds"],
        others=tuple(each["name"] for each in counting if each is not definition),
        stuck=tuple(each["name"] for each in counting if each["aggregate"] not in _TAKEN_BACK),
    )


def _counts(definition: Definition, attributes: Mapping[str, str]) -> bool:
    """Whether a definition counts an event of its type without subject, as the worker judges."""
    value = definition["value"]
    if definition["aggregate"] != "count":
        if value == "subject":
            return False
        if value.startswith(_ATTRIBUTE) and value.removeprefix(_ATTRIBUTE) not in attributes:
            return False
    return all(_holds(condition, attributes) for condition in definition["where"])


def _holds(condition: Mapping[str, Any], attributes: Mapping[str, str]) -> bool:
    name: str = condition["name"]
    test: str = condition["test"]
    values: Sequence[str] = condition["values"]
    if test == "in":
        return attributes.get(name, "") in values
    if test == "not_in":
        return attributes.get(name, "") not in values
    return (name in attributes) == (test == "exists")
