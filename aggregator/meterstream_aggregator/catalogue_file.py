"""``meters.yaml`` to a `Catalogue`: the door, where every mistake gets file, line, field and remedy.

The file is YAML with the keys ``metering_since`` and ``meters``; see docs/examples for whole ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from meterstream_aggregator.catalogue import (
    DAY,
    HOUR,
    MINUTE,
    Aggregate,
    Catalogue,
    Meter,
    TimeoutBills,
)
from meterstream_aggregator.errors import CatalogueError

_UNITS: Final = {"s": 1_000_000, "m": MINUTE, "h": HOUR, "d": DAY}
_DURATION: Final = re.compile(r"([0-9]{1,6})(s|m|h|d)")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:/-]{0,127}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def load_catalogue(path: Path) -> Catalogue:
    """Read a catalogue file. Raises `CatalogueError` with one sentence per mistake."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise CatalogueError(f"{path}: there is no such catalogue file") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise CatalogueError(f"{path}: cannot be read as UTF-8 text: {problem}") from problem
    return parse_catalogue(text, source=str(path))


def parse_catalogue(text: str, *, source: str = "catalogue") -> Catalogue:
    """Parse the text of a catalogue; ``source`` names it in errors. Raises `CatalogueError`."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f"{source}:{mark.line + 1}" if mark else source
        detail = getattr(problem, "problem", None) or "unreadable"
        raise CatalogueError(
            f"{line}: not YAML ({detail}); mend the indentation or quote the text"
        ) from None
    if not isinstance(content, dict):
        raise CatalogueError(
            f"{source}: holds no mapping; begin with the keys metering_since and meters"
        )
    try:
        return _CatalogueFile.model_validate(content).value()
    except ValidationError as problem:
        raise CatalogueError("; ".join(_sentences(problem, root, source))) from None


def _duration(value: object) -> object:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return int(match[1]) * _UNITS[match[2]]
    raise ValueError("is not a duration; write a whole number and s, m, h or d, such as 15m")


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(
            "is not a name; begin with a letter, then letters, digits, _ . : / or -, at most 128"
        )
    return value


def _where(value: object) -> object:
    if isinstance(value, dict):
        return {name: [item] if isinstance(item, str) else item for name, item in value.items()}
    return value


_Duration = Annotated[int, BeforeValidator(_duration)]
_Name = Annotated[str, AfterValidator(_name)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Limits(_Strict):
    series_per_tenant: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000


class _MeterEntry(_Strict):
    name: _Name
    type: _Name | None = None
    aggregate: Aggregate
    value: str = "quantity"
    unit: str = ""
    group_by: list[str] = Field(default_factory=list, max_length=8)
    where: Annotated[dict[str, list[str]], BeforeValidator(_where)] = Field(default_factory=dict)
    window: _Duration = 15 * MINUTE
    grace: _Duration = DAY
    timeout: _Duration | None = None
    timeout_bills: TimeoutBills = TimeoutBills.LAST_SIGN
    limits: _Limits = Field(default_factory=_Limits)

    @model_validator(mode="after")
    def _fits_together(self) -> _MeterEntry:
        if not MINUTE <= self.window <= HOUR or HOUR % self.window or self.window % MINUTE:
            raise ValueError(
                "window: must divide one hour into whole minutes; write 1m, 5m, 15m or 1h"
            )
        if self.value != "quantity" and not self.value.removeprefix("attributes.").strip():
            raise ValueError("value: names no attribute; write quantity or attributes.NAME")
        if self.value != "quantity" and not self.value.startswith("attributes."):
            raise ValueError(
                f"value: {self.value!r} is not readable; write quantity or attributes.NAME"
            )
        if len(set(self.group_by)) != len(self.group_by):
            raise ValueError("group_by: names an attribute twice; name each once")
        if self.timeout is not None and self.aggregate is not Aggregate.SESSION:
            raise ValueError(
                "timeout: only session meters time out; remove it or use aggregate: session"
            )
        if self.aggregate is Aggregate.SESSION and self.value != "quantity":
            raise ValueError("value: a session meter measures seconds; remove it")
        return self

    def meter(self) -> Meter:
        return Meter(
            name=self.name,
            type=self.type or self.name,
            aggregate=self.aggregate,
            value=self.value,
            unit=self.unit or ("second" if self.aggregate is Aggregate.SESSION else ""),
            group_by=tuple(self.group_by),
            where=tuple(sorted((name, tuple(sorted(set(v)))) for name, v in self.where.items())),
            window=self.window,
            grace=self.grace,
            timeout=self.timeout,
            timeout_bills=self.timeout_bills,
            series_per_tenant=self.limits.series_per_tenant,
        )


class _CatalogueFile(_Strict):
    metering_since: AwareDatetime = _EPOCH
    meters: list[_MeterEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> _CatalogueFile:
        names = [entry.name for entry in self.meters]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise ValueError(f"meters: two meters are called {name!r}; rename one")
        if self.metering_since < _EPOCH:
            raise ValueError("metering_since: lies before 1970; write a later instant")
        return self

    def value(self) -> Catalogue:
        since = self.metering_since.astimezone(UTC) - _EPOCH
        microseconds = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
        return Catalogue(microseconds, tuple(entry.meter() for entry in self.meters))


def _sentences(problem: ValidationError, root: yaml.Node | None, source: str) -> list[str]:
    sentences: list[str] = []
    for error in problem.errors(include_url=False):
        path = [part for part in error["loc"] if part != "function-after"]
        field = ".".join(str(part) for part in path) or "catalogue"
        given = error.get("input")
        shown = f" {given!r:.60}" if isinstance(given, (str, int, float, bool)) else ""
        message = _remedy(error["type"], error["msg"].removeprefix("Value error, "))
        sentences.append(f"{source}:{_line(root, path)}: {field}{shown}: {message}")
    return sentences


def _remedy(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "is not a field here; remove it or mend its spelling"
    if kind == "missing":
        return "is missing; add it"
    if kind.startswith("timezone"):
        return "has no zone; write an instant such as 2026-01-01T00:00:00Z"
    return message[:1].lower() + message[1:]


def _line(root: yaml.Node | None, path: Sequence[Any]) -> int:
    """The line, from 1, of the deepest node along ``path`` that exists."""
    node, line = root, 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == part), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif (
            isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value)
        ):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
