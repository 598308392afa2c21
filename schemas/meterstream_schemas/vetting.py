"""May a decoder be given this schema? What a registry holds is read before it is trusted.

Constraints: decoders here are native code without a bound of their own. What hurts them, and is
refused:

- recursion: each level of nesting in the data is a level of the machine's stack, and a few KB of
  bytes end the process;
- arrays of items that take no bytes (null, an empty record, a fixed of size 0): five bytes claim
  twenty million items;
- schemas that unfold: records that name each other twice per level describe 2^n fields in n lines;
- great size and depth, which cost memory before any data are seen.

Algorithm: walk the schema once. Each node yields its least size in bytes and the number of nodes it
unfolds to; a named type yields what its definition did. Names are compared by their last part, so a
reference that might be to a type around it is refused even where namespaces tell the two apart.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple, NoReturn, TypeAlias

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

SCHEMA_CHARACTERS_MAX: Final = 65_536
NODES_MAX: Final = 10_000
DEPTH_MAX: Final = 64

_PRIMITIVES: Final = {
    "null": 0,
    "boolean": 1,
    "int": 1,
    "long": 1,
    "float": 4,
    "double": 8,
    "bytes": 1,
    "string": 1,
}
"""Least bytes of a value."""


class HarmfulSchema(ValueError):
    """A schema that is not given to a decoder; the message says why."""


def is_harmless(text: str) -> bool:
    """Whether `vet` lets the schema pass."""
    try:
        vet(text)
    except HarmfulSchema:
        return False
    return True


def vet(text: str) -> None:
    """Read an Avro schema's JSON. Raises `HarmfulSchema`."""
    if len(text) > SCHEMA_CHARACTERS_MAX:
        _refuse(f"{len(text)} characters; at most {SCHEMA_CHARACTERS_MAX} are read")
    try:
        node: Json = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise HarmfulSchema(f"not JSON that can be read: {type(problem).__name__}") from problem
    _Walk().measure(node, depth=0)


class _Measure(NamedTuple):
    bytes_min: int
    nodes: int


class _Walk:
    def __init__(self) -> None:
        self._named: dict[str, _Measure] = {}
        self._open: set[str] = set()

    def measure(self, node: Json, *, depth: int) -> _Measure:
        if depth > DEPTH_MAX:
            _refuse(f"deeper than {DEPTH_MAX} levels")
        if isinstance(node, str):
            found = self._reference(node)
        elif isinstance(node, list):
            found = self._union(node, depth)
        elif isinstance(node, dict):
            found = self._declared(node, depth)
        else:
            _refuse(f"{node!r} is no type")
        if found.nodes > NODES_MAX:
            _refuse(f"it unfolds to more than {NODES_MAX} nodes")
        return found

    def _reference(self, name: str) -> _Measure:
        if name in _PRIMITIVES:
            return _Measure(_PRIMITIVES[name], 1)
        simple = _simple(name)
        if simple in self._open:
            _refuse(f"{name} contains itself")
        if simple not in self._named:
            _refuse(f"{name} is not defined before it is used")
        return self._named[simple]

    def _union(self, branches: list[Json], depth: int) -> _Measure:
        measures = [self.measure(branch, depth=depth + 1) for branch in branches]
        return _Measure(1, 1 + sum(measure.nodes for measure in measures))

    def _declared(self, node: dict[str, Json], depth: int) -> _Measure:
        kind = node.get("type")
        match kind:
            case "array":
                items = self.measure(node.get("items"), depth=depth + 1)
                if items.bytes_min == 0:
                    _refuse("an array of items that take no bytes")
                return _Measure(1, 1 + items.nodes)
            case "map":
                return _Measure(1, 1 + self.measure(node.get("values"), depth=depth + 1).nodes)
            case "record" | "error":
                return self._record(node, depth)
            case "enum":
                return self._name(node, _Measure(1, 1))
            case "fixed":
                size = node.get("size")
                if type(size) is not int or size < 0:
                    _refuse(f"a fixed of size {size!r}")
                return self._name(node, _Measure(size, 1))
            case _:
                return self.measure(kind, depth=depth + 1)

    def _record(self, node: dict[str, Json], depth: int) -> _Measure:
        simple = _simple(str(node.get("name")))
        if simple in self._open:
            _refuse(f"{simple} contains itself")
        fields = node.get("fields")
        if not isinstance(fields, list):
            _refuse(f"record {simple} has no list of fields")
        self._open.add(simple)
        measures: list[_Measure] = []
        for field in fields:
            if not isinstance(field, dict):
                _refuse(f"record {simple} has a field that is none")
            measures.append(self.measure(field.get("type"), depth=depth + 1))
        self._open.remove(simple)
        return self._name(
            node,
            _Measure(
                sum(measure.bytes_min for measure in measures),
                1 + sum(measure.nodes for measure in measures),
            ),
        )

    def _name(self, node: dict[str, Json], measure: _Measure) -> _Measure:
        """Keep the worst of what a name was ever defined as: names here carry no namespace."""
        simple = _simple(str(node.get("name")))
        known = self._named.get(simple, measure)
        self._named[simple] = _Measure(
            min(known.bytes_min, measure.bytes_min), max(known.nodes, measure.nodes)
        )
        return self._named[simple]


def _simple(name: str) -> str:
    return name.rpartition(".")[2]


def _refuse(why: str) -> NoReturn:
    raise HarmfulSchema(why)
