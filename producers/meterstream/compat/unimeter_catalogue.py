"""Unimeter's metrics as definitions, as meters of a catalogue, and as attributes of events. Pure.

===============  =================================================================================
attribute        what it holds
===============  =================================================================================
``metric``       the metric's code
``operation``    ``add`` or ``remove``, of unique values
``value``        the unique value as text
``dimensions``   the properties that the metric declares as filters, by name:
                 ``provider=aws&region=us-east``; all of them where nobody defined the metric
anything else    a property under its own name; if that is one of these, as ``property.NAME``
===============  =================================================================================
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode

from meterstream.compat.unimeter_values import (
    AggType,
    AlertThreshold,
    DimensionFilter,
    MetricSchema,
    OperationType,
    PeriodType,
    ServerError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

KIND: Final = "unimeter.metric"
"""The kind of definition that a metric is."""
EVENT_TYPE: Final = "unimeter.event"
METRIC: Final = "metric"
OPERATION: Final = "operation"
VALUE: Final = "value"
DIMENSIONS: Final = "dimensions"
DIMENSIONS_MAX: Final = 900
"""Longest text of dimensions, so that a question can name it."""
GENERIC: Final = {
    AggType.COUNT: "unimeter.count",
    AggType.SUM: "unimeter.sum",
    AggType.MAX: "unimeter.max",
    AggType.LATEST: "unimeter.latest",
    AggType.COUNT_UNIQUE: "unimeter.unique",
}
"""The meters of the ready catalogue, which keep all metrics."""
PREFIX: Final = "unimeter.metric."
"""How the name of a metric's own meter begins."""

_RESERVED: Final = frozenset({METRIC, OPERATION, VALUE, DIMENSIONS})
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./-]{1,60}")
_GROUPS_MAX: Final = 8
_AGGREGATES: Final = {
    AggType.COUNT: "count",
    AggType.SUM: "sum",
    AggType.MAX: "max",
    AggType.LATEST: "latest",
    AggType.COUNT_UNIQUE: "unique",
}
_EVERY: Final = {PeriodType.CALENDAR: "1mo", PeriodType.DAY: "1d", PeriodType.WEEK: "1w"}
_WATCHED: Final = frozenset({AggType.COUNT, AggType.SUM, AggType.MAX})

Entry = dict[str, Any]


def to_definition(schema: MetricSchema) -> Entry:
    """A metric as a JSON object."""
    return {
        "agg_type": AggType(schema.agg_type).name,
        "recurring": schema.recurring,
        "field_name": schema.field_name,
        "period_type": PeriodType(schema.period_type).name,
        "billing_cycle_day": schema.billing_cycle_day,
        "filters": [{"key": each.key, "values": list(each.values)} for each in schema.filters],
        "thresholds": [
            {"code": each.code, "value": str(each.value), "recurring": each.recurring}
            for each in schema.thresholds
        ],
    }


def from_definition(code: str, told: Mapping[str, Any]) -> MetricSchema:
    """The metric that `to_definition` wrote down."""
    return MetricSchema(
        code=code,
        agg_type=AggType[told["agg_type"]],
        recurring=told["recurring"],
        field_name=told["field_name"],
        period_type=PeriodType[told["period_type"]],
        billing_cycle_day=told["billing_cycle_day"],
        filters=[DimensionFilter(each["key"], list(each["values"])) for each in told["filters"]],
        thresholds=[
            AlertThreshold(each["code"], int(each["value"]), each["recurring"])
            for each in told["thresholds"]
        ],
    )


def attribute_of(name: str) -> str:
    """Under which name a property is kept."""
    return f"property.{name}" if name in _RESERVED else name


def dimensions_of(schema: MetricSchema | None, properties: Mapping[str, str]) -> str:
    """The properties that queries may filter by. Raises `ServerError` where they are too long."""
    if schema is not None:
        declared = {each.key for each in schema.filters}
        properties = {name: value for name, value in properties.items() if name in declared}
    text = urlencode(sorted(properties.items()))
    if len(text) > DIMENSIONS_MAX:
        if schema is None:
            return ""
        raise ServerError(
            f"properties: {len(text)} characters to filter by, at most {DIMENSIONS_MAX}; declare "
            "as filters only those that queries ask for"
        )
    return text


def attributes_of(
    schema: MetricSchema | None,
    code: str,
    properties: Mapping[str, str],
    *,
    value: int | str,
    operation: int,
) -> tuple[dict[str, str], bool]:
    """The attributes of an event, and whether it is of a unique value: its quantity is then 1.

    Raises `ServerError` where its dimensions are too long.
    """
    attributes = {attribute_of(name): text for name, text in properties.items()}
    attributes[METRIC] = code
    if dimensions := dimensions_of(schema, properties):
        attributes[DIMENSIONS] = dimensions
    is_unique = schema is not None and schema.agg_type is AggType.COUNT_UNIQUE
    if is_unique or operation != OperationType.NONE:
        attributes[VALUE] = str(value)
        attributes[OPERATION] = "remove" if operation == OperationType.REMOVE else "add"
        return attributes, True
    return attributes, False


def fits(text: str, filters: Mapping[str, str]) -> bool:
    """Whether dimensions have all that a query asks for."""
    return filters.items() <= dict(parse_qsl(text, keep_blank_values=True)).items()


def meter_name(code: str) -> str:
    """The name of a metric's own meter."""
    return PREFIX + _word(code)


def threshold_name(metric: str, threshold: str) -> str:
    """The name of a metric's threshold in the catalogue."""
    return f"{meter_name(metric)}:{_word(threshold)}"


def entries(
    defined: Mapping[str, Mapping[str, Any]], *, since: datetime | None = None
) -> tuple[list[Entry], list[Entry], list[str]]:
    """Meters and thresholds of a catalogue for all metrics, and sentences on what has no place."""
    meters: list[Entry] = []
    thresholds: list[Entry] = []
    untold: list[str] = []
    for code, told in defined.items():
        schema = from_definition(code, told)
        meters.append(_meter(schema, since))
        for threshold in schema.thresholds:
            problem = _problem(schema, threshold)
            if problem is None:
                thresholds.append(_threshold(schema, threshold))
            else:
                untold.append(f"threshold {threshold.code!r} of metric {code!r}: {problem}")
    return meters, thresholds, untold


def _meter(schema: MetricSchema, since: datetime | None) -> Entry:
    made: Entry = {
        "name": meter_name(schema.code),
        "type": EVENT_TYPE,
        "aggregate": _AGGREGATES[schema.agg_type],
    }
    if schema.agg_type is AggType.COUNT_UNIQUE:
        made |= {"value": f"attributes.{VALUE}", "operation": f"attributes.{OPERATION}"}
    groups = _unique(attribute_of(each.key) for each in schema.filters)
    if groups:
        made["group_by"] = groups[:_GROUPS_MAX]
    made["where"] = {METRIC: [schema.code]}
    return made if since is None else made | {"from": since}


def _threshold(schema: MetricSchema, threshold: AlertThreshold) -> Entry:
    made: Entry = {
        "name": threshold_name(schema.code, threshold.code),
        "meter": meter_name(schema.code),
        "every": _EVERY[schema.period_type],
    }
    if schema.period_type is PeriodType.CALENDAR:
        made["anchor"] = schema.billing_cycle_day
    return made | {"at": [str(threshold.value)]}


def _problem(schema: MetricSchema, threshold: AlertThreshold) -> str | None:
    if schema.agg_type not in _WATCHED:
        return f"a figure of {schema.agg_type.name} does not add up by events"
    if schema.period_type is PeriodType.FIXED:
        return "workers watch days, weeks and months; make the metric CALENDAR, DAY or WEEK"
    if threshold.value <= 0:
        return "it is reached before anything is used"
    return None


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _word(text: str) -> str:
    """A code as part of a name: itself where it can be, else a hash."""
    if _PLAIN.fullmatch(text):
        return text
    return "x:" + hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
