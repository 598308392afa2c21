"""``GET /v1/meters``: the catalogue that figures are made with."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from meterstream_aggregator.catalogue import Meter
from meterstream_services.http.asking import json_response, shown_time
from meterstream_services.http.parts import PartsOf
from meterstream_services.http.problems import documented
from meterstream_services.zones import find_zone

router = APIRouter(tags=["usage"])

_SECOND: Final = 1_000_000
_METER: Final[dict[str, Any]] = {
    "name": "llm.tokens",
    "type": "llm.completion",
    "aggregate": "sum",
    "value": "attributes.tokens",
    "unit": "token",
    "group_by": ["model", "region"],
    "where": [{"name": "env", "test": "in", "values": ["prod"]}],
    "operation": None,
    "from": None,
    "to": None,
    "window_seconds": 900,
    "grace_seconds": 86400,
    "timeout_seconds": None,
    "timeout_bills": "last_sign",
    "longest_seconds": 34560000,
    "series_per_tenant": 10000,
    "version": "0011223344556677",
}


class ConditionDocument(BaseModel):
    """What an event's attribute must fulfil: `in`, `not_in`, `exists` or `absent`."""

    name: str
    test: str
    values: list[str]


class MeterDocument(BaseModel):
    """One definition of a meter: it reads events of the times [from, to), null for no bound.

    A meter that changed has several definitions of one name.
    """

    model_config = ConfigDict(json_schema_extra={"example": _METER})

    name: str
    type: str
    aggregate: str
    value: str
    unit: str
    group_by: list[str]
    where: list[ConditionDocument]
    operation: str | None = Field(
        description="The attribute whose text `remove` takes a value out of a unique meter."
    )
    start: str | None = Field(alias="from")
    end: str | None = Field(alias="to")
    window_seconds: int
    grace_seconds: int
    timeout_seconds: int | None
    timeout_bills: str
    longest_seconds: int = Field(description="No session of it is longer.")
    series_per_tenant: int
    version: str


class MetersDocument(BaseModel):
    """The catalogue: all definitions, whatever their times."""

    version: str
    metering_since: str
    accept_from: str
    meters: list[MeterDocument]


@router.get(
    "/v1/meters",
    summary="The catalogue",
    responses={200: {"model": MetersDocument}, **documented(503)},
)
def meters(parts: PartsOf) -> Response:
    """Every definition of every meter, as the rows in the store were made with them."""
    with parts.store() as store:
        catalogue = store.catalogue()
    return json_response(
        {
            "version": catalogue.version,
            "metering_since": shown_time(catalogue.metering_since, find_zone("UTC")),
            "accept_from": shown_time(catalogue.accept_from, find_zone("UTC")),
            "meters": [_meter(meter) for meter in catalogue.meters],
        }
    )


def _meter(meter: Meter) -> dict[str, Any]:
    return {
        "name": meter.name,
        "type": meter.type,
        "aggregate": meter.aggregate.value,
        "value": meter.value,
        "unit": meter.unit,
        "group_by": list(meter.group_by),
        "where": [
            {"name": name, "test": test.value, "values": list(values)}
            for name, test, values in meter.where
        ],
        "operation": meter.operation,
        "from": shown_time(meter.since or None, find_zone("UTC")),
        "to": shown_time(meter.until, find_zone("UTC")),
        "window_seconds": meter.window // _SECOND,
        "grace_seconds": meter.grace // _SECOND,
        "timeout_seconds": None if meter.timeout is None else meter.timeout // _SECOND,
        "timeout_bills": meter.timeout_bills.value,
        "longest_seconds": meter.longest // _SECOND,
        "series_per_tenant": meter.series_per_tenant,
        "version": meter.version,
    }
