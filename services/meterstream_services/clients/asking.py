"""Figures for the answers that clients ask for: the same questions as `/v1/usage`, without HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from meterstream_aggregator.answering import figures
from meterstream_aggregator.errors import UnknownMeter
from meterstream_services.http.meter_question import MeterQuery, decimal, put
from meterstream_services.http.parts import Parts


class Row(NamedTuple):
    """One figure. Times are microseconds UTC; ``value`` None: no such figure of nothing."""

    tenant: str | None
    group: Mapping[str, str]
    start: int
    end: int
    value: Decimal | None
    events: int
    status: str


def usage(
    parts: Parts,
    meter: str,
    start: int,
    end: int,
    *,
    tenants: Sequence[str] = (),
    by: Sequence[str] = (),
    where: Sequence[str] = (),
    every: str = "total",
    total: bool = False,
) -> list[Row]:
    """Figures of a meter in [start, end), whole windows; see `/v1/usage` for the rest.

    Without ``tenants`` of all: the caller has made sure that this is allowed. A meter that no
    catalogue has gives no rows: nothing was counted by it. Blocks. Raises `InvalidQuestion` and
    `StoreUnavailable`.
    """
    query = MeterQuery.model_validate(
        {
            "meter": meter,
            "from": _text(start),
            "to": _text(end),
            "every": every,
            "tenant": list(tenants),
            "by": list(by),
            "where": list(where),
            "total": total,
        }
    )
    try:
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
    except UnknownMeter:
        return []
    return [
        Row(
            figure.tenant,
            dict(zip(asked.question.by, figure.group, strict=True)),
            figure.start,
            figure.end,
            None if figure.total is None else Decimal(decimal(figure.total) or "0"),
            figure.events,
            figure.status.value,
        )
        for figure in found
    ]


def _text(time: int) -> str:
    whole, micros = divmod(time, 1_000_000)
    return datetime.fromtimestamp(whole, UTC).replace(microsecond=micros).isoformat()
