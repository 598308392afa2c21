"""The events of a figure as a list for people and programs, and whether they add up to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final

from meterstream_aggregator.catalogue import MOMENT, Aggregate, Meter
from meterstream_aggregator.changes import Item
from meterstream_aggregator.civil import format_time
from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.evidence import Judged, Outcome
from meterstream_aggregator.evidence_rows import Mismatch, arrival_at
from meterstream_aggregator.explain import Asked, Explanation, explain, in_groups
from meterstream_aggregator.refusals import SESSION_KINDS, amount_of, counts
from meterstream_aggregator.store.address import StoreAddress
from meterstream_aggregator.store.opening import open_reader
from meterstream_aggregator.windows import window_start
from meterstream_consumers.logreader import LogReader
from meterstream_schemas.errors import InvalidQuantity
from meterstream_schemas.quantity import format_amount
from meterstream_services import explaining
from meterstream_services.evidencing import Evidence, evidence
from meterstream_services.proving import Log

Json = dict[str, Any]
MISMATCHES_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Listed:
    """An explanation's document, its events, and what does not follow from them."""

    document: Json
    events: list[Json]
    of_events: Json
    mismatches: list[Json]
    adds_up: bool
    doubts: list[str]
    """What was not judged, and likely reasons of a difference."""


def list_events(
    store: StoreAddress,
    log: Log,
    *,
    limit: int,
    now: int,
    **question: Any,  # noqa: ANN401 - those of `explaining.asked_of`
) -> Listed:
    """Explain a figure by a store and its log. Blocks; the store may be written meanwhile.

    Raises what `explaining.asked_of`, `evidencing.evidence` and `open_reader` raise.
    """
    with closing(open_reader(store, patient=True)) as reader, reader.snapshot():
        asked = explaining.asked_of(reader, **question)
        found = explain(reader, asked, now=now)
        if found is None:
            raise StoreUnavailable(f"{store}: no worker has bound this store yet; start one")
        topic = found.topic.topic
        with LogReader(log.bootstrap_servers, topic) as source:
            proof = evidence(reader, found, source, log.schemas(topic), now=now)
    return listed(found, proof, limit=limit)


def listed(explanation: Explanation, proof: Evidence, *, limit: int) -> Listed:
    """The list of what was read and judged."""
    figure = proof.figure
    return Listed(
        explaining.document(explanation, limit=limit),
        list(_events(explanation, proof.judged)),
        {
            "value": explaining.decimal(figure.total),
            "closing": explaining.decimal(figure.closing),
            "adjustment": explaining.decimal(figure.adjustment),
            "events": figure.events,
        },
        [_mismatch(each) for each in proof.mismatches[:MISMATCHES_SHOWN]],
        proof.adds_up(explanation),
        proof.doubts(),
    )


def _events(explanation: Explanation, judged: Sequence[Judged]) -> Iterator[Json]:
    """Those that the meter reads, and those that were refused."""
    for one in judged:
        record, times, outcome, why = one
        event = record.event
        meter = next(
            (m for m in explanation.definitions if _reads(explanation.asked, one, m)), None
        )
        if meter is None and outcome is not Outcome.REFUSED:
            continue
        late = ""
        amount: str | None = None
        if meter is not None and event.kind not in SESSION_KINDS:
            start = window_start(event.time, meter.window)
            since = explanation.catalogue.metering_since
            arrival = arrival_at(record.append_time, start, meter, since)
            late = _time(arrival) if arrival and times else ""
            amount = _amount(one, meter)
        yield {
            "partition": record.partition,
            "offset": record.offset,
            "appended": _time(record.append_time),
            "time": _time(event.time),
            "producer": event.producer,
            "lane": event.lane,
            "sequence": event.sequence,
            "key": event.key,
            "kind": event.kind.value,
            "session": event.session,
            "subject": event.subject,
            "outcome": outcome.value + (" late" if late else ""),
            "amount": amount,
            "arrival": late or None,
            "why": why,
        }


def _reads(asked: Asked, one: Judged, meter: Meter) -> bool:
    event = one.record.event
    if meter.type != event.type or (event.kind in SESSION_KINDS) != (
        meter.aggregate is Aggregate.SESSION
    ):
        return False
    if event.kind in SESSION_KINDS:
        return True
    try:
        if not counts(event, meter):
            return False
    except InvalidQuantity:
        return False
    if one.outcome is Outcome.REFUSED or not asked.where:
        return True
    group = tuple([event.attributes.get(name, "") for name in meter.group_by])
    return in_groups(meter.group_by, group, asked.where)


def _amount(one: Judged, meter: Meter) -> str | None:
    try:
        amount = amount_of(one.record.event, meter)
    except InvalidQuantity:
        return None
    if amount is None:
        return None
    if meter.aggregate is Aggregate.COUNT:
        return str(one.times)
    sign = -1 if one.times < 0 else 1
    return format_amount(sign * amount.quantity, amount.scale)


def _mismatch(found: Mismatch) -> Json:
    key = found.key._asdict()
    key |= {"start": _time(found.key.start), "arrival": _time(found.key.arrival)}
    if not found.key.arrival:
        key["arrival"] = None
    scale = key.pop("scale", 0)
    return {
        **key,
        "group": list(found.key.group),
        "store": _side(found.store, scale),
        "events": _side(found.events, scale),
    }


def _side(side: tuple[int, int] | Item | None, scale: int) -> Json | None:
    if side is None:
        return None
    if isinstance(side, Item):
        return side._asdict()
    events, quantity = side
    return {"events": events, "amount": format_amount(quantity, scale % MOMENT)}


def _time(time: int) -> str:
    return format_time(time, UTC)
