"""``meters.yaml`` to a `Catalogue`: the door. Every mistake gets file, line, field and remedy.

The file is YAML with the keys ``metering_since`` and ``meters``; see docs/examples for whole ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
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
_FIELD: Final = re.compile(r"([a-z_]+(?:\.[a-z0-9_]+)*): ")
"""What a message of a whole entry begins with when it is about one of its fields."""
_REMEDIES: Final = {
    "extra_forbidden": "is not a field here; remove it or mend its spelling",
    "missing": "is missing; add it",
    "string_type": "is not text; put it in quotes",
    "list_type": "is not a list; write one such as [a, b]",
    "dict_type": "is not a mapping; write one such as {name: [value]}",
    "model_type": "is not a mapping; write its fields as name: value",
    "too_short": "is empty; name at least one",
    "invalid_key": "is not text; put it in quotes",
}
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
    root = None
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
    except ValueError as problem:
        raise CatalogueError(
            f"{source}:{_line_of_no_date(root)}: a date is none ({problem}); "
            "write an instant such as 2026-01-01T00:00:00Z"
        ) from None
    if not isinstance(content, dict):
        raise CatalogueError(
            f"{source}: holds no mapping; begin with the keys metering_since and meters"
        )
    if (key := _repeated_key(root)) is not None:
        line = f"{source}:{key.start_mark.line + 1}"
        raise CatalogueError(f"{line}: {key.value}: stands twice in one mapping; remove one")
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
        if self.timeout == 0:
            raise ValueError("timeout: nothing lives for no time; write a duration such as 30m")
        if self.timeout is None and self.timeout_bills is not TimeoutBills.LAST_SIGN:
            raise ValueError("timeout_bills: there is no timeout that it could bill; add one")
        for name, values in self.where.items():
            if not values:
                raise ValueError(f"where: {name!r} allows no value; name one, or remove it")
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
                raise ValueError(f"meters.{index}.name: two meters are called {name!r}; rename one")
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
        path: list[int | str] = list(error["loc"])
        message = _remedy(error["type"], error["msg"].removeprefix("Value error, "), error)
        if within := _FIELD.match(message):
            path.extend(int(part) if part.isdigit() else part for part in within[1].split("."))
            message = message[within.end() :]
        field = ".".join(str(part) for part in path) or "catalogue"
        given = error.get("input")
        shown = f" {given!r:.60}" if isinstance(given, (str, int, float, bool)) else ""
        sentences.append(f"{source}:{_line(root, path)}: {field}{shown}: {message}")
    return sentences


def _remedy(kind: str, message: str, error: Mapping[str, Any]) -> str:
    if kind == "enum":
        return f"is not known; write {error['ctx']['expected']}"
    if kind.startswith(("timezone", "datetime")):
        return "is not an instant with a zone; write one such as 2026-01-01T00:00:00Z"
    return _REMEDIES.get(kind, message[:1].lower() + message[1:])


def _repeated_key(root: yaml.Node | None) -> yaml.ScalarNode | None:
    """A key that a mapping holds twice: YAML would silently keep the last."""
    for node in _nodes(root):
        if isinstance(node, yaml.MappingNode):
            known = set[str]()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in known:
                        return key
                    known.add(key.value)
    return None


def _line_of_no_date(root: yaml.Node | None) -> int:
    """The line of a text that looks like a date and is none: PyYAML does not say where."""
    for node in _nodes(root):
        if isinstance(node, yaml.ScalarNode) and node.tag.endswith(":timestamp"):
            try:
                yaml.safe_load(node.value)
            except ValueError:
                return node.start_mark.line + 1
    return 1


def _nodes(root: yaml.Node | None) -> Iterator[yaml.Node]:
    """Every node once, aliases included."""
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            waiting.extend(value for _, value in node.value)


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
