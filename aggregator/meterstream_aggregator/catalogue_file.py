"""``meters.yaml`` to a `Catalogue`: the door. Every mistake gets file, line, field and remedy.

The file is YAML with the keys ``metering_since``, ``accept_from``, ``meters`` and ``thresholds``:
docs/examples has whole ones, `catalogue_forms` the fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from meterstream_aggregator.catalogue import Catalogue
from meterstream_aggregator.catalogue_forms import CatalogueForm
from meterstream_aggregator.errors import CatalogueError

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
    "bool_type": "is not true or false; write one of them",
}


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
        return CatalogueForm.model_validate(content).value()
    except ValidationError as problem:
        raise CatalogueError("; ".join(_sentences(problem, root, source))) from None


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
    if kind in {"enum", "literal_error"}:
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
