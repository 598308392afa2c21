"""Where writer schemas come from: the bundled set, or the allowed subject of a schema registry.

A schema that a record names is never trusted for itself: only ids of the bundled set, or ids that
the registry holds under the one allowed subject, are readable; and a registry's schema must be free
of what can hurt a decoder (recursion, arrays of null, great size).
"""

from __future__ import annotations

import json
from typing import Any, Final, Protocol

from meterstream_schemas import codec
from meterstream_schemas.errors import SchemaUnavailable, UnknownSchema

SCHEMA_CHARACTERS_MAX: Final = 65_536
_KNOWN_MAX: Final = 1000


class WriterSchemas(Protocol):
    """Gives the schema that a record was written with."""

    def schema_text(self, schema_id: int) -> str:
        """The Avro JSON of an id. Raises `UnknownSchema`, or `SchemaUnavailable` to be waited out."""
        ...


class BundledSchemas:
    """The schemas that are released with this package, under their bundled ids."""

    def schema_text(self, schema_id: int) -> str:
        """The Avro JSON of a bundled id. Raises `UnknownSchema`."""
        if schema_id not in codec.BUNDLED_FILES:
            raise UnknownSchema(schema_id)
        return codec.bundled_text(schema_id)


class RegistrySchemas:
    """The schemas of one subject of a registry. Blocks on HTTP for an id not seen before."""

    def __init__(self, url: str, subject: str) -> None:
        # Imported here: the client needs the [registry] extra, which few installations have.
        from confluent_kafka.schema_registry import SchemaRegistryClient

        self._client = SchemaRegistryClient({"url": url, "timeout": 10})
        self._subject = subject
        self._known: dict[int, str | None] = {}

    def schema_text(self, schema_id: int) -> str:
        """The Avro JSON of an id of the subject. Raises `UnknownSchema`, `SchemaUnavailable`."""
        if schema_id not in self._known:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[schema_id] = self._ask(schema_id)
        text = self._known[schema_id]
        if text is None:
            raise UnknownSchema(schema_id)
        return text

    def id_for_writing(self) -> int:
        """Register the newest bundled schema under the subject, or find it there."""
        from confluent_kafka.schema_registry import Schema
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            return int(
                self._client.register_schema(
                    self._subject, Schema(codec.bundled_text(codec.LATEST_ID), "AVRO")
                )
            )
        except SchemaRegistryError as problem:
            raise SchemaUnavailable(f"subject {self._subject!r}: {problem}") from problem

    def _ask(self, schema_id: int) -> str | None:
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            schema = self._client.get_schema(schema_id, subject_name=self._subject)
            versions = self._client.get_schema_versions(schema_id)
        except SchemaRegistryError as problem:
            if problem.http_status_code == 404:
                return None
            raise SchemaUnavailable(f"schema id {schema_id}: {problem}") from problem
        except OSError as problem:
            raise SchemaUnavailable(f"schema id {schema_id}: {problem}") from problem
        if all(version.subject != self._subject for version in versions):
            return None
        text = schema.schema_str or ""
        return text if is_harmless(text) else None


def is_harmless(text: str) -> bool:
    """May a decoder be given this schema? No recursion, no arrays of null, no great size."""
    if len(text) > SCHEMA_CHARACTERS_MAX:
        return False
    try:
        return _harmless(json.loads(text), set())
    except (ValueError, RecursionError):
        return False


def _harmless(node: Any, inside: set[str]) -> bool:
    if isinstance(node, list):
        return all(_harmless(branch, inside) for branch in node)
    if isinstance(node, str):
        return node not in inside
    if not isinstance(node, dict):
        return False
    kind = node.get("type")
    if kind == "array":
        return node.get("items") != "null" and _harmless(node.get("items"), inside)
    if kind == "map":
        return _harmless(node.get("values"), inside)
    if kind == "record":
        names = inside | {str(node.get("name")), f"{node.get('namespace', '')}.{node.get('name')}"}
        return all(_harmless(field.get("type"), names) for field in node.get("fields", []))
    return isinstance(kind, str) or _harmless(kind, inside)
