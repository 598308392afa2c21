"""``GET /v1/meters``: the catalogue that figures are made with."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
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
    "where": {"env": ["prod"]},
    "window_seconds": 900,
    "grace_seconds": 86400,
    "timeout_seconds": None,
    "timeout_bills": "last_sign",
    "version": "0011223344556677",
}


class MeterDocument(BaseModel):
    """One meter."""

    model_config = ConfigDict(json_schema_extra={"example": _METER})

    name: str
    type: str
    aggregate: str
    value: str
    unit: str
    group_by: list[str]
    where: dict[str, list[str]]
    window_seconds: int
    grace_seconds: int
    timeout_seconds: int | None
    timeout_bills: str
    version: str


class MetersDocument(BaseModel):
    """The catalogue."""

    version: str
    metering_since: str
    meters: list[MeterDocument]


@router.get(
    "/v1/meters",
    summary="The catalogue",
    responses={200: {"model": MetersDocument}, **documented(503)},
)
def meters(parts: PartsOf) -> Response:
    """Every meter, as the rows in the store were made with it."""
    with parts.store() as store:
        catalogue = store.catalogue()
    return json_response(
        {
            "version": catalogue.version,
            "metering_since": shown_time(catalogue.metering_since, find_zone("UTC")),
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
        "where": {name: list(values) for name, values in meter.where},
        "window_seconds": meter.window // _SECOND,
        "grace_seconds": meter.grace // _SECOND,
        "timeout_seconds": None if meter.timeout is None else meter.timeout // _SECOND,
        "timeout_bills": meter.timeout_bills.value,
        "version": meter.version,
    }
