"""Whatever is passed where a foreign document says "a dict of anything": nothing breaks."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from meterstream.compat.ledger import EXACT
from meterstream.compat.plain import attributes_of, shown, text_of
from meterstream.compat.stripemeter_events import Event, event_of
from meterstream.compat.stripemeter_values import StripeMeterError
from meterstream_schemas.checks import check_attributes


class Hostile:
    """Fails at whatever is asked of it."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    def __hash__(self) -> int:
        return 1


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.text(st.characters()),
    st.binary(max_size=20),
    st.datetimes(),
    st.just(UUID(int=7)),
    st.builds(Hostile),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
NAMES = st.one_of(st.text(), st.none(), st.integers(), st.binary(max_size=3))
FIELDS = st.dictionaries(
    st.sampled_from(
        ["metric", "customer_ref", "quantity", "meta", "resource_id", "ts", "idempotency_key"]
    ),
    ANYTHING,
)
RIGHT: dict[str, Any] = {"metric": "m", "customer_ref": "c", "quantity": 1}


@given(metadata=st.dictionaries(NAMES, ANYTHING, max_size=40) | ANYTHING)
def test_metadata_always_becomes_attributes(metadata: object) -> None:
    """What comes out is always what a meter takes, in number, names and values."""
    attributes, key = attributes_of(metadata, prefix="metadata.", key="idempotency_key")

    assert len(check_attributes(attributes)) <= 24
    assert all(name.startswith("metadata.") for name in attributes)
    assert key is None or key


@given(value=ANYTHING)
def test_a_value_can_always_be_written_and_shown(value: object) -> None:
    """Neither text nor message ever fails, and both are bounded."""
    assert len(text_of(value).encode()) <= 1024
    assert len(shown(value)) <= 40


@given(told=FIELDS)
def test_an_event_is_right_or_refused(told: dict[str, object]) -> None:
    """Arbitrary fields make an event or a `StripeMeterError` that says what is wrong."""
    for fields in (told, RIGHT | told):
        event, problem = described(fields)
        if event is not None:
            assert event.quantity > 0
            assert event.key
            assert event.attributes["metric"]
        else:
            assert problem is not None
            assert (problem.status_code, bool(problem.message)) == (400, True)


def described(fields: dict[str, object]) -> tuple[Event | None, StripeMeterError | None]:
    """The event that fields describe, or what is wrong with them."""
    try:
        return event_of("t1", fields), None
    except StripeMeterError as problem:
        return None, problem


@given(
    quantity=st.integers(min_value=1, max_value=2**62)
    | st.decimals(min_value=Decimal("1e-9"), max_value=1e9)
)
def test_a_derived_key_is_the_amounts_own(quantity: int | Decimal) -> None:
    """One amount, however it is written, gives one key; another amount another."""
    moment = datetime(2026, 11, 20, tzinfo=UTC)
    told = RIGHT | {"ts": moment, "quantity": quantity}

    again = event_of("t1", told | {"quantity": Decimal(quantity)})
    other = event_of("t1", told | {"quantity": EXACT.add(Decimal(quantity), Decimal(1))})

    assert event_of("t1", told).key == again.key != other.key
