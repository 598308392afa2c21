"""From the body of ``POST /v1/events/ingest`` to offers: every event for itself. Pure but for keys.

Both spellings of the names are read: the Python SDK sends ``customer_ref``, the others
``customerRef``. What an event means, its key where it has none included, is decided where the SDK
of this project decides it: `meterstream.compat.stripemeter_events`. The vendor's own limits are
kept, so that whoever passes here passes there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple, cast

from meterstream.compat.stripemeter_events import TYPE, event_of
from meterstream.compat.stripemeter_values import StripeMeterError
from meterstream_services.clients.metadata import as_id, readable
from meterstream_services.clients.stripemeter.customers import REFERENCE, subject_of, tenant_of
from meterstream_services.gateway.port import Offer

EVENTS_MAX: Final = 1_000
METRIC_MAX: Final = 100
CUSTOMER_MAX: Final = 255
ACCOUNT_MAX: Final = 255
META_BYTES_MAX: Final = 4_096
HEADER_MAX: Final = 200
FUTURE_MAX: Final = 3_600 * 1_000_000
SOURCES: Final = frozenset({"sdk", "http", "etl", "import", "system"})
_NAMES: Final = {
    "metric": ("metric",),
    "customer_ref": ("customerRef", "customer_ref"),
    "quantity": ("quantity",),
    "resource_id": ("resourceId", "resource_id"),
    "ts": ("ts",),
    "meta": ("meta",),
    "idempotency_key": ("idempotencyKey", "idempotency_key"),
}


class Told(NamedTuple):
    """What a body says about one event: an offer, or why it is none.

    ``is_safe``: a repetition of the request has the same key.
    """

    key: str
    offer: Offer | None
    problem: str = ""
    is_safe: bool = True


class InvalidBatch(ValueError):
    """The body is no list of events at all."""


def read_batch(body: object, *, now: int, header: str | None = None) -> list[Told]:
    """Every event of a body in its order. Raises `InvalidBatch`.

    ``header`` is the request's ``Idempotency-Key``: an event without a key of its own has it, and
    its place behind it. (The vendor gives all of them the same, so that one is left of them.)
    """
    listed: list[Any] | None = None
    if isinstance(body, dict):
        listed = cast("dict[str, Any]", body).get("events")
    if not isinstance(listed, list) or not listed:
        raise InvalidBatch('send {"events": [...]} with at least one event')
    if len(listed) > EVENTS_MAX:
        raise InvalidBatch(f"there are {len(listed)} events; send at most {EVENTS_MAX} at once")
    if header is not None and (not 0 < len(header) <= HEADER_MAX or not header.isprintable()):
        raise InvalidBatch(f"Idempotency-Key is empty or longer than {HEADER_MAX} characters")
    return [
        _read(each, now, None if header is None else f"{header}:{place}")
        for place, each in enumerate(listed)
    ]


def first_of(told: Mapping[str, Any], *names: str) -> Any:  # noqa: ANN401 - whatever was sent
    """The value under the first of these names that is there; None is not."""
    return next((told[name] for name in names if told.get(name) is not None), None)


def _read(event: object, now: int, from_header: str | None) -> Told:
    if not isinstance(event, dict):
        return Told("", None, "an event is a JSON object")
    sent = cast("dict[str, Any]", event)
    told = {name: first_of(sent, *spelt) for name, spelt in _NAMES.items()}
    key = told["idempotency_key"]
    shown = key[:255] if isinstance(key, str) else ""
    if key is None and from_header is not None:
        told["idempotency_key"] = shown = from_header
    account = first_of(sent, "tenantId", "tenant_id")
    problem = _problem(account, told, sent.get("source"))
    if problem:
        return Told(shown, None, problem)
    told["meta"] = readable(told["meta"])
    try:
        made = event_of(cast("str", account), told)
    except StripeMeterError as mistake:
        return Told(shown, None, mistake.message)
    if made.time_given and made.time - now > FUTURE_MAX:
        return Told(made.key, None, "ts: is more than an hour in the future; mend the clock")
    # Without a time of its own it has the door's, which is remembered under its key.
    time = made.time if made.time_given else None
    tenant, attributes = tenant_of(made.customer), made.attributes
    if tenant != made.customer:
        attributes = {**attributes, REFERENCE: made.customer}
    offer = Offer(
        TYPE,
        tenant,
        made.quantity,
        time,
        subject=None if made.resource is None else subject_of(made.resource),
        attributes=attributes,
        key=as_id(made.key),
    )
    return Told(made.key, offer, is_safe=made.time_given or told["idempotency_key"] is not None)


def _problem(account: object, told: Mapping[str, Any], source: object) -> str:
    """What the vendor's server would refuse, and `event_of` would not; the first thing."""
    return next(_problems(account, told, source), "")


def _problems(account: object, told: Mapping[str, Any], source: object) -> Iterator[str]:
    texts = (
        ("tenantId", account, ACCOUNT_MAX),
        ("metric", told["metric"], METRIC_MAX),
        ("customerRef", told["customer_ref"], CUSTOMER_MAX),
    )
    for name, value, most in texts:
        if not isinstance(value, str) or not 0 < len(value) <= most:
            yield f"{name}: is no text of 1 to {most} characters"
    if type(told["quantity"]) not in (int, Decimal):
        yield "quantity: is no number; send a positive one"
    meta = told["meta"]
    if meta is not None and not isinstance(meta, dict):
        yield "meta: is no object"
    if meta and len(json.dumps(meta, default=str, ensure_ascii=False).encode()) > META_BYTES_MAX:
        yield f"meta: is longer than {META_BYTES_MAX} bytes"
    if told["ts"] is not None and not isinstance(told["ts"], str):
        yield "ts: is no ISO 8601 text"
    if source is not None and (not isinstance(source, str) or source not in SOURCES):
        yield f"source: is none of {', '.join(sorted(SOURCES))}"
