"""Where writer schemas come from: the bundled set, or the allowed subject of a schema registry.

A schema that a record names is never trusted for itself: only ids of the bundled set, or ids that
the registry holds under the one allowed subject, are readable; and a registry's schema must pass
`meterstream_schemas.vetting`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from meterstream_schemas.bundled import BUNDLED_FILES, LATEST_ID, bundled_text
from meterstream_schemas.errors import SchemaUnavailable, UnknownSchema
from meterstream_schemas.vetting import SCHEMA_CHARACTERS_MAX, is_harmless

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

__all__ = [
    "SCHEMA_CHARACTERS_MAX",
    "BundledSchemas",
    "RegistrySchemas",
    "WriterSchemas",
    "is_harmless",
]

_Answer = TypeVar("_Answer")
_Value = TypeVar("_Value")

KNOWN_MAX: Final = 1_000
"""Ids remembered, known and unknown each."""
UNKNOWN_SECONDS: Final = 30.0
"""How long an id that the registry does not know is not asked for again."""
_TIMEOUT_SECONDS: Final = 5
_NOT_FOUND: Final = 404


class WriterSchemas(Protocol):
    """Gives the schema that a record was written with."""

    def schema_text(self, schema_id: int) -> str:
        """The Avro JSON of an id. Raises `UnknownSchema`, or `SchemaUnavailable`: then wait."""
        ...


class BundledSchemas:
    """The schemas that are released with this package, under their bundled ids."""

    def schema_text(self, schema_id: int) -> str:
        """The Avro JSON of a bundled id. Raises `UnknownSchema`."""
        if schema_id not in BUNDLED_FILES:
            raise UnknownSchema(schema_id)
        return bundled_text(schema_id)


class RegistrySchemas:
    """The schemas of one subject of a registry. For one thread; blocks on HTTP for a new id.

    ``url`` may hold several addresses, separated by commas, and ``user:password@``. Needs the
    extra ``registry``.
    """

    def __init__(
        self, url: str, subject: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url: Final = url
        self._subject: Final = subject
        self._clock: Final = clock
        self._known: Final[dict[int, str]] = {}
        self._unknown_until: Final[dict[int, float]] = {}
        self._client: SchemaRegistryClient | None = None

    def schema_text(self, schema_id: int) -> str:
        """The Avro JSON of an id of the subject. Raises `UnknownSchema`, `SchemaUnavailable`."""
        known = self._known.get(schema_id)
        if known is not None:
            return known
        if self._unknown_until.get(schema_id, 0.0) > self._clock():
            raise UnknownSchema(schema_id)
        text = self._ask(schema_id)
        if text is None:
            _make_room(self._unknown_until)
            self._unknown_until[schema_id] = self._clock() + UNKNOWN_SECONDS
            raise UnknownSchema(schema_id)
        _make_room(self._known)
        self._known[schema_id] = text
        return text

    def load_client(self) -> None:
        """Import the registry's client, which happens at the first question otherwise.

        Raises `SchemaUnavailable` when it is not installed or the URL is none.
        """
        self._open()

    def id_for_writing(self) -> int:
        """The id of the newest bundled schema under the subject; registers it where it is missing.

        Raises `SchemaUnavailable`, also when the registry refuses the schema as incompatible.
        """
        client = self._open()
        schema = _schema(bundled_text(LATEST_ID))
        found = self._call(lambda: client.lookup_schema(self._subject, schema).schema_id)
        if found is None:
            found = self._call(lambda: client.register_schema(self._subject, schema))
        if found is None:
            raise SchemaUnavailable(
                f"schema registry {self._shown_url()}: there is no subject {self._subject!r} and "
                "none can be made; register the schema there, or unset METERSTREAM_REGISTRY_URL"
            )
        return found

    def _ask(self, schema_id: int) -> str | None:
        """The text of an id; None for an id that must not be read."""
        client = self._open()
        versions = self._call(lambda: client.get_schema_versions(schema_id))
        if not versions or all(version.subject != self._subject for version in versions):
            return None
        schema = self._call(lambda: client.get_schema(schema_id, subject_name=self._subject))
        if schema is None or schema.schema_type not in {None, "AVRO"} or schema.references:
            return None
        text = schema.schema_str or ""
        return text if is_harmless(text) else None

    def _open(self) -> SchemaRegistryClient:
        if self._client is None:
            # Imported here: the client needs the [registry] extra, which few installations have.
            try:
                from confluent_kafka.schema_registry import (  # noqa: PLC0415
                    SchemaRegistryClient,
                )
            except ImportError as problem:
                raise SchemaUnavailable(
                    f"the registry's client is not installed ({problem}); "
                    "run pip install 'meterstream[registry]'"
                ) from problem
            try:
                self._client = SchemaRegistryClient(
                    {"url": self._url, "timeout": _TIMEOUT_SECONDS, "max.retries": 1}
                )
            except (ValueError, TypeError) as problem:
                raise SchemaUnavailable(
                    f"schema registry {self._shown_url()}: {problem}; correct the URL"
                ) from problem
        return self._client

    def _call(self, call: Callable[[], _Answer]) -> _Answer | None:
        """What the registry answers; None for "not found". Raises `SchemaUnavailable`."""
        from confluent_kafka.schema_registry.error import (  # noqa: PLC0415 - see _open
            SchemaRegistryError,
        )

        try:
            return call()
        except SchemaRegistryError as problem:
            if problem.http_status_code == _NOT_FOUND:
                return None
            raise self._unavailable(problem) from problem
        except Exception as problem:
            # The client lets out what its HTTP library raises, and which library that is differs
            # between installations; an answer that is not a registry's raises anything at all.
            raise self._unavailable(problem) from problem

    def _unavailable(self, problem: Exception) -> SchemaUnavailable:
        return SchemaUnavailable(
            f"schema registry {self._shown_url()}: {type(problem).__name__}: {problem}"[:300]
        )

    def _shown_url(self) -> str:
        """The URL without user and password."""
        return ",".join(
            f"{scheme}{mark}{rest.rpartition('@')[2]}"
            for scheme, mark, rest in (part.partition("://") for part in self._url.split(","))
        )


def _schema(text: str) -> Schema:
    from confluent_kafka.schema_registry import Schema  # noqa: PLC0415 - see RegistrySchemas._open

    return Schema.from_dict({"schema": text, "schemaType": "AVRO"})


def _make_room(remembered: dict[int, _Value]) -> None:
    """Forget the oldest half when full."""
    if len(remembered) >= KNOWN_MAX:
        for schema_id in list(remembered)[: KNOWN_MAX // 2]:
            del remembered[schema_id]
