"""Batches judged member by member: the same offers as event by event, or none at all."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_schemas.errors import InvalidEvent
from meterstream_services.gateway.port import Offer
from meterstream_services.http.ingest_columns import plain_offers
from meterstream_services.http.ingest_native import native_offer
from meterstream_services.http.ingest_taking import Sender
from meterstream_services.keys.principal import ANYBODY, Principal, Scope

ACME = Principal("key", frozenset({Scope.INGEST}), frozenset({"acme"}))
TWO = Principal("key", frozenset({Scope.INGEST}), frozenset({"acme", "b"}))
TIMES = st.sampled_from([None, 5, "2026-11-21T10:00:00.25+02:00", "2026-11-21T10:00:00Z"])
TEXTS = st.sampled_from(["", "acme", "b", "u\u00e4"])
PLAIN = st.fixed_dictionaries(
    {"type": TEXTS, "tenant": st.sampled_from(["acme", "b"])},
    optional={
        "quantity": st.sampled_from([0, 7, -2, "1.50", Decimal("0.1"), 10**30]),
        "time": TIMES,
        "session": st.none() | TEXTS,
        "subject": st.none() | TEXTS,
        "attributes": st.none() | st.dictionaries(TEXTS, TEXTS, max_size=2),
        "key": st.none() | TEXTS,
    },
)
ODD: st.SearchStrategy[object] = st.sampled_from(
    [None, True, 1, Decimal("1.5"), "x", [], {}, {"a": 1}, {"a": None}, "usage", "void"]
)
MEMBERS = st.sampled_from([
    "type", "tenant", "quantity", "time", "session", "subject", "attributes", "key", "kind",
    "specversion", "more",
])  # fmt: skip


def one_by_one(items: list[Any], principal: Principal) -> list[Offer | None]:
    """What each means, None where it means nothing."""
    found: list[Offer | None] = []
    for item in items:
        try:
            found.append(native_offer(item, principal))
        except InvalidEvent:
            found.append(None)
    return found


@given(st.lists(PLAIN, max_size=5), st.sampled_from([ANYBODY, TWO]))
def test_plain_batches_are_what_their_events_are(items: list[Any], principal: Principal) -> None:
    """Each offer, with the very types of its amounts; none of these batches is left over."""
    offers = plain_offers(items, principal)

    assert offers == one_by_one(items, principal)
    assert [type(offer.quantity) for offer in offers or ()] == [
        type(item.get("quantity", 1)) for item in items
    ]


@given(st.lists(PLAIN, min_size=1, max_size=3), MEMBERS, ODD, st.sampled_from([ANYBODY, ACME, TWO]))
def test_what_is_odd_is_judged_by_itself_or_the_same(
    items: list[Any], member: str, value: object, principal: Principal
) -> None:
    """Whatever stands where: the columns give what the rules give, or leave it to them."""
    items[-1] = items[-1] | {member: value}

    offers = plain_offers(items, principal)

    assert offers is None or offers == one_by_one(items, principal)


@pytest.mark.parametrize("item", [None, 1, "x", [], ["type"]])
def test_what_is_no_object_is_left_to_the_rules(item: object) -> None:
    """Also an array of names, of which each is known."""
    assert plain_offers([{"type": "t", "tenant": "a"}, item], ANYBODY) is None


def test_a_foreign_tenant_is_left_to_the_rules() -> None:
    """One event for a tenant of others: nothing of the batch is let through here."""
    assert plain_offers([{"type": "t", "tenant": "acme"}], ACME) is not None
    assert plain_offers([{"type": "t", "tenant": t} for t in ("acme", "b")], ACME) is None


@pytest.mark.parametrize("sender", [Sender(ANYBODY, "h"), Sender(ANYBODY, None, True)])
def test_what_a_request_says_of_all_still_counts(sender: Sender) -> None:
    """A key for all, or a receipt for each: events without a key get one."""
    items = [{"type": "t", "tenant": "a"}, {"type": "t", "tenant": "a", "key": "own"}]

    first, second = sender.offers(items)

    assert isinstance(first, Offer)
    assert isinstance(second, Offer)
    assert first.key is not None
    assert second.key == "own"
