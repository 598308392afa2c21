r"""What Unimeter's events mean here: from the rows of a frame to offers, as decision 23 has it.

=====================  =================================  =======================================
\                      a port without a tenant            a port of TENANT
=====================  =================================  =======================================
tenant                 the account as text                TENANT
type                   ``unimeter.event``                 ``unimeter.account_event``
subject                none                               the account as text
attributes             as `unimeter_catalogue` says       likewise, and ``account``
=====================  =================================  =======================================

An event with a time has a key: account, code, time, value, operation and properties, and which of
its equals within the frame it is. So a frame that comes again counts once, and equal events of one
frame count each. Events without a time have none: they cannot be told from their repetition.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise, repeat
from operator import add
from typing import Final, NamedTuple

from meterstream.compat.unimeter_catalogue import (
    DIMENSIONS,
    EVENT_TYPE,
    METRIC,
    OPERATION,
    VALUE,
    attribute_of,
    attributes_of,
)
from meterstream.compat.unimeter_values import MetricSchema, OperationType, ServerError
from meterstream_schemas.events import ATTRIBUTES_MAX, EventKind
from meterstream_services.clients.unimeter.wire import (
    PROPERTY_BYTES,
    BadFrame,
    property_pairs,
    text,
)
from meterstream_services.gateway.port import Offer

ACCOUNT_EVENT_TYPE: Final = "unimeter.account_event"
ACCOUNT: Final = "account"
SHAPES_MAX: Final = 20_000
"""Kinds of events, by code, operation and properties, that a port remembers."""

NOTHING: Final[Mapping[str, str]] = {}

_FACTS: Final = struct.Struct("<QqQ")
_EMPTY_HASH: Final = hashlib.blake2b(digest_size=16)
"""To be copied: a quarter of what making one costs."""
_new: Final = tuple.__new__
"""Makes an offer at a third of what its own name costs, which looks for what is left out."""

Known = Mapping[str, MetricSchema]
_Row = tuple[bytes, int, int, int, int, int]
"""See `meterstream_services.clients.unimeter.wire.EventRow`."""


class Told(NamedTuple):
    """What a frame's events became. ``refused`` of them can never be counted."""

    offers: list[Offer]
    refused: int
    is_keyed: bool
    """Whether every offer has a key: the frame may come again without harm."""
    is_known: bool
    """Whether every metric is registered."""


class _Shape(NamedTuple):
    """What events of one code, operation and properties share."""

    attributes: Mapping[str, str]
    is_unique: bool
    is_known: bool
    problem: str | None = None
    identity: bytes = b""
    code: str = ""
    properties: Mapping[str, str] = NOTHING


class Meaning:
    """Rows to offers, for one port. Remembers shapes; of one event loop."""

    def __init__(self, tenant: str | None) -> None:
        self._tenant: Final = tenant
        self._known: Known = {}
        self._shapes: dict[tuple[bytes, int, bytes], _Shape] = {}

    def offers(self, rows: Iterable[_Row], properties: bytes, known: Known) -> Told:
        """The offers of a frame, in its order. One bad event never spoils its neighbours."""
        if known is not self._known or len(self._shapes) > SHAPES_MAX:
            self._known = known
            self._shapes = {}
        rows = list(rows)
        shapes = self._shaped(rows, properties)
        distinct = {id(shape): shape for shape in shapes}.values()
        is_plain = all(shape.problem is None and not shape.is_unique for shape in distinct)
        offers = self._as_columns(rows, shapes) if rows and is_plain else None
        if offers is None:
            return self._one_by_one(rows, shapes)
        return Told(offers, 0, True, all(shape.is_known for shape in distinct))

    def _shaped(self, rows: list[_Row], properties: bytes) -> list[_Shape]:
        """The shape of each row."""
        ends = list(accumulate([row[5] * PROPERTY_BYTES for row in rows], initial=0))
        contents = [properties[begin:end] for begin, end in pairwise(ends)]
        named = [(row[0], row[4], content) for row, content in zip(rows, contents, strict=True)]
        shapes = self._shapes
        for one in set(named):
            if one not in shapes:
                shapes[one] = self._shape(*one)
        return [shapes[one] for one in named]

    def _as_columns(self, rows: list[_Row], shapes: list[_Shape]) -> list[Offer] | None:
        """The offers of rows that all have a time; None where one has not, or two are equal."""
        _, accounts, ats, values, _, _ = zip(*rows, strict=True)
        if min(ats) <= 0:
            return None
        keys = _keys([shape.identity for shape in shapes], accounts, ats, values)
        if len(set(keys)) < len(keys):
            return None
        times = [(at + 500) // 1000 for at in ats]
        attributes: list[Mapping[str, str]] = [shape.attributes for shape in shapes]
        who = list(map(str, accounts))
        usage, none = repeat(EventKind.USAGE), repeat(None)
        told: Iterable[tuple[object, ...]]
        if self._tenant is None:
            type_ = repeat(EVENT_TYPE)
            told = zip(type_, who, values, times, usage, none, none, attributes, keys, strict=False)
        else:
            type_, own = repeat(ACCOUNT_EVENT_TYPE), repeat(self._tenant)
            each = [{**one, ACCOUNT: name} for one, name in zip(attributes, who, strict=True)]
            told = zip(type_, own, values, times, usage, none, who, each, keys, strict=False)
        return list(map(_new, repeat(Offer), told))

    def _one_by_one(self, rows: list[_Row], shapes: list[_Shape]) -> Told:
        offers: list[Offer] = []
        append = offers.append
        own, type_ = self._tenant, EVENT_TYPE if self._tenant is None else ACCOUNT_EVENT_TYPE
        refused, is_keyed, is_known, usage = 0, True, True, EventKind.USAGE
        equals: dict[str, int] = {}
        for (_, account, at, value, operation, _), shape in zip(rows, shapes, strict=True):
            attributes, is_unique, registered, problem, identity, *_ = shape
            if problem is not None or at < 0:
                refused += 1
                continue
            if not registered:
                is_known = False
            key = time = None
            if at:
                [key] = _keys([identity], [account], [at], [value])
                again = equals.get(key, 0)
                equals[key] = again + 1
                if again:
                    key = f"{key}:{again}"
                time = (at + 500) // 1000
            else:
                is_keyed = False
            quantity, who = value, str(account)
            if is_unique:
                told = self._attributes(shape.code, shape.properties, value, operation)
                attributes, quantity = told[0], 1
            tenant: str = who
            subject: str | None = None
            if own is not None:
                attributes, tenant, subject = {**attributes, ACCOUNT: who}, own, who
            offer = (type_, tenant, quantity, time, usage, None, subject, attributes, key)
            append(_new(Offer, offer))
        return Told(offers, refused, is_keyed, is_known)

    def _shape(self, code: bytes, operation: int, content: bytes) -> _Shape:
        """What these events share; with a problem where they can never be counted."""
        try:
            name, properties = text(code), property_pairs(content)
            schema = self._known.get(name)
            attributes, is_unique = self._attributes(name, properties, 0, operation)
        except (BadFrame, ServerError) as problem:
            return _refused(str(problem))
        if not name or operation > OperationType.REMOVE:
            return _refused("no code, or an operation that is none")
        parts = [
            name,
            str(operation),
            *(part for pair in sorted(properties.items()) for part in pair),
        ]
        identity = hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()
        return _Shape(attributes, is_unique, schema is not None, None, identity, name, properties)

    def _attributes(
        self, code: str, properties: Mapping[str, str], value: int, operation: int
    ) -> tuple[dict[str, str], bool]:
        """See `attributes_of`. On a port of a tenant a property called ``account`` moves aside."""
        schema = self._known.get(code)
        attributes, is_unique = attributes_of(
            schema, code, properties, value=value, operation=operation
        )
        if self._tenant is not None and ACCOUNT in attributes:
            attributes[f"property.{ACCOUNT}"] = attributes.pop(ACCOUNT)
        if len(attributes) >= ATTRIBUTES_MAX:
            declared = () if schema is None else [attribute_of(each.key) for each in schema.filters]
            attributes = _fitting(attributes, declared)
        return attributes, is_unique


def _fitting(attributes: Mapping[str, str], declared: Iterable[str]) -> dict[str, str]:
    """As many attributes as an event may have beside its account.

    What figures are kept apart by comes first, then properties in their order.
    """
    names = [METRIC, DIMENSIONS, VALUE, OPERATION, *declared, f"property.{ACCOUNT}", *attributes]
    kept = [name for name in dict.fromkeys(names) if name in attributes]
    return {name: attributes[name] for name in kept[: ATTRIBUTES_MAX - 1]}


def _refused(problem: str) -> _Shape:
    return _Shape(NOTHING, is_unique=False, is_known=False, problem=problem)


def _keys(
    identities: Sequence[bytes], accounts: Sequence[int], ats: Sequence[int], values: Sequence[int]
) -> list[str]:
    """What these events are known by, each by itself."""
    keys: list[str] = []
    append, empty = keys.append, _EMPTY_HASH.copy
    for facts in map(add, identities, map(_FACTS.pack, accounts, ats, values)):
        content_hash = empty()
        content_hash.update(facts)
        append("unimeter-" + content_hash.hexdigest())
    return keys
