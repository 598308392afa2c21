"""The peer's rule of identity: which of a case's events it counts, and whether that matters.

meterstream's own rule is: the same (tenant, key) with the same content is one event, with other
content a conflict that is not counted. A case is judged where the peer's rule gives the same
figures; `as_the_peer_counts` makes the events that show whether it does.
"""

from __future__ import annotations

from meterstream_services.conformance.cases import Case, CaseEvent
from meterstream_services.conformance.errors import Skipped


def as_the_peer_counts(case: Case) -> Case:
    """The case with just those events that the peer's rule counts, each with an id of its own."""
    rule, fields = case.meter.dedup, case.meter.dedup_key
    kept: dict[tuple[object, ...], CaseEvent] = {}
    for number, event in enumerate(case.events):
        key = (number,) if rule == "none" else tuple(_field(event, name) for name in fields)
        if rule == "last_wins" or key not in kept:
            kept[key] = event
    if rule not in {"none", "first_wins", "last_wins"}:
        raise Skipped(f"meterstream knows no rule of identity called {rule!r}")
    events = tuple(
        event.model_copy(update={"id": f"{event.id}#{number}"})
        for number, event in enumerate(kept.values())
    )
    return case.model_copy(update={"events": events})


def _field(event: CaseEvent, name: str) -> object:
    match name:
        case "id":
            return event.id
        case "tenant":
            return event.tenant
        case "time":
            return event.time
        case "value":
            return event.value
        case _:
            return event.attributes.get(name)
