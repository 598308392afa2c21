"""Which records of the SDK may pass, and for whom: decoded, judged, and left as they are.

What a key can do with records that it makes itself, and what is done about it:

* speak for another tenant: refused, by the tenant in the record, a VOID's too;
* spend another incarnation's numbers, so that its events count as repeats, or close it by a mark:
  the door's own incarnation is nobody's; a key that is bound to tenants may use an incarnation only
  if the first tenant seen under it here is its own, and marks only in lanes of its tenants;
* repeat without a number, or play the worker's own marks: a record needs a producer and a number;
* make the worker remember incarnations, or a registry answer: `PRODUCERS_MAX` and
  `UNKNOWN_SCHEMAS_MAX` in one request.

Lanes are shared: whoever knows the id of an incarnation that never came by here, and has a tenant
in the same lane, is not found out. Ids are 128 random bits that no answer tells other tenants.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from meterstream.caches import TwoGenerations
from meterstream.transport import Failure
from meterstream_schemas import codec, wire
from meterstream_schemas.errors import UndecodableRecord, UnknownSchema
from meterstream_schemas.events import EVENT_BYTES_MAX, LANES, EventKind, MeterEvent
from meterstream_schemas.placement import lane_of
from meterstream_schemas.registry import WriterSchemas
from meterstream_services.gateway.passing import Record
from meterstream_services.keys.principal import Principal

PRODUCERS_MAX: Final = 64
"""Incarnations in one request: one's own, and those whose spools it adopted."""
UNKNOWN_SCHEMAS_MAX: Final = 4
"""Schema ids that nobody knows, in one request; those after them are not asked for."""
_PRODUCERS_REMEMBERED: Final = 50_000
_TENANTS_CACHED: Final = 65_536
_PRODUCER_CHARACTERS: Final = 32
_FOREIGN: Final = "producer: was first seen here with a tenant that this key is not for"
_HEXADECIMAL: Final = frozenset("0123456789abcdef")


class TooManyProducers(Exception):
    """Records of more incarnations than one request may have."""


class Judge:
    """Judges records. Safe from any thread; waits for a schema registry, if there is one.

    ``own``: the door's incarnation, which nobody may speak for.
    """

    def __init__(self, schemas: WriterSchemas, *, own: Callable[[], str | None]) -> None:
        self._schemas: Final = schemas
        self._own: Final = own
        self._lock: Final = threading.Lock()
        self._parsed: Final[dict[int, codec.Schema]] = {}
        self._first_tenant: Final = TwoGenerations[str, str](_PRODUCERS_REMEMBERED)

    def judged(
        self, records: Sequence[tuple[int, bytes]], partitions: int, principal: Principal
    ) -> list[Record | Failure]:
        """For each partition and record what to pass on, or why it must not be, in order.

        Raises `TooManyProducers`, and `SchemaUnavailable`: then nothing can be said yet.
        """
        judged: list[Record | Failure] = []
        producers, unknown = set[str](), set[int]()
        for partition, value in records:
            try:
                event = self._event(value, unknown)
                why = self._flaw(event, principal)
            except UndecodableRecord as problem:
                judged.append(Failure(f"not a record of an event: {problem}", permanent=True))
                continue
            producers.add(event.producer)
            if why is not None:
                # A key that was bound anew may have lost a tenant: held up is not lost.
                judged.append(Failure(why, permanent=why is not _FOREIGN))
            elif partition >= partitions:
                # Not for good: another gateway may know already that the topic has grown.
                why = f"partition {partition} is beyond the topic's {partitions}"
                judged.append(Failure(why, permanent=False))
            else:
                judged.append(Record(partition, event.tenant.encode(), value))
        if len(producers) > PRODUCERS_MAX:
            raise TooManyProducers
        return judged

    def _event(self, value: bytes, unknown: set[int]) -> MeterEvent:
        if len(value) > EVENT_BYTES_MAX + wire.HEADER_BYTES:
            raise UndecodableRecord(f"{len(value)} bytes are more than any event has")
        schema_id, body = wire.split(value)
        schema = self._schema(schema_id, unknown)
        if schema is None:
            unknown.add(schema_id)
            raise UndecodableRecord(f"schema {schema_id} is not allowed here")
        return codec.decode_body(body, schema)

    def _schema(self, schema_id: int, unknown: set[int]) -> codec.Schema | None:
        known = self._parsed.get(schema_id)
        if known is not None:
            return known
        if schema_id in unknown or len(unknown) >= UNKNOWN_SCHEMAS_MAX:
            return None
        with self._lock:
            try:
                schema = codec.parse_text(self._schemas.schema_text(schema_id))
            except UnknownSchema:
                return None
            self._parsed[schema_id] = schema
            return schema

    def _flaw(self, event: MeterEvent, principal: Principal) -> str | None:
        """Why nobody, or not this principal, may pass on an event; None where it may."""
        if event.producer == self._own():
            return "producer: is the gateway's own"
        flaw = _flaw_of_number(event)
        if flaw is None and event.kind is EventKind.MARK:
            return self._flaw_of_mark(event, principal)
        return flaw or self._flaw_of_tenant(event, principal)

    def _flaw_of_tenant(self, event: MeterEvent, principal: Principal) -> str | None:
        tenant, producer = event.tenant, event.producer
        if not principal.may_use(tenant):
            return f"tenant: this key is not for {tenant[:128]!r}"
        if event.lane != _lane(tenant):
            return f"lane: {event.lane} is not the tenant's"
        first = self._first(producer)
        if first is None:
            self._first_tenant.put(producer, tenant)
        elif not principal.may_use(first):
            return _FOREIGN
        return None

    def _flaw_of_mark(self, event: MeterEvent, principal: Principal) -> str | None:
        if event.tenant:
            return "tenant: a mark has none"
        if principal.tenants is None:
            return None
        if event.lane not in _lanes(principal.tenants):
            return f"lane: {event.lane} is of no tenant of this key"
        first = self._first(event.producer)
        if first is not None and not principal.may_use(first):
            return _FOREIGN
        return None

    def _first(self, producer: str) -> str | None:
        first = self._first_tenant.young.get(producer)
        return self._first_tenant.older(producer) if first is None else first


_lane = lru_cache(_TENANTS_CACHED)(lane_of)


def _flaw_of_number(event: MeterEvent) -> str | None:
    producer = event.producer
    if len(producer) != _PRODUCER_CHARACTERS or not _HEXADECIMAL.issuperset(producer):
        return "producer: is not 32 hexadecimal digits"
    if not 0 <= event.lane < LANES or event.sequence < 1:
        return f"lane {event.lane}, number {event.sequence}: outside their range"
    return None


@lru_cache(1_024)
def _lanes(tenants: frozenset[str]) -> frozenset[int]:
    return frozenset(map(_lane, tenants))
