"""Which cells of a row become which fields of an event: ``COL`` or ``=constant`` for each.

`check_mapping` checks the options before a file is opened, `bind` against the file's columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from meterstream_schemas import checks
from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import (
    ATTRIBUTE_NAME_BYTES_MAX,
    ID_BYTES_MAX,
    TENANT_BYTES_MAX,
    TYPE_BYTES_MAX,
)
from meterstream_schemas.quantity import parse_amount
from meterstream_services.importer.errors import MappingError, RowRefused
from meterstream_services.importer.identity import RowIdentity
from meterstream_services.importer.reading import Cell, Cells, Row, RowFile
from meterstream_services.importer.times import parse_time

if TYPE_CHECKING:
    from datetime import tzinfo

START_SUFFIX: Final = "/start"
END_SUFFIX: Final = "/end"


class Source(NamedTuple):
    """Where a field comes from: a column, or a constant for every row. One of them is None."""

    column: str | None
    constant: str | None

    @classmethod
    def parse(cls, text: str) -> Source:
        """``=text`` is a constant, anything else a column's name."""
        return cls(None, text[1:]) if text.startswith("=") else cls(text, None)

    @property
    def shown(self) -> str:
        """The column as the person at the terminal wrote it."""
        return self.column if self.column is not None else f"={self.constant}"


@dataclass(frozen=True, slots=True)
class Mapping:
    """What the options of ``meterstream import`` say. Build it with `check_mapping`."""

    type: str
    tenant: Source
    time: Source | None
    quantity: Source
    session: Source | None
    start: Source | None
    end: Source | None
    subject: Source | None
    attributes: tuple[tuple[str, Source], ...]
    key: Source | None
    zone: tzinfo
    source: str = ""


class Usage(NamedTuple):
    """A row as one usage event. ``time`` is microseconds UTC, ``quantity`` decimal text."""

    tenant: str
    time: int
    quantity: str
    subject: str | None
    attributes: dict[str, str]
    key: str
    quantity_was_empty: bool


class SessionSpan(NamedTuple):
    """A row as the boundaries of one session; ``end`` is None for a session that still runs."""

    tenant: str
    session: str
    start: int
    end: int | None
    subject: str | None
    attributes: dict[str, str]
    key: str


Plan = Callable[[Row], "Usage | SessionSpan"]
"""Turns a row into what is to be recorded. Raises `RowRefused`."""


def check_mapping(
    *,
    event_type: str,
    tenant: str,
    time: str | None = None,
    quantity: str | None = None,
    session: str | None = None,
    start: str | None = None,
    end: str | None = None,
    subject: str | None = None,
    attributes: Sequence[str] = (),
    key: str | None = None,
    zone: tzinfo,
    source: str = "",
) -> Mapping:
    """Options to a `Mapping`. Raises `MappingError` that names the option and the remedy."""
    _check_shape(time=time, session=session, start=start, end=end, quantity=quantity)
    mapping = Mapping(
        type=event_type,
        tenant=Source.parse(tenant),
        time=_source(time),
        quantity=Source.parse(quantity if quantity is not None else "=1"),
        session=_source(session),
        start=_source(start),
        end=_source(end),
        subject=_source(subject),
        attributes=tuple(_attributes(attributes)),
        key=_source(key),
        zone=zone,
        source=source,
    )
    _check_constants(mapping)
    return mapping


def bind(mapping: Mapping, rows: RowFile) -> Plan:
    """The plan for one reading of a file: identities count from the first row again.

    Raises `MappingError` when the file lacks a column.
    """
    common = _Common(mapping, rows)
    return (
        _usage_plan(mapping, rows, common)
        if mapping.session is None
        else _span_plan(mapping, rows, common)
    )


class _Common:
    """What usage and sessions read alike."""

    def __init__(self, mapping: Mapping, rows: RowFile) -> None:
        self._identity = RowIdentity(mapping.type, source=mapping.source)
        self._key = _required(mapping.key, rows, "key") if mapping.key else None
        self._attributes = [(name, _optional(source, rows)) for name, source in mapping.attributes]
        self.tenant = _required(mapping.tenant, rows, "tenant")
        self.subject = _optional(mapping.subject, rows)

    def measures(self, cells: Cells) -> dict[str, str]:
        """The attributes that the row has."""
        return {name: text for name, cell in self._attributes if (text := cell(cells)) is not None}

    def key_of(self, row: Row) -> str:
        """The row's caller key. Raises the row's own problem, if it has one."""
        # A derived key is taken for every row, refused ones too: it counts the occurrences.
        key = self._key(row.cells) if self._key else self._identity.key(row.content)
        if row.problem:
            raise row.problem
        return key


def _usage_plan(mapping: Mapping, rows: RowFile, common: _Common) -> Plan:
    time = _required(mapping.time, rows, "time")
    quantity = _optional(mapping.quantity, rows)

    def usage(row: Row) -> Usage:
        key = common.key_of(row)
        cells = row.cells
        amount = (quantity(cells) or "").strip()
        return Usage(
            common.tenant(cells),
            _time(time(cells), mapping.time, mapping.zone),
            amount or "0",
            common.subject(cells),
            common.measures(cells),
            key,
            not amount,
        )

    return usage


def _span_plan(mapping: Mapping, rows: RowFile, common: _Common) -> Plan:
    session = _required(mapping.session, rows, "session")
    start = _required(mapping.start, rows, "start")
    end = _optional(mapping.end, rows)

    def span(row: Row) -> SessionSpan:
        key = common.key_of(row)
        cells = row.cells
        begun = _time(start(cells), mapping.start, mapping.zone)
        text = end(cells)
        ended = None if text is None else _time(text, mapping.end, mapping.zone)
        if ended is not None and ended < begun:
            raise RowRefused(_shown(mapping.end), text or "", "the session ends before it starts")
        return SessionSpan(
            common.tenant(cells),
            session(cells),
            begun,
            ended,
            common.subject(cells),
            common.measures(cells),
            key,
        )

    return span


def source_of(mapping: Mapping, field: str) -> Source | None:
    """What a field that a check names, such as ``attributes.bytes``, is made from."""
    if field.startswith("attributes."):
        name = field.removeprefix("attributes.")
        return next((source for known, source in mapping.attributes if known == name), None)
    if field == "time" and mapping.time is None:
        return mapping.start
    source = getattr(mapping, field, None)
    return source if isinstance(source, Source) else None


def _check_shape(
    *,
    time: str | None,
    session: str | None,
    start: str | None,
    end: str | None,
    quantity: str | None,
) -> None:
    if session is None:
        if start is not None or end is not None:
            raise MappingError("--start and --end belong to sessions; add --session COL")
        if time is None:
            raise MappingError("--time is missing; name the column that holds the event's time")
        return
    if start is None or end is None:
        missing = "--start" if start is None else "--end"
        raise MappingError(f"--session needs {missing}; name the column of that boundary's time")
    if time is not None:
        raise MappingError("--time does not go with --session; sessions take --start and --end")
    if quantity is not None:
        raise MappingError("--quantity does not go with --session; a session measures its seconds")


def _check_constants(mapping: Mapping) -> None:
    try:
        checks.check_text(mapping.type, field="--type", bytes_max=TYPE_BYTES_MAX)
        if mapping.tenant.constant is not None:
            checks.check_text(mapping.tenant.constant, field="--tenant", bytes_max=TENANT_BYTES_MAX)
        if mapping.quantity.constant is not None:
            parse_amount(mapping.quantity.constant, field="--quantity")
        constants = {
            name: source.constant
            for name, source in mapping.attributes
            if source.constant is not None
        }
        checks.check_attributes({name: "" for name, _ in mapping.attributes} | constants)
        if mapping.subject and mapping.subject.constant is not None:
            checks.check_text(mapping.subject.constant, field="--subject", bytes_max=ID_BYTES_MAX)
    except InvalidEvent as problem:
        raise MappingError(str(problem)) from problem
    for option, source in (("--key", mapping.key), ("--session", mapping.session)):
        if source and source.constant is not None:
            raise MappingError(
                f"{option} {source.shown}: a constant would make all rows the same; name a column"
            )
    for option, source in (("--time", mapping.time), ("--start", mapping.start)):
        if source and source.constant is not None:
            try:
                parse_time(source.constant, mapping.zone)
            except ValueError as problem:
                raise MappingError(f"{option} {source.shown}: {problem}") from problem


def _attributes(options: Iterable[str]) -> Iterable[tuple[str, Source]]:
    names: set[str] = set()
    for option in options:
        name, equals, source = option.partition("=")
        if not equals or not name or not source:
            raise MappingError(
                f"--attribute {option}: write NAME=COLUMN, or NAME==text for one text in every row"
            )
        if name in names:
            raise MappingError(f"--attribute {option}: {name!r} is given twice; give it once")
        if len(name.encode()) > ATTRIBUTE_NAME_BYTES_MAX:
            raise MappingError(
                f"--attribute {name[:40]}…: a name holds at most {ATTRIBUTE_NAME_BYTES_MAX} bytes"
            )
        names.add(name)
        yield name, Source.parse(source)


def _source(text: str | None) -> Source | None:
    return None if text is None else Source.parse(text)


def _optional(source: Source | None, rows: RowFile) -> Cell:
    if source is None:
        return lambda _: None
    if source.column is None:
        constant = source.constant or None
        return lambda _: constant
    return rows.cell(source.column)


def _required(source: Source | None, rows: RowFile, what: str) -> Callable[[Cells], str]:
    cell = _optional(source, rows)
    shown = _shown(source)

    def required(cells: Cells) -> str:
        text = cell(cells)
        if text is None:
            raise RowRefused(shown, "", f"is empty; every row needs a {what}")
        return text

    return required


def _time(text: str, source: Source | None, zone: tzinfo) -> int:
    try:
        return parse_time(text, zone)
    except ValueError as problem:
        raise RowRefused(_shown(source), text[:80], str(problem)) from problem


def _shown(source: Source | None) -> str:
    return source.shown if source else ""
