"""A batch of plain native events into offers, member by member in place of event by event.

What is plain is common: usage whose members have the types that most send. Then a question about a
member is asked once for all events, without a call for each. A batch in which anything else occurs
is not judged here at all, but event by event by `meterstream_services.http.ingest_native`, whose
rules alone say what is wrong with which.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import chain, repeat
from typing import Any, Final

from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import EventKind
from meterstream_services.gateway.port import Offer
from meterstream_services.http.ingest_native import MEMBERS, microseconds
from meterstream_services.keys.principal import Principal

_PLAIN: Final = frozenset(MEMBERS) - {"kind"}
_NONE: Final = type(None)
_OBJECTS: Final[frozenset[object]] = frozenset({dict})
_TEXTS: Final[frozenset[object]] = frozenset({str})
_TEXTS_OR_NONE: Final = frozenset({str, _NONE})
_OBJECTS_OR_NONE: Final = frozenset({dict, _NONE})
_AMOUNTS: Final[frozenset[object]] = frozenset({int, Decimal, str})
_new: Final = tuple.__new__


def plain_offers(items: Sequence[Any], principal: Principal) -> list[Offer] | None:
    """The offers that these items mean, in their order; None where one of them is not plain."""
    if not _are(_OBJECTS, items) or not _PLAIN.issuperset(chain.from_iterable(items)):
        return None
    types = [item.get("type") for item in items]
    tenants = [item.get("tenant") for item in items]
    quantities = [item.get("quantity", 1) for item in items]
    sessions = [item.get("session") for item in items]
    subjects = [item.get("subject") for item in items]
    attributes = [item.get("attributes") for item in items]
    keys = [item.get("key") for item in items]
    if not (
        _are(_TEXTS, types)
        and _are(_TEXTS, tenants)
        and _are(_AMOUNTS, quantities)
        and _are(_TEXTS_OR_NONE, chain(sessions, subjects, keys))
        and _are(_OBJECTS_OR_NONE, attributes)
        and _are(_TEXTS, chain.from_iterable(each.values() for each in attributes if each))
        and (principal.tenants is None or principal.tenants.issuperset(tenants))
    ):
        return None
    times = _times(items)
    if times is None:
        return None
    rows = zip(
        types,
        tenants,
        quantities,
        times,
        repeat(EventKind.USAGE),
        sessions,
        subjects,
        attributes,
        keys,
        strict=False,
    )
    return list(map(_new, repeat(Offer), rows))


def _are(kinds: frozenset[object], values: Any) -> bool:  # noqa: ANN401 - whatever the sender wrote
    return kinds.issuperset(map(type, values))


def _times(items: Sequence[dict[str, Any]]) -> list[int | None] | None:
    """The times of events; None where one of them is no time."""
    told = [item.get("time") for item in items]
    if _are(frozenset({_NONE}), told):
        return told
    try:
        return [microseconds(time) for time in told]
    except InvalidEvent:
        return None
