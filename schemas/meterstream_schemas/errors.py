"""Errors of this package, by what the reader of a record must do.

::

    SchemaError (ValueError)
    ├── InvalidEvent        refuse it at the door; dead-letter it in the worker
    │   └── InvalidQuantity
    ├── UndecodableRecord   dead-letter it: these bytes are not an event
    ├── UnknownSchema       dead-letter it: the id is neither bundled nor the registry's
    ├── SchemaUnavailable   wait and try again: the registry did not answer
    └── SettingRefused      stop: the operator takes a variable out, or mends it
"""

from __future__ import annotations


class SchemaError(ValueError):
    """Base of this package's errors."""


class InvalidEvent(SchemaError):
    """A field of an event is not acceptable. ``field`` names it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class InvalidQuantity(InvalidEvent):
    """An amount that cannot be kept exactly."""


class UndecodableRecord(SchemaError):
    """Bytes that are not one whole Avro event."""


class UnknownSchema(SchemaError):
    """A schema id that no allowed writer uses."""

    def __init__(self, schema_id: int) -> None:
        super().__init__(
            f"schema id {schema_id} is neither bundled nor registered for the allowed subject"
        )
        self.schema_id = schema_id


class SchemaUnavailable(SchemaError):
    """The schema registry did not answer; nothing is known about the id yet."""


class SettingRefused(SchemaError):
    """An environment variable for Kafka's client that is not passed on. ``variable`` names it."""

    def __init__(self, variable: str, problem: str) -> None:
        super().__init__(f"{variable}: {problem}")
        self.variable = variable
