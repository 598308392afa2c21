"""Can every version of a schema read what every other version wrote? Full transitive compatibility.

Rules of the Avro specification for schema resolution, read strictly: what could fail for some value
counts as failing.

- A record's fields match by name or by the reader's alias; a reader's field that the writer lacks
  needs a default; a writer's field that the reader lacks is skipped.
- An enum's reader must know every symbol of the writer, or have a default symbol.
- int widens to long, float and double, long to float and double, float to double; string and bytes
  read each other.
- Every branch of a writer's union must be readable by the reader; of a reader's union one branch
  must fit.
- Named types match by full name or by the reader's alias; a fixed also by size.

Beyond the specification, a logical type must not change: a time in micros read as millis is read
without an error, and wrong.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from meterstream_schemas.vetting import Json

_PROMOTIONS: Final = {
    ("int", "long"),
    ("int", "float"),
    ("int", "double"),
    ("long", "float"),
    ("long", "double"),
    ("float", "double"),
    ("string", "bytes"),
    ("bytes", "string"),
}
"""Writer's primitive and the wider one that reads it."""
_PRIMITIVES: Final = frozenset(
    ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
)
_NAMED: Final = frozenset(("record", "error", "enum", "fixed"))


class Problem(NamedTuple):
    """One thing that a reader could not read. ``path`` leads to it, such as ``MeterEvent.kind``."""

    path: str
    reason: str


class Mismatch(NamedTuple):
    """A pair of versions of which one cannot read the other."""

    reader: str
    writer: str
    problem: Problem


def mismatches(versions: Mapping[str, str]) -> list[Mismatch]:
    """Every problem between any two versions, both ways. Name -> Avro JSON."""
    return [
        Mismatch(reader, writer, problem)
        for reader in versions
        for writer in versions
        for problem in problems(reader=versions[reader], writer=versions[writer])
    ]


def problems(*, reader: str, writer: str) -> list[Problem]:
    """What ``reader`` could not read of data written with ``writer``; both are Avro JSON."""
    reading, writing = _Schema.parse(reader), _Schema.parse(writer)
    return list(_Resolution(reading, writing).compare(reading.root, writing.root, "", ""))


class _Type(NamedTuple):
    """A type with its full name when it has one, and the namespace that holds inside it."""

    kind: str
    node: Mapping[str, Json]
    name: str
    namespace: str


class _Schema:
    def __init__(self, root: Json) -> None:
        self.root = root
        self._named: dict[str, _Type] = {}
        self._define_all(root, "")

    @classmethod
    def parse(cls, text: str) -> _Schema:
        return cls(json.loads(text))

    def type_of(self, node: Json, namespace: str) -> _Type:
        """What a node stands for, references followed. Raises `ValueError` for no type at all."""
        if isinstance(node, list):
            return _Type("union", {"branches": node}, "", namespace)
        if isinstance(node, str):
            return self._referred(node, namespace)
        if not isinstance(node, dict):
            raise ValueError(f"{node!r} is no Avro type")  # noqa: TRY004 - of the document
        kind = node.get("type")
        if isinstance(kind, str) and kind in _NAMED:
            return self._named[_name_of(node, namespace)]
        if isinstance(kind, str) and (kind in _PRIMITIVES or kind in {"array", "map"}):
            return _Type(kind, node, "", namespace)
        return self.type_of(kind, namespace)

    def _referred(self, name: str, namespace: str) -> _Type:
        if name in _PRIMITIVES:
            return _Type(name, {}, "", namespace)
        found = self._named.get(_full(name, namespace)) or self._named.get(name)
        if found is None:
            raise ValueError(f"{name} is not defined")
        return found

    def _define_all(self, node: Json, namespace: str) -> None:
        """Keep every named type, wherever it stands."""
        if isinstance(node, list):
            for branch in node:
                self._define_all(branch, namespace)
        elif isinstance(node, dict):
            kind = node.get("type")
            if isinstance(kind, str) and kind in _NAMED:
                name = _name_of(node, namespace)
                namespace = name.rpartition(".")[0]
                self._named[name] = _Type(kind, node, name, namespace)
            for inner in ("items", "values", "type"):
                self._define_all(node.get(inner), namespace)
            fields = node.get("fields")
            for field in fields if isinstance(fields, list) else []:
                self._define_all(field, namespace)


class _Resolution:
    """One reader against one writer. Pairs of records that are being compared count as fitting."""

    def __init__(self, reader: _Schema, writer: _Schema) -> None:
        self._reader = reader
        self._writer = writer
        self._comparing: set[tuple[str, str]] = set()

    def compare(
        self,
        reader_node: Json,
        writer_node: Json,
        reader_space: str,
        writer_space: str,
        path: str = "",
    ) -> Iterable[Problem]:
        reader = self._reader.type_of(reader_node, reader_space)
        writer = self._writer.type_of(writer_node, writer_space)
        if writer.kind == "union":
            for branch in _branches(writer):
                yield from self.compare(
                    reader_node, branch, reader_space, writer.namespace, f"{path}|{_shown(branch)}"
                )
        elif reader.kind == "union":
            tried = [
                list(self.compare(branch, writer_node, reader.namespace, writer_space, path))
                for branch in _branches(reader)
            ]
            if all(tried):
                yield Problem(path, f"no branch of the reader reads {_shown(writer_node)}")
        elif reader.kind != writer.kind:
            if (writer.kind, reader.kind) not in _PROMOTIONS:
                yield Problem(path, f"{writer.kind} cannot be read as {reader.kind}")
            else:
                yield from _logical(reader, writer, path)
        else:
            yield from self._same_kind(reader, writer, path)

    def _same_kind(self, reader: _Type, writer: _Type, path: str) -> Iterable[Problem]:
        if reader.kind in _NAMED and not _same_name(reader, writer):
            yield Problem(path, f"{writer.name} cannot be read as {reader.name}")
            return
        match reader.kind:
            case "record" | "error":
                yield from self._record(reader, writer, path or reader.name)
            case "enum":
                yield from _enum(reader, writer, path)
            case "array" | "map":
                inner = "items" if reader.kind == "array" else "values"
                yield from self.compare(
                    reader.node[inner],
                    writer.node[inner],
                    reader.namespace,
                    writer.namespace,
                    f"{path}[]",
                )
            case "fixed" if reader.node.get("size") != writer.node.get("size"):
                yield Problem(path, "the sizes of the fixed differ")
            case _:
                pass
        yield from _logical(reader, writer, path)

    def _record(self, reader: _Type, writer: _Type, path: str) -> Iterable[Problem]:
        pair = (reader.name, writer.name)
        if pair in self._comparing:
            return
        self._comparing.add(pair)
        written = {str(field["name"]): field for field in _fields(writer)}
        for field in _fields(reader):
            name = str(field["name"])
            match = next((n for n in (name, *_aliases(field)) if n in written), None)
            if match is not None:
                yield from self.compare(
                    field["type"],
                    written[match]["type"],
                    reader.namespace,
                    writer.namespace,
                    f"{path}.{name}",
                )
            elif "default" not in field:
                yield Problem(f"{path}.{name}", "the writer lacks it and it has no default")
        self._comparing.discard(pair)


def _enum(reader: _Type, writer: _Type, path: str) -> Iterable[Problem]:
    known = _texts(reader.node.get("symbols"))
    unknown = [symbol for symbol in _texts(writer.node.get("symbols")) if symbol not in known]
    if unknown and reader.node.get("default") not in known:
        yield Problem(path, f"the reader knows no {', '.join(unknown)} and has no default symbol")


def _logical(reader: _Type, writer: _Type, path: str) -> Iterable[Problem]:
    read, written = reader.node.get("logicalType"), writer.node.get("logicalType")
    if read != written:
        yield Problem(path, f"logical type {written} would be read as {read}")


def _same_name(reader: _Type, writer: _Type) -> bool:
    aliases = {_full(alias, reader.namespace) for alias in _aliases(reader.node)}
    return writer.name in {reader.name, *aliases}


def _aliases(node: Mapping[str, Json]) -> list[str]:
    return _texts(node.get("aliases"))


def _texts(node: Json) -> list[str]:
    return [item for item in node if isinstance(item, str)] if isinstance(node, list) else []


def _fields(record: _Type) -> list[dict[str, Json]]:
    fields = record.node.get("fields")
    return [item for item in fields if isinstance(item, dict)] if isinstance(fields, list) else []


def _branches(union: _Type) -> list[Json]:
    branches = union.node["branches"]
    assert isinstance(branches, list)
    return branches


def _name_of(node: Mapping[str, Json], namespace: str) -> str:
    return _full(str(node.get("name")), str(node.get("namespace", namespace)))


def _full(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _shown(node: Json) -> str:
    if isinstance(node, dict):
        return str(node.get("name", node.get("type")))
    return str(node)
