"""Fields of AgentMeter's requests: texts, amounts and times, checked.

A float on the wire means the digits it is written with (decision 23). A time without a zone is in
the zone of its project, UTC by default: AgentMeter 0.2.0 sends local time and does not say whose.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Final, cast

from starlette.exceptions import HTTPException

from meterstream.compat.agentmeter.money import exact
from meterstream_aggregator.civil import format_time
from meterstream_schemas.checks import check_text, check_time
from meterstream_schemas.events import ID_BYTES_MAX
from meterstream_services.clients.exact_json import exact_text

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SPACE_FOR_PLUS: Final = re.compile(r" (\d\d:?\d\d)$")
"""What an offset's plus becomes in a query string that nobody escaped."""


def required(body: Mapping[str, Any], field: str, *, bytes_max: int = ID_BYTES_MAX) -> str:
    """A text that must be there. Raises `InvalidEvent`."""
    return check_text(body.get(field, ""), field=field, bytes_max=bytes_max)


def optional(body: Mapping[str, Any], field: str, *, bytes_max: int = ID_BYTES_MAX) -> str | None:
    """A text, or None where it is missing, null or empty. Raises `InvalidEvent`."""
    value = body.get(field)
    if value is None or value == "":
        return None
    return check_text(value, field=field, bytes_max=bytes_max)


def described(body: Mapping[str, Any], field: str, *, characters_max: int = 4096) -> str | None:
    """A text with line ends and all, or None. Raises 422."""
    value = body.get(field)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > characters_max:
        raise HTTPException(422, f"{field}: is no text of at most {characters_max} characters")
    return value


def amount(body: Mapping[str, Any], *fields: str) -> Decimal | None:
    """The first of these fields that is there; None without. Raises `AgentMeterValidationError`."""
    for field in fields:
        value = body.get(field)
        if value is not None:
            return exact(value, field=field)
    return None


def needed_amount(body: Mapping[str, Any], field: str) -> Decimal:
    """An amount that must be there. Raises 422 and `AgentMeterValidationError`."""
    found = amount(body, field)
    if found is None:
        raise HTTPException(422, f"{field}: is missing; pass it")
    return found


def instant(value: object, field: str, zone: tzinfo = UTC) -> int | None:
    """An ISO time as microseconds; None where there is none. Raises 422 and `InvalidEvent`."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and len(value) <= 64:
        try:
            told = datetime.fromisoformat(_SPACE_FOR_PLUS.sub(r"+\1", value.strip()))
            aware = told if told.tzinfo is not None else told.replace(tzinfo=zone)
            return check_time((aware - _EPOCH) // timedelta(microseconds=1))
        except (ValueError, OverflowError):
            pass
    raise HTTPException(422, f"{field}: {str(value)[:64]!r} is no ISO 8601 time")


def shown(time: int) -> str:
    """A time for an answer, UTC."""
    return format_time(time, UTC)


def texts(value: object, field: str) -> dict[str, str]:
    """Metadata as texts: text as it is, anything else as JSON. Raises 422."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise HTTPException(422, f"{field}: is no JSON object; pass one")
    given = cast("dict[str, Any]", value)
    return {
        name: each if isinstance(each, str) else exact_text(each) for name, each in given.items()
    }
