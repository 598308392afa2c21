"""A case in meterstream's own words: its meter as a catalogue, its events as meter events.

Nothing here computes a figure. What a peer calls by another name gets ours; what meterstream has no
word for is `Skipped` with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from meterstream_aggregator.catalogue import MINUTE, Catalogue
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_schemas.errors import InvalidQuantity
from meterstream_schemas.events import EventKind, MeterEvent
from meterstream_schemas.quantity import Amount, parse_amount
from meterstream_services.conformance.cases import Case, CaseEvent, CaseMeter
from meterstream_services.conformance.errors import Skipped

METER: Final = "case"
WINDOWS: Final = (60, 30, 15, 5, 1)
"""Minutes of the windows that a case may get: the largest on which all its boundaries lie."""

_AGGREGATES: Final[dict[str, dict[str, str]]] = {
    "sum": {"aggregate": "sum"},
    "count": {"aggregate": "count"},
    "min": {"aggregate": "min"},
    "max": {"aggregate": "max"},
    "bucketed_max": {"aggregate": "max"},
    "bucketed_min": {"aggregate": "min"},
    "bucketed_sum": {"aggregate": "sum"},
    "avg": {"aggregate": "average"},
    "latest": {"aggregate": "latest"},
    "unique_count": {"aggregate": "unique"},
    "unique_count_add_remove": {
        "aggregate": "unique",
        "operation": "attributes.operation_type",
    },
    "weighted_sum": {"aggregate": "time_weighted", "samples": "changes"},
    "gauge_time_weighted_avg": {"aggregate": "time_weighted"},
    "session_duration": {"aggregate": "session"},
    "segment_duration": {"aggregate": "session"},
}
_SESSIONS: Final = frozenset({"session_duration", "segment_duration"})


class Arrival(NamedTuple):
    """An event and when the log takes it, microseconds UTC. ``case_event`` is where it is from."""

    append_time: int
    event: MeterEvent
    case_event: CaseEvent | None = None


class Refused(NamedTuple):
    """An event that no door lets in, and why."""

    case_event: CaseEvent
    reason: str


def catalogue_of(case: Case, window: int, *, grace: str = "1000d") -> Catalogue:
    """The catalogue of one meter, through the same door as any: the parser of ``meters.yaml``."""
    meter = case.meter
    words = _AGGREGATES.get(meter.aggregation)
    if words is None:
        raise Skipped(f"meterstream has no aggregation that {meter.aggregation!r} could be")
    entry: dict[str, Any] = words | {"name": METER, "window": f"{window // MINUTE}m"}
    if meter.grace_seconds is not None:
        grace = f"{meter.grace_seconds}s"
    entry["grace"] = grace
    entry |= _value(meter)
    names = dict.fromkeys((*meter.group_by, *_grouped_by(case)))
    entry["group_by"] = [name for name in names if name != "tenant"]
    if meter.filters:
        entry["where"] = {
            name: [value] if isinstance(value, str) else list(value)
            for name, value in meter.filters.items()
        }
    if meter.aggregation in _SESSIONS and meter.session and meter.session.max_seconds:
        entry["longest"] = f"{meter.session.max_seconds}s"
    return parse_catalogue(json.dumps({"meters": [entry]}), source=case.name)


def _value(meter: CaseMeter) -> dict[str, str]:
    named = meter.value_property not in (None, "$value")
    if named and meter.aggregation not in _SESSIONS | {"count"}:
        return {"value": f"attributes.{meter.value_property}"}
    return {}


def _grouped_by(case: Case) -> Iterator[str]:
    """Every attribute that the question keeps apart or filters by."""
    yield from case.query.group_by
    yield from case.meter.bucket_group_by
    yield from case.query.filters.include
    for combination in case.query.filters.exclude:
        yield from combination


def arrivals_of(case: Case) -> tuple[list[Arrival], list[Refused]]:
    """The events in arrival order, and those that no client's door would let in.

    The log takes an event when the case says so (``received``, a watermark), else at the highest
    event time so far: arrival order is kept, and nothing lies in the future.
    """
    arrivals: list[Arrival] = []
    refused: list[Refused] = []
    appended = 0
    if case.meter.initial_value is not None:
        appended = case.query.start - 1
        arrivals.append(Arrival(appended, _initial(case)))
    for number, event in enumerate(case.events):
        appended = max(appended, event.received or case.meter.watermark or event.time)
        try:
            arrivals.extend(
                Arrival(appended, made, event) for made in _events_of(case, event, number)
            )
        except InvalidQuantity as problem:
            refused.append(Refused(event, str(problem)))
    for amendment in case.query.amends:
        arrivals.extend(_amended(case, amendment.id, amendment.value, appended))
    return arrivals, refused


def _events_of(case: Case, event: CaseEvent, number: int) -> list[MeterEvent]:
    match case.meter.aggregation:
        case "session_duration":
            return [_boundary(case, event)]
        case "segment_duration":
            return _segment(event, number)
        case _:
            return [_usage(case, event)]


def _usage(case: Case, event: CaseEvent) -> MeterEvent:
    by_value = case.meter.value_property == "$value" and case.meter.aggregation != "count"
    if by_value and event.value is None:
        raise InvalidQuantity("value", "is absent")
    amount = parse_amount(event.value) if by_value and event.value is not None else Amount(1, 0)
    return _plain(EventKind.USAGE, event, f"{event.id}")._replace(
        quantity=amount.quantity, scale=amount.scale, attributes=event.attributes
    )


def _boundary(case: Case, event: CaseEvent) -> MeterEvent:
    rule = case.meter.session
    assert rule is not None
    attributes = event.attributes
    kinds = {rule.start: EventKind.SESSION_START, rule.end: EventKind.SESSION_END}
    marks = [attributes.get("boundary"), *attributes.values()]
    kind = next((kinds[mark] for mark in marks if mark in kinds), EventKind.SESSION_HEARTBEAT)
    return _plain(kind, event, event.id)._replace(
        session=attributes.get(rule.key), attributes=attributes
    )


def _segment(event: CaseEvent, number: int) -> list[MeterEvent]:
    """A segment lasts until the next event; one of value 0 begins none. Boundaries without ids."""
    ending = _plain(EventKind.SESSION_END, event, f"{event.id}/end")
    begins = _plain(EventKind.SESSION_START, event, f"{event.id}/start")._replace(
        attributes=event.attributes
    )
    found = [ending] if number else []
    if event.value is not None and parse_amount(event.value).quantity:
        found.append(begins)
    return found


def _plain(kind: EventKind, event: CaseEvent, key: str) -> MeterEvent:
    return MeterEvent(
        kind=kind,
        tenant=event.tenant,
        type=METER,
        time=event.time,
        quantity=0,
        scale=0,
        session=None,
        subject=None,
        attributes={},
        producer="",
        lane=0,
        sequence=0,
        key=key,
    )


def _initial(case: Case) -> MeterEvent:
    """The level before the first change: a change in the last window before the question."""
    tenant = case.events[0].tenant if case.events else "initial"
    event = CaseEvent(id="initial value", tenant=tenant, time=case.query.start - 1)
    amount = parse_amount(case.meter.initial_value)
    return _plain(EventKind.USAGE, event, event.id)._replace(
        quantity=amount.quantity, scale=amount.scale
    )


def _amended(case: Case, of: str, value: str | None, appended: int) -> list[Arrival]:
    """An amendment: the original is voided, and an event of another key says what is right."""
    original = next((event for event in case.events if event.id == of), None)
    if original is None:
        raise Skipped(f"the amendment names {of!r}, which is no event of the case")
    wrong = _usage(case, original)
    amount = parse_amount(value)
    return [
        Arrival(appended, wrong._replace(kind=EventKind.VOID)),
        Arrival(
            appended,
            wrong._replace(quantity=amount.quantity, scale=amount.scale, key=f"{of}/amended"),
        ),
    ]
