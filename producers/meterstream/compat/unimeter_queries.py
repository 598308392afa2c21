"""Unimeter's questions, as questions to the usage API.

The ready catalogue keeps all metrics in one meter for each aggregation, grouped by ``metric`` and
``dimensions``. A figure is one question; with filters one more, which first finds the dimensions
that fit. The API merges them exactly, whatever the aggregation.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from meterstream.compat import wiring
from meterstream.compat.unimeter_catalogue import (
    DIMENSIONS,
    GENERIC,
    METRIC,
    fits,
    threshold_name,
)
from meterstream.compat.unimeter_values import (
    AggType,
    AggValue,
    AlertRecord,
    ConnectionError,  # noqa: A004 - the client's own
    MetricSchema,
    Period,
    ServerError,
)
from meterstream.compat.usage_api import UsageRefused, UsageUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FOLD_SECONDS: Final = 10.0
"""How long a question waits until workers have counted what this client ingested before."""
_FOLD_STEP_SECONDS: Final = 0.05
_WHERE_MAX: Final = 98
"""Dimensions that one question can name, beside the metric."""

Json = Any


class Freshness:
    """How far workers must be, so that a client's questions know what it ingested before."""

    def __init__(self) -> None:
        self._wanted: Final[dict[int, int]] = {}

    def note(self, sent: wiring.Sent) -> None:
        """An event is in the log there."""
        if sent.offset > self._wanted.get(sent.partition, -1):
            self._wanted[sent.partition] = sent.offset

    async def wait(self) -> bool:
        """Wait until workers are as far. False after `FOLD_SECONDS`: answers are what they are."""
        deadline = time.monotonic() + FOLD_SECONDS
        while self._wanted:
            answer = await _get("/v1/status", [])
            for row in answer["partitions"]:
                at = self._wanted.get(row["partition"])
                if at is not None and (row["next_offset"] or 0) > at:
                    del self._wanted[row["partition"]]
            if self._wanted and time.monotonic() >= deadline:
                self._wanted.clear()
                return False
            if self._wanted:
                await asyncio.sleep(_FOLD_STEP_SECONDS)
        return True


async def figure(
    account: str,
    code: str,
    schema: MetricSchema | None,
    period: Period,
    filters: Mapping[str, str],
) -> AggValue:
    """The figure of a metric. Raises `ServerError` and `ConnectionError`."""
    asked = list(AggType) if schema is None else [schema.agg_type]
    rows = await asyncio.gather(*[_row(account, code, kind, period, filters) for kind in asked])
    found = dict(zip(asked, rows, strict=True))
    unique, unique_events = found.get(AggType.COUNT_UNIQUE, (0, 0))
    events = max(count for _, count in rows)
    is_unique = unique_events > 0 or (
        schema is not None and schema.agg_type is AggType.COUNT_UNIQUE
    )
    value = AggValue(
        sum=found.get(AggType.SUM, (0, 0))[0],
        count=unique if is_unique else events,
        max=found.get(AggType.MAX, (0, 0))[0],
        last_value=found.get(AggType.LATEST, (0, 0))[0],
    )
    return value if schema is None else _flagged(value, schema, rows[0][0])


async def alerts(
    account: str, schemas: Sequence[MetricSchema], since_offset: int
) -> list[AlertRecord]:
    """Thresholds that were reached in the present period; of all accounts where it is empty."""
    answer = await _get("/v1/thresholds", [("who", account)] if account else [])
    known = {
        threshold_name(schema.code, each.code): (schema.code, each.code)
        for schema in schemas
        for each in schema.thresholds
    }
    found: list[AlertRecord] = []
    for row in answer["thresholds"]:
        if row["threshold"] not in known or not (row["tenant"] or "").isdecimal():
            continue
        metric, threshold = known[row["threshold"]]
        found += [
            AlertRecord(
                node_addr="",
                log_offset=value["offset"],
                account_id=int(row["tenant"]),
                metric_code=metric,
                threshold_code=threshold,
                value_at_cross=_whole(value["at"]),
                triggered_at=datetime.fromisoformat(value["reached"]),
            )
            for value in row["values"]
            if value["offset"] is not None and value["offset"] >= since_offset
        ]
    return sorted(found, key=lambda each: each.triggered_at)


async def _row(
    account: str, code: str, kind: AggType, period: Period, filters: Mapping[str, str]
) -> tuple[int, int]:
    """(value, events) of one aggregation; zeros where nothing was used."""
    question = [
        ("meter", GENERIC[kind]),
        ("from", _instant("start", period.start)),
        ("to", _instant("end", period.end)),
        ("tenant", account),
        ("where", f"{METRIC}={code}"),
    ]
    if filters:
        answer = await _get("/v1/usage", [*question, ("by", DIMENSIONS)])
        texts = {row["group"][DIMENSIONS] for row in answer["rows"]}
        fitting = sorted(text for text in texts if fits(text, filters))
        if not fitting:
            return 0, 0
        if len(fitting) > _WHERE_MAX:
            raise ServerError(
                f"{len(fitting)} combinations of dimensions fit, and a question can name "
                f"{_WHERE_MAX}; filter by more, or ask for a shorter period"
            )
        question += [("where", f"{DIMENSIONS}={text}") for text in fitting]
    rows = (await _get("/v1/usage", question))["rows"]
    if not rows:
        return 0, 0
    return _whole(rows[0]["value"] or "0"), int(rows[0]["events"])


async def _get(path: str, params: Sequence[tuple[str, str]]) -> Json:
    """An answer. In a thread, so that nothing else of the event loop waits."""
    try:
        return await asyncio.to_thread(wiring.usage().get, path, params)
    except UsageUnavailable as problem:
        raise ConnectionError(str(problem)) from problem
    except UsageRefused as problem:
        remedy = ""
        if problem.status == 404:
            remedy = "; start workers with the catalogue of `meterstream catalogue unimeter`"
        raise ServerError(f"{problem.detail}{remedy}") from problem


def _flagged(value: AggValue, schema: MetricSchema, reached: int) -> AggValue:
    flags = 0
    for bit, threshold in enumerate(schema.thresholds):
        if reached >= threshold.value > 0:
            flags |= 1 << bit
    return AggValue(value.sum, value.count, value.max, value.last_value, 0, flags)


def _whole(text: str) -> int:
    number = Decimal(text)
    if number != int(number):
        raise ServerError(
            f"{text} is no whole number, so somebody else recorded it; ask /v1/usage for it"
        )
    return int(number)


def _instant(name: str, time: datetime) -> str:
    if time.tzinfo is None:
        raise ServerError(f"period.{name}: {time.isoformat()} has no zone; pass an aware datetime")
    return time.astimezone(UTC).isoformat()
