"""A file of cases: what each says, read exactly.

The shape is that of ``cases.json`` as described beside it: a list of objects with ``name``,
``meter``, ``events`` in arrival order, ``query`` and ``expected``. Decimals keep every digit that
the file has; what a case says beyond the fields here is ignored, since cases of other systems carry
notes of their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from meterstream_aggregator.civil import parse_time
from meterstream_services.conformance.errors import CasesUnreadable
from meterstream_services.zones import find_zone

BYTES_MAX: Final = 64 * 1024 * 1024


def _instant(value: object) -> object:
    return parse_time(value, find_zone("UTC")) if isinstance(value, str) else value


def _text(value: object) -> object:
    """What an attribute is as text: numbers as they were written, null as nothing."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, Decimal)):
        return f"{value:f}" if isinstance(value, Decimal) else str(value)
    return value


Instant: TypeAlias = Annotated[int, BeforeValidator(_instant)]
"""Microseconds UTC, written as ISO 8601."""
Scalar: TypeAlias = Annotated[str | None, BeforeValidator(_text)]
Number: TypeAlias = Annotated[Decimal | None, BeforeValidator(_text)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class SessionRule(_Part):
    """Which property holds a session's id, and which values mark its boundaries."""

    key: str = "session"
    start: str = "start"
    end: str = "end"
    max_seconds: int | None = None


class CaseMeter(_Part):
    """What the peer's meter does."""

    aggregation: str
    value_property: str | None = None
    group_by: tuple[str, ...] = ()
    filters: Mapping[str, Any] = Field(default_factory=dict[str, Any])
    timezone: str | None = None
    bucket: str | None = None
    bucket_group_by: tuple[str, ...] = ()
    session: SessionRule | None = None
    billing_anchor: Instant | None = None
    billing_months: int = 1
    billing_cycle_day: int | None = None
    dedup: str | None = None
    dedup_key: tuple[str, ...] = ("id",)
    empty_as_zero: bool = False
    initial_value: Number = None
    grace_seconds: int | None = None
    watermark: Instant | None = None


class CaseEvent(BaseModel):
    """One event; fields beyond the named ones are properties too."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: Annotated[str, BeforeValidator(_text)]
    tenant: str
    time: Instant
    value: Scalar = None
    properties: Mapping[str, Scalar] | None = None
    received: Instant | None = None

    @property
    def attributes(self) -> dict[str, str]:
        """Properties and further fields that have a value."""
        further = {name: _text(value) for name, value in (self.model_extra or {}).items()}
        found = further | dict(self.properties or {})
        return {name: value for name, value in found.items() if isinstance(value, str)}


class Filters(_Part):
    """Values to keep by attribute, and combinations that are left out."""

    include: Mapping[str, tuple[Scalar, ...]] = Field(default_factory=dict[str, tuple[Scalar, ...]])
    exclude: tuple[Mapping[str, tuple[Scalar, ...]], ...] = ()


class Amendment(_Part):
    """What an event is to be in place of what it was."""

    id: Annotated[str, BeforeValidator(_text)]
    time: Instant
    value: Scalar = None


class CaseQuery(_Part):
    """What is asked."""

    start: Instant = Field(alias="from")
    end: Instant = Field(alias="to")
    window: str | None = None
    timezone: str | None = None
    group_by: tuple[str, ...] = ()
    filters: Filters = Filters()
    now: Instant | None = None
    amends: tuple[Amendment, ...] = ()


class ExpectedRow(_Part):
    """One row of the answer; what it does not say is not compared."""

    value: Number = None
    start: Instant | None = Field(default=None, alias="from")
    end: Instant | None = Field(default=None, alias="to")
    group: Mapping[str, str | None] = Field(default_factory=dict[str, str | None])
    events_count: int | None = None
    rounding_function: str | None = None
    precision: int | None = None
    id: str | None = None
    late: bool | None = None

    @property
    def says_value(self) -> bool:
        """Whether the row says what the value is, null included."""
        return "value" in self.model_fields_set


class Case(_Part):
    """One case."""

    name: str
    kind: str = Field(default="", alias="class")
    meter: CaseMeter
    events: tuple[CaseEvent, ...] = ()
    query: CaseQuery
    expected: tuple[ExpectedRow, ...]
    tolerance: Number = None
    recommended: tuple[ExpectedRow, ...] | None = None
    open_sessions: tuple[str, ...] | None = None

    @property
    def wanted(self) -> tuple[ExpectedRow, ...]:
        """The answer to give: what is recommended where the peer's own is a quirk."""
        return self.recommended if self.recommended is not None else self.expected


def read_cases(path: Path) -> list[Case]:
    """The cases of a file. Raises `CasesUnreadable`, which names the case and the field."""
    try:
        if path.stat().st_size > BYTES_MAX:
            raise CasesUnreadable(f"{path}: is larger than {BYTES_MAX} bytes; split it")
        content = json.loads(path.read_text("utf-8"), parse_float=Decimal)
    except OSError as problem:
        raise CasesUnreadable(f"{path}: cannot be read: {problem.strerror}") from problem
    except (UnicodeDecodeError, ValueError, RecursionError) as problem:
        raise CasesUnreadable(f"{path}: is not JSON: {problem}") from problem
    try:
        return TypeAdapter(list[Case]).validate_python(content)
    except ValidationError as problem:
        error = problem.errors(include_url=False)[0]
        at = ".".join(str(part) for part in error["loc"])
        raise CasesUnreadable(
            f"{path}: {at or 'the file'}: {error['msg']}; see the shape in the guide"
        ) from None
