"""An explanation as a document, with its hashes.

Times are ISO 8601 in UTC, amounts exact decimals as text, so that the same facts always give the
same bytes. Two hashes, each BLAKE2b of 16 bytes over canonical JSON (sorted keys, no spaces,
ASCII):

``figure_hash``
    over tenant, meter, time, groups, amounts, definitions and all rows: what an invoice rests on.
    It changes only when the figure gets an adjustment.
``hash``
    over the whole document without ``hash`` and without the status of the figure, which time alone
    moves. Producers' numbers and places are in it, so it moves on while the log does.

A long list is shown as its first entries, with the count and the hash of all of them; that hash is
what goes into the two above. (Of callers' keys the first 1,000, of producers the 100 busiest.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, tzinfo
from functools import lru_cache, partial
from typing import Any, Final, cast

from meterstream_aggregator.catalogue import HOUR, MOMENT, Condition, Meter, Test, dated
from meterstream_aggregator.changes import CallerKey
from meterstream_aggregator.civil import InvalidQuestion, format_time, parse_time
from meterstream_aggregator.explain import (
    Asked,
    Explanation,
    Presence,
    canonical,
    segments_left_out,
)
from meterstream_aggregator.periods import period_bounds
from meterstream_aggregator.questions import Figure, window_at
from meterstream_aggregator.store.port import StoreReader
from meterstream_aggregator.store.told import ItemRow, SessionRow, UsageRow
from meterstream_schemas.quantity import Amount, format_amount

Json = dict[str, Any]
_HASH_BYTES: Final = 16
_TIMES_KEPT: Final = 8_192
"""Texts of times that are kept: rows of one window, and neighbours' windows, have the same."""
_MOVING: Final = frozenset({"hash", "status"})


def asked_of(
    store: StoreReader,
    *,
    tenant: str,
    meter: str,
    start: str,
    end: str,
    zone: tzinfo,
    group: Sequence[str] = (),
    everywhere: bool = False,
) -> Asked:
    """What is asked, from the words of a caller; ``group`` are ``NAME=VALUE``.

    ``everywhere``: in all partitions, for tenants whose events were sent to others than theirs.
    Raises `UnknownMeter` and `InvalidQuestion`.
    """
    definitions = store.catalogue().definitions(meter)
    first, last = parse_time(start, zone, field="from"), parse_time(end, zone, field="to")
    period_bounds(first, last, "total", zone, window=partial(window_at, definitions))
    topic = store.topic()
    partitions = tuple(range(topic.partitions)) if everywhere and topic is not None else None
    return Asked(tenant, meter, first, last, tuple(_conditions(group)), partitions)


def _conditions(group: Sequence[str]) -> Iterator[Condition]:
    found: dict[str, list[str]] = {}
    for text in group:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InvalidQuestion("group", f"{text[:64]!r} is no group; write NAME=VALUE")
        found.setdefault(name, []).append(value)
    for name, values in found.items():
        yield Condition(name, Test.IN, tuple(sorted(set(values))))


def document(explanation: Explanation, *, limit: int) -> Json:
    """The document of an explanation. Lists are cut after ``limit`` entries."""
    asked, rows = explanation.asked, explanation.windows
    made: Json = {
        "tenant": asked.tenant,
        "meter": asked.meter,
        "unit": explanation.figure.unit,
        "from": _time(asked.start),
        "to": _time(asked.end),
        "group": {each.name: list(each.values) for each in asked.where},
        **_figure(explanation.figure),
        "definitions": [_definition(meter) for meter in explanation.definitions],
        "windows": _list([_window(*row) for row in rows if not row[1].arrival], limit),
        "adjustments": _list([_window(*row) for row in rows if row[1].arrival], limit),
        "items": _list([_item(*row) for row in explanation.items], limit),
    }
    made["figure_hash"] = hash_of(made)
    left_out = {"segments_left_out": segments_left_out(explanation.places)}
    made |= {
        "log": _log(explanation, limit),
        "producers": _list([_producer(each) for each in explanation.presences], limit)
        | {"count": explanation.producers}
        | left_out,
        "keys": _list([_key(known) for known in explanation.keys[1]], limit)
        | {"count": explanation.keys[0]},
        "sessions": _list([_session(row) for row in explanation.sessions], limit),
    }
    made["hash"] = hash_of(made)
    return made


def hash_of(made: Json) -> str:
    """The hash of a document, but for its own and what time alone moves."""
    return _hash({name: _whole(value) for name, value in made.items() if name not in _MOVING})


def _whole(value: object) -> object:
    """A value without the entries of lists, whose hashes stand for all of them."""
    if not isinstance(value, dict):
        return value
    inner = cast("Json", value)
    return {name: _whole(inner[name]) for name in inner if name != "first" or "hash" not in inner}


def _list(entries: Sequence[Json], limit: int) -> Json:
    return {"count": len(entries), "hash": _hash(list(entries)), "first": list(entries[:limit])}


def _hash(content: object) -> str:
    return hashlib.blake2b(canonical(content), digest_size=_HASH_BYTES).hexdigest()


def _definition(meter: Meter) -> Json:
    facts = {"version": meter.version, "unit": meter.unit} | dated(meter)
    return facts | {"since": _time(meter.since), "until": _optional(meter.until)}


def _log(explanation: Explanation, limit: int) -> Json:
    topic = explanation.topic
    ranges = [
        {"partition": partition, "first": first, "last": end - 1}
        for partition, first, end in explanation.ranges()
    ]
    return {
        "topic": topic.topic,
        "topic_id": topic.topic_id,
        "lane": explanation.lane,
        "partitions": list(explanation.partitions),
        "catalogues": [
            {"partition": row.partition, "from_offset": row.first_offset, "version": row.version}
            for row in explanation.readings
        ],
        "places": _list(_places(explanation), limit),
        "ranges": _list(ranges, limit),
    }


def _session(row: SessionRow) -> Json:
    return {
        "type": row.type,
        "session": row.session or None,
        "subject": row.subject,
        "start": _optional(row.start),
        "end": _optional(row.end),
        "state": row.state,
        "conflicts": row.conflicts,
    }


def _key(known: CallerKey) -> Json:
    return {
        "key": known.key,
        "time": _time(known.time),
        "state": known.state.name.lower(),
        "append_time": _time(known.append_time),
    }


def _figure(figure: Figure) -> Json:
    return {
        "value": decimal(figure.total),
        "closing": decimal(figure.closing),
        "adjustment": decimal(figure.adjustment),
        "events": figure.events,
        "average": decimal(figure.average),
        "running": decimal(figure.running),
        "status": figure.status.value,
        "final_at": _time(figure.final_at),
    }


def _window(version: str, row: UsageRow) -> Json:
    is_moment = row.scale >= MOMENT
    made: Json = {
        "start": _time(row.start),
        "group": list(row.group),
        "arrival": _time(row.arrival) if row.arrival else None,
        "events": row.events,
        "amount": format_amount(row.quantity, row.scale - MOMENT if is_moment else row.scale),
        "definition": version,
    }
    return made | {"moment": True} if is_moment else made


def _item(version: str, row: ItemRow) -> Json:
    return {
        "start": _time(row.start),
        "group": list(row.group),
        "arrival": _time(row.arrival) if row.arrival else None,
        "item": row.item,
        "time": _time(row.by.time),
        "producer": row.by.producer,
        "sequence": row.by.sequence,
        "offset": row.by.offset,
        "amount": format_amount(row.by.quantity, row.by.scale),
        "definition": version,
    }


def _places(explanation: Explanation) -> list[Json]:
    return [
        {
            "partition": place.partition,
            "hour": _time(place.hour * HOUR),
            "first": span.first,
            "last": span.last,
            "events": span.events,
        }
        for place, span in explanation.places
    ]


def _producer(presence: Presence) -> Json:
    numbers = presence.numbers
    lanes = numbers.lanes if numbers is not None else ()
    return {
        "producer": presence.producer,
        "first": presence.span.first,
        "last": presence.span.last,
        "events": presence.span.events,
        "highest": lanes[0][1] if lanes else None,
        "missing": [
            {"from": start, "to": end, "since": _time(since)}
            for _, start, end, since in (numbers.missing if numbers is not None else ())
        ],
        "closed": numbers.closed if numbers is not None else None,
    }


def decimal(amount: Amount | None) -> str | None:
    """An amount as exact text."""
    return None if amount is None else format_amount(*amount)


@lru_cache(maxsize=_TIMES_KEPT)
def _time(time: int) -> str:
    return format_time(time, UTC)


def _optional(time: int | None) -> str | None:
    return None if time is None else _time(time)
