"""Keys that are remembered: equal content as the worker has it, in bounded memory."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from meterstream_aggregator.intake import content_hash
from meterstream_schemas.events import EventKind, MeterEvent
from meterstream_schemas.quantity import parse_amount
from meterstream_services.gateway.port import Offer
from meterstream_services.gateway.remembering import BOUNDARIES, Kept, Keys, Underway, digest_of
from meterstream_services.gateway.waiting import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

_FEW = st.sampled_from(["a", "b", "é", "1"])
_TEXTS = st.dictionaries(_FEW, _FEW | st.just(""), max_size=3)
_KINDS = st.sampled_from([kind for kind in EventKind if kind not in {"MARK", "UNKNOWN"}])
_AMOUNTS = st.sampled_from(
    [0, 1, -1, -2, 10, "1", "1.0", "10", "1e1", Decimal("1.00"), "-1", "0.5", 2**61 - 1, 2**63 - 1]
)


def offers() -> st.SearchStrategy[Offer]:
    """Few of each field, so that two are often equal."""
    return st.builds(
        Offer,
        type=_FEW,
        tenant=_FEW,
        quantity=_AMOUNTS,
        time=st.sampled_from([0, 1, 2]),
        kind=_KINDS,
        session=st.none() | _FEW,
        subject=st.none() | _FEW,
        attributes=st.none() | _TEXTS,
    )


def event(offer: Offer) -> MeterEvent:
    """As the SDK writes it."""
    amount = parse_amount(0 if offer.kind in BOUNDARIES else offer.quantity)
    attributes: Mapping[str, str] = offer.attributes or {}
    return MeterEvent(
        offer.kind,
        offer.tenant,
        offer.type,
        offer.time or 0,
        *amount,
        offer.session,
        offer.subject,
        attributes,
        "",
        0,
        0,
        None,
    )


@given(offers(), st.data())
def test_content_is_equal_as_the_worker_has_it(one: Offer, data: st.DataObject) -> None:
    """Two offers have one digest exactly when their tenant and their events' content hash are one.

    They are never compared but under one name, which has the tenant.
    """
    fields: dict[str, Any] = data.draw(offers())._asdict()
    changed = data.draw(st.sets(st.sampled_from(sorted(fields)), max_size=2))
    other = one._replace(**{name: fields[name] for name in changed})

    equal = content_hash(event(one)) == content_hash(event(other)) and one.tenant == other.tenant
    assert (digest_of(one, one.time or 0) == digest_of(other, other.time or 0)) == equal


@given(offers())
def test_a_digest_is_of_values_alone(one: Offer) -> None:
    """Not of which values are one object in memory, nor of the order of attributes."""
    apart = copy.deepcopy(one)
    items = list((one.attributes or {}).items())
    turned = one._replace(attributes={"".join(list(k)): "".join(list(v)) for k, v in items[::-1]})

    assert digest_of(one, 5) == digest_of(apart, 5) == digest_of(turned, 5)


def begin(keys: Keys, name: str, number: int = 1) -> Underway:
    """A key under way."""
    return keys.begin(name, number, 2**62 + 1, 2**62, (Request(1), 0))


def test_what_is_kept_comes_back() -> None:
    """Digest, time and place of a key that the log has; what is under way is told as that."""
    keys = Keys(10)
    underway = begin(keys, "k")
    assert keys.find("k") is underway

    keys.keep(underway, 4_000_000_000, 2**62)

    assert keys.find("k") == Kept(2**62 + 1, 2**62, 4_000_000_000, 2**62)
    assert keys.find("other") is None


def test_an_outcome_changes_no_later_use_of_its_key() -> None:
    """What was forgotten and begun anew belongs to the new event."""
    keys = Keys(10)
    first = begin(keys, "k", 1)
    keys.forget(first)
    assert keys.find("k") is None
    second = begin(keys, "k", 2)

    keys.keep(first, 0, 7)
    keys.forget(first)

    assert keys.find("k") is second
    assert len(keys) == 1


def test_memory_is_bounded_and_what_is_used_stays() -> None:
    """Never more than the bound; a key that is asked for is not among those that go."""
    keys = Keys(10)
    begin(keys, "used")
    for number in range(100):
        begin(keys, str(number))
        assert keys.find("used") is not None
        assert len(keys) <= 10

    assert keys.find("0") is None
