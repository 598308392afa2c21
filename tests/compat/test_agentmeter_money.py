"""Costs are exact: what is written is what is charged, and nothing of it gets lost on the way."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meterstream.compat.agentmeter import (
    AgentMeterValidationError,
    APIRequestPayEvent,
    InstantPayEvent,
    TokenBasedPayEvent,
)
from meterstream.compat.agentmeter.money import carried, exact, text, total, whole
from meterstream.compat.agentmeter.translating import (
    METADATA_BYTES_MAX,
    METADATA_ENTRIES_MAX,
    recorded,
)
from meterstream_schemas.checks import check_attributes
from meterstream_schemas.events import QUANTITY_MAX, SCALE_MAX
from meterstream_schemas.quantity import parse_amount

floats = st.just(0.0) | st.floats(1e-20, 1e6)
decimals = st.decimals(0, 10**9, places=9, allow_nan=False).map(abs)
prices = st.one_of(floats, decimals, st.integers(0, 10**6))
counts = st.integers(0, 10**9)
jsonish = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def meant(price: float | Decimal) -> Fraction:
    """The digits that a price is written with, as a fraction."""
    return Fraction(str(price))


@given(counts, prices)
@example(3, 0.1)
@example(10**9, 0.30000000000000004)
def test_requests_cost_calls_times_price(calls: int, price: float | Decimal) -> None:
    """No digit is lost, whatever the prices; the recorded cost is the nearest that fits."""
    event = APIRequestPayEvent(api_calls=calls, unit_price=price)

    assert Fraction(event.exact_cost) == calls * meant(price)
    assert_carried(event.exact_cost, recorded(event).attributes)


@given(counts, counts, prices, prices)
def test_tokens_cost_both_ways(
    tokens_in: int, tokens_out: int, price_in: float | Decimal, price_out: float | Decimal
) -> None:
    """In and out at a price each, added exactly."""
    event = TokenBasedPayEvent(
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        input_token_price=price_in,
        output_token_price=price_out,
    )

    assert Fraction(event.exact_cost) == tokens_in * meant(price_in) + tokens_out * meant(price_out)
    assert recorded(event).quantity == tokens_in + tokens_out
    assert_carried(event.exact_cost, recorded(event).attributes)


@given(prices)
def test_payments_cost_their_amount(amount: float | Decimal) -> None:
    """The event's quantity is its cost."""
    event = InstantPayEvent(amount=amount)

    assert Fraction(event.exact_cost) == meant(amount)
    assert text(Decimal(recorded(event).quantity)) == recorded(event).attributes["cost"]


def assert_carried(cost: Decimal, attributes: dict[str, str]) -> None:
    """The attribute is the cost; else the nearest with all the places that fit, and both stand."""
    amount = parse_amount(attributes["cost"])
    difference = abs(Fraction(amount.decimal()) - Fraction(cost))
    if difference:
        assert Decimal(attributes["cost_exact"]) == cost
        places = _places(cost)
        assert difference <= Fraction(1, 2 * 10**places)
        assert places == SCALE_MAX or Fraction(cost) * 10 ** (places + 1) > QUANTITY_MAX
    else:
        assert "cost_exact" not in attributes


def _places(cost: Decimal) -> int:
    """The most decimal places at which an event can carry the cost."""
    return max(
        places
        for places in range(SCALE_MAX + 1)
        if round(Fraction(cost) * 10**places) <= QUANTITY_MAX
    )


def test_a_tenth_and_two_tenths_are_three_tenths() -> None:
    """The float sum that is not 0.3 never comes about."""
    costs = [APIRequestPayEvent(unit_price=price).exact_cost for price in (0.1, 0.2)]

    assert total(*costs) == Decimal("0.3")
    assert APIRequestPayEvent(api_calls=3, unit_price=0.1).total_cost == 0.3


def test_the_hosts_decimal_context_changes_nothing() -> None:
    """A host that computes with three digits still charges all of them."""
    with localcontext(prec=3):
        event = TokenBasedPayEvent(
            tokens_in=123_456, tokens_out=1, input_token_price=0.00000412345, output_token_price=1
        )
        attributes = recorded(event).attributes

    assert attributes["cost"] == "1.5090646432"


def test_cost_beyond_all_size_is_refused() -> None:
    """What no event can carry even without its fraction is told, not cut."""
    event = InstantPayEvent(amount=10**30)

    with pytest.raises(AgentMeterValidationError, match=r"cost: 1.000e\+30 is more than one event"):
        recorded(event)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1, "price: -1 is negative; pass 0 or more"),
        (True, "price: True is a bool; pass 1 or 0"),
        (float("nan"), "price: nan is not a finite number"),
        (float("inf"), "price: inf is not a finite number"),
        (Decimal("sNaN"), "is not a finite number"),
        ("much", "price: 'much' is not an amount; pass an int, float, Decimal or decimal text"),
        (None, "price: None is not an amount"),
        (Fraction(1, 3), "is not an amount"),
        (Decimal("1e70"), "has too many digits"),
        (10**70, "has too many digits"),
    ],
)
def test_amounts_that_cannot_be_billed_are_told(value: Any, message: str) -> None:  # noqa: ANN401 - of any type
    """Each refusal names the argument, the value and the remedy."""
    with pytest.raises(AgentMeterValidationError, match=message):
        exact(value, field="price")


@pytest.mark.parametrize("value", [1.5, "0.1", -1, True])
def test_counts_are_whole(value: Any) -> None:  # noqa: ANN401 - of several types
    """Half a call is nothing to charge."""
    with pytest.raises(AgentMeterValidationError, match="api_calls: "):
        APIRequestPayEvent(api_calls=value)


@pytest.mark.parametrize("value", [2, 2.0, "2", Decimal("2.0")])
def test_whole_numbers_may_be_written_in_any_way(value: Any) -> None:  # noqa: ANN401 - of several types
    """2.0 calls are 2 calls."""
    assert whole(value, field="api_calls") == 2


def test_dust_of_floats_is_rounded_where_it_does_not_fit() -> None:
    """A price with the noise of an addition is charged to all places that fit, and kept whole."""
    attributes = recorded(APIRequestPayEvent(api_calls=12_345, unit_price=0.1 + 0.2)).attributes

    assert attributes["cost"] == "3703.500000000000494"
    assert attributes["cost_exact"] == "3703.5000000000004938"
    assert carried(Decimal("0.3"), field="cost") == Decimal("0.3")


@given(st.dictionaries(st.text(max_size=80), jsonish, max_size=40))
def test_any_metadata_fit_an_event(metadata: dict[str, Any]) -> None:
    """Whatever metadata hold, the payment can be recorded; what does not fit is counted."""
    attributes = recorded(InstantPayEvent(amount=1, metadata=metadata)).attributes

    check_attributes(attributes)
    kept = [name for name in attributes if name.startswith("metadata.")]
    left_out = int(attributes.get("metadata_left_out", "0"))
    assert len(kept) + left_out == len(metadata)


def test_large_metadata_leave_room_for_the_payment() -> None:
    """The limits of entries and bytes hold, and an object that cannot be shown is left out."""

    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("not to be shown")

    many = {f"n{number}": "x" * 1000 for number in range(40)} | {"hostile": Hostile()}
    few = {f"n{number}": number for number in range(40)}

    large = recorded(InstantPayEvent(amount=1, metadata=many)).attributes
    small = recorded(InstantPayEvent(amount=1, metadata=few)).attributes

    assert sum(len(name) + len(value) for name, value in large.items()) < METADATA_BYTES_MAX + 100
    assert large["metadata_left_out"] == "33"
    assert small["metadata_left_out"] == str(40 - METADATA_ENTRIES_MAX)


def test_metadata_are_text_or_json() -> None:
    """Text stays as it is; numbers, lists and mappings become JSON."""
    metadata = {"model": "gpt-4", "n": 2, "ok": True, "tags": ["a", "ü"]}

    attributes = recorded(InstantPayEvent(amount=1, metadata=metadata)).attributes

    assert {name: value for name, value in attributes.items() if name.startswith("m")} == {
        "metadata.model": "gpt-4",
        "metadata.n": "2",
        "metadata.ok": "true",
        "metadata.tags": '["a", "ü"]',
    }
