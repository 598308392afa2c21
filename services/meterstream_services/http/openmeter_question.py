"""``GET /api/v1/meters/{slug}/query``: a meter's usage as OpenMeter answers it.

=====================  ==========================================================================
OpenMeter              here
=====================  ==========================================================================
``slug``               the meter's name
``subject``            the tenant; rows are apart by it where ``subject`` or ``groupBy=subject``
                       is given, and added up otherwise
``from``, ``to``       on boundaries of the meter's windows; without them, from the beginning of
                       metering, and to the end of the present window
``windowSize``         ``MINUTE``, ``HOUR``, ``DAY``, ``MONTH``, in ``windowTimeZone``; the whole
                       time without one
``groupBy``            attributes that the meter is grouped by; null where an event had none
``filterGroupBy[x]``   the attribute ``x`` has this value
=====================  ==========================================================================

Values are JSON numbers, as its clients expect, and written with all their digits: who reads JSON
exactly has the exact figure, who reads into a double has what a double holds. Only windows in which
something was used have rows. Errors of a question are 400.
"""

from __future__ import annotations

import re
from datetime import UTC
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from meterstream_aggregator.answering import figures
from meterstream_aggregator.civil import InvalidQuestion, format_time
from meterstream_aggregator.questions import Figure, window_at
from meterstream_aggregator.store.port import StoreReader
from meterstream_services.http.asking import json_response
from meterstream_services.http.guarding import PrincipalOf
from meterstream_services.http.meter_question import MeterQuery, decimal, put
from meterstream_services.http.parts import Parts, PartsOf
from meterstream_services.http.problems import Problem, documented
from meterstream_services.keys.principal import Principal

router = APIRouter()

SIZES: Final = {"MINUTE": "1m", "HOUR": "1h", "DAY": "1d", "MONTH": "1mo"}
_SUBJECT: Final = "subject"
_ONCE: Final = ("from", "to", "windowSize", "windowTimeZone", "clientId")
_FILTER: Final = re.compile(r"filterGroupBy\[([^\]]{1,64})\]")
_ROW: Final[dict[str, Any]] = {
    "value": 18059974,
    "subject": "acme",
    "windowStart": "2026-06-01T00:00:00+00:00",
    "windowEnd": "2026-06-02T00:00:00+00:00",
    "groupBy": {"model": "code"},
}


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


_TIME: Final[dict[str, Any]] = {"type": "string", "format": "date-time"}
_TEXTS: Final[dict[str, Any]] = {"type": "array", "items": {"type": "string", "maxLength": 256}}
_PARAMETERS: Final = [
    _parameter("from", _TIME, "First instant."),
    _parameter("to", _TIME, "First instant after."),
    _parameter("windowSize", {"type": "string", "enum": [*SIZES]}, "Length of the windows."),
    _parameter("windowTimeZone", {"type": "string"}, "IANA zone of the windows; UTC unless given."),
    _parameter(_SUBJECT, _TEXTS, "Of these tenants only, and apart by tenant. Repeatable."),
    _parameter("groupBy", _TEXTS, "Keep figures apart by attribute, or `subject`. Repeatable."),
    {
        **_parameter(
            "filterGroupBy",
            {"type": "object", "additionalProperties": {"type": "string"}},
            "Attributes with these values only.",
        ),
        "style": "deepObject",
        "explode": True,
    },
]


@router.get(
    "/api/v1/meters/{slug}/query",
    summary="Usage of a meter as OpenMeter answers it",
    responses={
        200: {
            "description": "Windows with usage, in order.",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["data"],
                        "example": {
                            "from": None,
                            "to": None,
                            "windowSize": "DAY",
                            "data": [_ROW],
                        },
                    }
                }
            },
        },
        **documented(400, 403, 404, 422, 503),
    },
    openapi_extra={"parameters": _PARAMETERS},
)
def query(slug: str, request: Request, parts: PartsOf, principal: PrincipalOf) -> Response:
    """Usage of a meter by window, subject and group."""
    try:
        asked = _read(request)
        with parts.store() as store:
            found = _figures(slug, asked, parts, store, principal)
    except InvalidQuestion as problem:
        raise _bad(_theirs(problem.field), problem.problem) from None
    except ValidationError as problem:
        first = problem.errors()[0]
        raise _bad(_theirs(str(first["loc"][0])), str(first["msg"])) from None
    return json_response(
        {
            "from": asked.once.get("from"),
            "to": asked.once.get("to"),
            "windowSize": asked.once.get("windowSize"),
            "data": [_row(figure, asked.by) for figure in found if figure.events or figure.running],
        }
    )


class _Asked:
    """The query string, read."""

    def __init__(self) -> None:
        self.once: Final[dict[str, str]] = {}
        self.subjects: Final[list[str]] = []
        self.by: Final[list[str]] = []
        self.where: Final[list[str]] = []

    @property
    def is_by_subject(self) -> bool:
        """Whether rows are apart by subject: also where only some subjects are asked for."""
        return bool(self.subjects) or _SUBJECT in self.by


def _read(request: Request) -> _Asked:
    asked = _Asked()
    for name, value in request.query_params.multi_items():
        if name in _ONCE:
            if name in asked.once:
                raise InvalidQuestion(name, "is given more than once; give it once")
            asked.once[name] = value
        elif name == _SUBJECT:
            asked.subjects.append(value)
        elif name == "groupBy":
            asked.by.append(value)
        elif match := _FILTER.fullmatch(name):
            asked.where.append(f"{match[1]}={value}")
        else:
            raise InvalidQuestion(name[:64], "is not known here; mend its spelling or leave it out")
    size = asked.once.get("windowSize")
    if size is not None and size not in SIZES:
        raise InvalidQuestion(
            "windowSize", f"{size[:40]!r} is no size; use one of {', '.join(SIZES)}"
        )
    return asked


def _figures(
    slug: str, asked: _Asked, parts: Parts, store: StoreReader, principal: Principal
) -> list[Figure]:
    start, end = asked.once.get("from"), asked.once.get("to")
    size = asked.once.get("windowSize")
    told: dict[str, Any] = {
        "meter": slug,
        "from": _beginning(slug, store) if start is None else start,
        "to": _present(slug, parts, store) if end is None else end,
        "every": "total" if size is None else SIZES[size],
        "zone": asked.once.get("windowTimeZone"),
        "tenant": asked.subjects,
        "by": [name for name in asked.by if name != _SUBJECT],
        "where": asked.where,
        "total": not asked.is_by_subject,
    }
    put_ = put(MeterQuery.model_validate(told), parts, store, principal)
    return figures(
        store,
        put_.question,
        scope=put_.scope,
        progress=put_.as_of.progress,
        now=put_.as_of.now,
        running=put_.running,
    )


def _beginning(slug: str, store: StoreReader) -> str:
    """The window in which metering began."""
    catalogue = store.catalogue()
    since = catalogue.metering_since
    size = window_at(catalogue.definitions(slug), since)
    return format_time(since - since % size, UTC)


def _present(slug: str, parts: Parts, store: StoreReader) -> str:
    """The end of the window that runs."""
    now = parts.now()
    size = window_at(store.catalogue().definitions(slug), now)
    return format_time(now - now % size + size, UTC)


def _row(figure: Figure, by: list[str]) -> dict[str, Any]:
    names = [name for name in dict.fromkeys(by) if name != _SUBJECT]
    group = zip(names, figure.group, strict=True)
    value = decimal(figure.total)
    return {
        "value": None if value is None else orjson.Fragment(value),
        _SUBJECT: figure.tenant,
        "windowStart": format_time(figure.start, UTC),
        "windowEnd": format_time(figure.end, UTC),
        "groupBy": {name: text or None for name, text in group},
    }


def _theirs(field: str) -> str:
    """Our name of a parameter as OpenMeter has it."""
    return {
        "every": "windowSize",
        "zone": "windowTimeZone",
        "tenant": _SUBJECT,
        "by": "groupBy",
        "where": "filterGroupBy",
    }.get(field, field)


def _bad(field: str, reason: str) -> Problem:
    errors = [{"field": field, "reason": reason}]
    return Problem(400, "invalid-question", f"{field}: {reason}", errors=errors)
