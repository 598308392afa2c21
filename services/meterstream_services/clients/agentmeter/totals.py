"""What meter events add up to over any time, exactly.

Whole windows come from the store's figures; the parts of windows at both ends, and the very
instants of the first and the last event, from the log, which is read for no more than a few
windows. Without a log whole windows can be asked for, and those instants are not known.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, NamedTuple

from starlette.exceptions import HTTPException

from meterstream.compat.agentmeter.money import total
from meterstream_aggregator.answering import figures
from meterstream_aggregator.changes import OVERFLOW
from meterstream_aggregator.errors import UnknownMeter
from meterstream_aggregator.questions import Figure
from meterstream_services.clients.agentmeter.listing import (
    READ_MAX,
    Wanted,
    is_wanted,
    quantity_of,
)
from meterstream_services.clients.agentmeter.values import shown
from meterstream_services.clients.eventlog import Listed
from meterstream_services.http.meter_question import MeterQuery, decimal, put
from meterstream_services.http.parts import Parts

METER: Final = "agentmeter.quantity"
"""Of the ready catalogue: the sum of quantities by meter type and subject."""


class Totals(NamedTuple):
    """``subjects`` None: more than are kept apart. ``first``, ``last``: of events, if known."""

    quantity: Decimal
    events: int
    subjects: int | None
    first: int | None
    last: int | None


def totals(parts: Parts, wanted: Wanted) -> Totals:
    """The totals of what is wanted. Blocks. Raises 422, 503 and what questions raise."""
    if not wanted.tenants or wanted.start >= wanted.until:
        return Totals(Decimal(0), 0, 0, None, None)
    window = _window(parts)
    if window is None:
        return Totals(Decimal(0), 0, 0, None, None)  # No such meter: nothing was counted by it.
    inner = -(-wanted.start // window) * window, wanted.until // window * window
    if inner[0] >= inner[1]:
        edges, rows = _read(parts, wanted, wanted.start, wanted.until), list[Figure]()
    else:
        edges = _read(parts, wanted, wanted.start, inner[0])
        if wanted.end is not None:
            edges += _read(parts, wanted, inner[1], wanted.until)
        rows = _figures(parts, wanted, *inner)
    times = [each.event.time for each in edges]
    firsts = [row.first for row in rows if row.first is not None]
    lasts = [row.last for row in rows if row.last is not None]
    if firsts and parts.log is not None:
        for start in {min(firsts), max(lasts)}:
            found = _read(parts, wanted, start, start + window)
            times += [each.event.time for each in found]
    is_known = parts.log is not None
    subjects = {row.group[0] for row in rows if row.events} | {
        each.event.subject or "" for each in edges
    }
    return Totals(
        total(
            *(Decimal(decimal(row.total) or 0) for row in rows),
            *(quantity_of(each.event) for each in edges),
        ),
        sum(row.events for row in rows) + len(edges),
        None if OVERFLOW in subjects else len(subjects),
        min(times) if is_known and times else None,
        max(times) if is_known and times else None,
    )


def _window(parts: Parts) -> int | None:
    """The length of the meter's windows."""
    with parts.store() as store:
        try:
            return max(meter.window for meter in store.catalogue().definitions(METER))
        except UnknownMeter:
            return None


def _read(parts: Parts, wanted: Wanted, start: int, end: int) -> list[Listed]:
    """Events of a part of a window. Raises 422 for too many, 503 without a log."""
    if start >= end:
        return []
    if parts.log is None:
        raise HTTPException(503, "parts of windows cannot be told without a broker; ask for hours")
    raw = parts.log.events(wanted.tenants, wanted.types, start, end, limit=READ_MAX)
    if len(raw) == READ_MAX:
        raise HTTPException(422, f"too many events after {shown(start)}; ask for whole hours")
    return [each for each in raw if is_wanted(each.event, wanted)]


def _figures(parts: Parts, wanted: Wanted, start: int, end: int) -> list[Figure]:
    """Whole windows, by subject."""
    where = [f"{name}={value}" for name, value in wanted.where.items() if value is not None]
    if wanted.subject is not None:
        where += [f"subject={wanted.subject}", f"subject={OVERFLOW}"]
    query = MeterQuery.model_validate(
        {
            "meter": METER,
            "from": shown(start),
            "to": shown(end),
            "tenant": list(wanted.tenants),
            "by": ["subject"],
            "where": where,
        }
    )
    with parts.store() as store:
        asked = put(query, parts, store)
        found = figures(
            store,
            asked.question,
            scope=asked.scope,
            progress=asked.as_of.progress,
            now=asked.as_of.now,
            running=asked.running,
        )
    if wanted.subject is not None and any(row.group == (OVERFLOW,) and row.events for row in found):
        raise HTTPException(
            503, "this project has more subjects than are kept apart; raise the meter's limit"
        )
    return list(found)
