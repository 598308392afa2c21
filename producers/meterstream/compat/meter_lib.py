"""The documented calls of meter-lib, delivered through this SDK.

``kafka_url``, ``portal_url`` and ``api_key`` are taken and not used: events go where
``METERSTREAM_*`` says. A call waits until its event is in the log, at most `TIMEOUT_SECONDS`, and
answers None where it is not; the tenant's customer is looked up as `meter_lib_customers` says.

The document and the published package order the positional arguments differently; both are
understood, told apart by the fifth: an amount is the package's order, an address the document's.
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, cast, overload

from meterstream.compat import wiring
from meterstream.compat.meter_lib_boundary import begin_boundary
from meterstream.compat.meter_lib_customers import AccountCustomers, Customers
from meterstream.complaints import Complaints, describe
from meterstream.errors import BufferFull, MeterClosed
from meterstream.intake import microseconds_of
from meterstream_schemas.errors import InvalidEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["fetch_customer_id", "look_up_with", "post_ai_meter_usage", "post_meter_usage"]

TIMEOUT_SECONDS: Final = 10.0
SESSION_ID: Final = "session_id"
IDEMPOTENCY_KEY: Final = "idempotency_key"
"""An entry of ``metadata`` that makes a call safe to repeat: equal keys of a tenant count once."""

_WHO: Final = ("tenant_id", "device_id", "meter_id", "kafka_url")
_DOCUMENTED: Final = (*_WHO, "portal_url", "api_key", "total_usage", "timestamp", "metadata")
_PUBLISHED: Final = (*_WHO, "total_usage", "portal_url", "api_key", "timestamp", "metadata")
_AMOUNTS: Final = (int, float, Decimal)


class _Lookup:
    """The customers in force. One per process; `look_up_with` puts others in place."""

    def __init__(self) -> None:
        self.customers: Customers = AccountCustomers()
        self.complaints = Complaints()


_lookup: Final = _Lookup()


def look_up_with(customers: Customers | None = None) -> None:
    """Find customers with a port of the host's own; without one, with the default anew."""
    _lookup.customers = customers or AccountCustomers()
    _lookup.complaints = Complaints()


def fetch_customer_id(
    tenant_id: str,
    portal_url: str | None = None,  # noqa: ARG001 - as documented; the lookup is this project's
    api_key: str | None = None,  # noqa: ARG001 - likewise
) -> str | None:
    """The customer that a tenant belongs to; None where none is found. May block."""
    return _lookup.customers.customer_of(_plain(tenant_id))


@overload
def post_meter_usage(
    tenant_id: str,
    device_id: str,
    meter_id: str,
    kafka_url: object,
    portal_url: object = None,
    api_key: object = None,
    total_usage: int | Decimal | str = ...,
    timestamp: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> dict[str, Any] | None: ...
@overload
def post_meter_usage(
    tenant_id: str,
    device_id: str,
    meter_id: str,
    kafka_url: object,
    total_usage: int | Decimal,
    portal_url: object = None,
    api_key: object = None,
    timestamp: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> dict[str, Any] | None: ...
def post_meter_usage(*given: Any, **named: Any) -> dict[str, Any] | None:
    """Record an amount of a meter. Blocks until it is in the log.

    ``timestamp`` is in milliseconds UTC, now by default. None: there is no customer, an argument is
    wrong, or the event did not reach the log in time; it may still do so later, and
    ``metadata["idempotency_key"]`` (with a ``timestamp``) makes it safe to call again.
    """
    fifth = _plain(given[4]) if len(given) > 4 else None
    order = _PUBLISHED if isinstance(fifth, _AMOUNTS) else _DOCUMENTED
    called = _bound(order, given, named)
    if "total_usage" not in called:
        raise TypeError("post_meter_usage() is missing its argument 'total_usage'")
    return _safely(_usage, called)


def post_ai_meter_usage(  # noqa: PLR0917 - as documented
    tenant_id: str,
    device_id: str,
    meter_id: str,
    kafka_url: object,  # noqa: ARG001 - as documented; not used
    portal_url: object = None,  # noqa: ARG001 - likewise
    api_key: object = None,  # noqa: ARG001 - likewise
    start_time: int | None = None,
    end_time: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> dict[str, Any] | None:
    """Record the start of a session, its end, or both. Blocks until it is in the log.

    Times are milliseconds UTC. ``metadata["session_id"]`` joins the two calls; without it an end
    closes the device's oldest open session. None: as `post_meter_usage`, and without any time.
    """
    return _safely(
        _session,
        {
            "tenant_id": _plain(tenant_id),
            "device_id": _plain(device_id),
            "meter_id": _plain(meter_id),
            "start_time": _plain(start_time),
            "end_time": _plain(end_time),
            "metadata": metadata,
        },
    )


def _usage(called: Mapping[str, Any], deadline: float) -> list[wiring.Sent | None]:
    amount = called["total_usage"]
    metadata = _texts(called.get("metadata"))
    pending = wiring.begin(
        called["meter_id"],
        tenant=called["tenant_id"],
        subject=called["device_id"],
        quantity=Decimal(repr(amount)) if isinstance(amount, float) else amount,
        time=_microseconds("timestamp", called.get("timestamp")),
        attributes=metadata,
        key=metadata.get(IDEMPOTENCY_KEY) or None,
    )
    return [None if pending is None else pending.wait(deadline - time.monotonic())]


def _session(called: Mapping[str, Any], deadline: float) -> list[wiring.Sent | None]:
    metadata = _texts(called["metadata"])
    start = _microseconds("start_time", called["start_time"])
    end = _microseconds("end_time", called["end_time"])
    session = metadata.get(SESSION_ID) or None
    if start is None and end is None:
        raise InvalidEvent("start_time", "is missing, and end_time too; pass one of them")
    if start is not None and end is not None:
        if end < start:
            raise InvalidEvent("end_time", f"{called['end_time']} is before start_time")
        # Both in one call belong together, whatever else the device has open.
        session = session or os.urandom(16).hex()
    key = metadata.get(IDEMPOTENCY_KEY) or None
    told: list[tuple[wiring.Boundary, int | None]] = [("start", start), ("end", end)]
    under_way = [
        begin_boundary(
            called["meter_id"],
            boundary,
            tenant=called["tenant_id"],
            subject=called["device_id"],
            session=session,
            time=at,
            attributes=metadata,
            key=None if key is None else f"{key}:{boundary}",
        )
        for boundary, at in told
        if at is not None
    ]
    return [
        None if pending is None else pending.wait(deadline - time.monotonic())
        for pending in under_way
    ]


def _safely(post: Any, called: Mapping[str, Any]) -> dict[str, Any] | None:  # noqa: ANN401 - either
    """What a call answers: nothing that goes wrong reaches the host, but in a strict meter."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    try:
        tenant = called["tenant_id"]
        if _lookup.customers.customer_of(tenant) is None:
            _complain("customer", f"tenant {tenant!r:.100} has no customer; the call is skipped")
            return None
        if time.monotonic() >= deadline:
            _complain("slow", "the customer lookup took all of a call's time; the call is skipped")
            return None
        try:
            sent = cast("Sequence[wiring.Sent | None]", post(called, deadline))
        except InvalidEvent as problem:
            wiring.meter().current().refused(problem)
            return None
    except (InvalidEvent, BufferFull, MeterClosed):
        raise  # The meter was told to.
    except Exception as problem:  # noqa: BLE001 - nothing may reach the host
        _complain("call", f"a usage event was not recorded: {describe(problem)}")
        return None
    return None if None in sent else _answer([each for each in sent if each is not None])


def _answer(sent: Sequence[wiring.Sent]) -> dict[str, Any]:
    """Where the events are, in the shape that Kafka's REST proxy answers with."""
    return {
        "offsets": [
            {"partition": partition, "offset": offset, "error_code": None, "error": None}
            for partition, offset in sent
        ],
        "key_schema_id": None,
        "value_schema_id": None,
    }


def _bound(
    order: Sequence[str], given: Sequence[object], named: Mapping[str, object]
) -> dict[str, Any]:
    """Arguments by name. Raises `TypeError` as a plain function would."""
    if len(given) > len(order):
        raise TypeError(f"post_meter_usage() takes {len(order)} arguments, {len(given)} were given")
    called = dict(zip(order, given, strict=False))
    for name, value in named.items():
        if name not in order or name in called:
            what = "does not know" if name not in order else "got twice"
            raise TypeError(f"post_meter_usage() {what} the argument {name!r}")
        called[name] = value
    missing = [name for name in _WHO if name not in called]
    if missing:
        raise TypeError(f"post_meter_usage() is missing its argument {missing[0]!r}")
    return {name: _plain(value) for name, value in called.items()}


def _plain(value: Any) -> Any:  # noqa: ANN401 - any argument
    """An argument without the trailing comma that makes the document's snippets tuples of one."""
    if isinstance(value, tuple):
        several = cast("tuple[object, ...]", value)
        return several[0] if len(several) == 1 else several
    return value


def _texts(metadata: Mapping[Any, Any] | None) -> dict[str, str]:
    return {str(name): str(value) for name, value in (metadata or {}).items()}


def _microseconds(field: str, value: object) -> int | None:
    """Milliseconds, or an aware datetime, as microseconds."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return value * 1000
    if isinstance(value, datetime):
        return microseconds_of(value)
    raise InvalidEvent(field, f"{type(value).__name__} is not a time; pass milliseconds UTC")


def _complain(kind: str, sentence: str) -> None:
    """Say it in the log, at most once a minute of each kind: the next call may find the same."""
    _lookup.complaints.warn(kind, sentence)
    _lookup.complaints.log_due(time.monotonic())
