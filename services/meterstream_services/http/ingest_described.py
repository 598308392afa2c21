"""The description of ``POST /v1/events`` for the OpenAPI document, by hand.

The route reads its body itself, since no model can tell the formats apart at its rate; so nothing
describes them but this.
"""

from __future__ import annotations

from typing import Any, Final

from meterstream_schemas.events import ATTRIBUTES_MAX, ID_BYTES_MAX, TENANT_BYTES_MAX
from meterstream_services.http.ingest_native import KINDS
from meterstream_services.http.problems import documented

_EXAMPLE: Final[dict[str, Any]] = {
    "type": "api.request",
    "tenant": "acme",
    "quantity": 1,
    "time": "2026-11-21T10:00:00.250Z",
    "subject": "u42",
    "attributes": {"route": "/pay"},
    "key": "order-4711",
}
_TEXT: Final[dict[str, Any]] = {"type": ["string", "null"], "minLength": 1}
_AMOUNT: Final[dict[str, Any]] = {
    "anyOf": [{"type": "integer"}, {"type": "number"}, {"type": "string"}],
    "default": 1,
    "description": "Exact: an integer, a number, or decimal text. At most 18 decimal places.",
}
_TIME: Final[dict[str, Any]] = {
    "anyOf": [
        {"type": "string", "format": "date-time"},
        {"type": "integer", "minimum": 0},
        {"type": "null"},
    ],
    "description": "ISO 8601 with an offset, or microseconds since 1970 UTC. Unless given: now.",
}
_ATTRIBUTES: Final[dict[str, Any]] = {
    "type": ["object", "null"],
    "maxProperties": ATTRIBUTES_MAX,
    "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
    "description": "Numbers, true and false are kept as their exact text; null is left out.",
}
_KIND: Final[dict[str, Any]] = {"type": ["string", "null"], "enum": [*KINDS, None]}
_EVENT: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["type"],
    "additionalProperties": False,
    "properties": {
        "type": {"type": "string", "minLength": 1, "description": "What happened."},
        "tenant": {
            **_TEXT,
            "maxLength": TENANT_BYTES_MAX,
            "description": "Who used it. Unless given: the key's only tenant.",
        },
        "quantity": _AMOUNT,
        "time": _TIME,
        "session": {**_TEXT, "maxLength": ID_BYTES_MAX},
        "subject": {**_TEXT, "maxLength": ID_BYTES_MAX},
        "attributes": _ATTRIBUTES,
        "key": {
            **_TEXT,
            "maxLength": ID_BYTES_MAX,
            "description": "The idempotency key: the same key and content again is a duplicate.",
        },
        "kind": _KIND,
    },
    "example": _EXAMPLE,
}
_CLOUD_EXAMPLE: Final[dict[str, Any]] = {
    "specversion": "1.0",
    "type": "api.request",
    "source": "/checkout",
    "id": "4711",
    "time": "2026-11-21T10:00:00.250Z",
    "subject": "u42",
    "tenant": "acme",
    "data": {"route": "/pay"},
}
CLOUD_EVENT: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["specversion", "type", "source", "id"],
    "properties": {
        "specversion": {"type": "string", "const": "1.0"},
        "type": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1},
        "id": {"type": "string", "minLength": 1},
        "time": {"type": ["string", "null"], "format": "date-time"},
        "subject": _TEXT,
        "tenant": _TEXT,
        "quantity": _AMOUNT,
        "session": _TEXT,
        "kind": _KIND,
        "data": {"type": ["object", "null"]},
    },
    "example": _CLOUD_EXAMPLE,
}
_BATCH: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["events"],
    "additionalProperties": False,
    "properties": {"events": {"type": "array", "maxItems": 1000, "items": _EVENT}},
    "example": {"events": [_EXAMPLE]},
}
_ROW: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["status"],
    "properties": {
        "status": {
            "type": "string",
            "enum": ["accepted", "duplicate", "spooled", "refused", "conflict", "unavailable"],
        },
        "partition": {"type": "integer"},
        "offset": {"type": "integer"},
        "receipt": {"type": "string", "description": "The key under which it may be sent again."},
        "field": {"type": "string"},
        "reason": {"type": "string"},
    },
    "example": {"status": "accepted", "partition": 3, "offset": 1041},
}
_RESULTS: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["results", "accepted", "duplicates", "refused"],
    "properties": {
        "results": {"type": "array", "items": _ROW, "description": "In the order of the events."},
        "accepted": {"type": "integer"},
        "duplicates": {"type": "integer"},
        "refused": {"type": "integer", "description": "Refused, or in conflict."},
        "spooled": {"type": "integer"},
        "unavailable": {"type": "integer"},
    },
}

DESCRIBED: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": [_EVENT, _BATCH, {"type": "array", "items": _EVENT}]},
                "example": _EXAMPLE,
            },
            "application/x-ndjson": {
                "schema": {"type": "string", "description": "An event a line."},
                "example": '{"type": "api.request", "tenant": "acme"}\n',
            },
            "application/cloudevents+json": {"schema": CLOUD_EVENT},
            "application/cloudevents-batch+json": {
                "schema": {"type": "array", "maxItems": 1000, "items": CLOUD_EVENT}
            },
        },
    },
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "schema": {"type": "string", "minLength": 1, "maxLength": 240, "pattern": "^[!-~]+$"},
            "description": "The key of an event that has none; in a batch with `:` and the place.",
        },
        {
            "name": "Prefer",
            "in": "header",
            "schema": {"type": "string", "enum": ["respond-async"]},
            "description": "Answer when the spool has it, with a receipt.",
        },
    ],
}
"""What the route's operation has beside its responses."""

RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "A duplicate; or a batch, with what became of each of its events.",
        "content": {
            "application/json": {"schema": {"anyOf": [_ROW, _RESULTS]}},
            "application/x-ndjson": {
                "schema": {
                    "type": "string",
                    "example": '{"status":"accepted","partition":3,"offset":1041}\n',
                }
            },
        },
    },
    201: {
        "description": "The log has the event.",
        "content": {"application/json": {"schema": _ROW}},
    },
    202: {
        "description": "The spool has it, and the log will have it.",
        "content": {"application/json": {"schema": {"anyOf": [_ROW, _RESULTS]}}},
    },
    **documented(400, 403, 409, 413, 415, 422, 429, 503),
}
