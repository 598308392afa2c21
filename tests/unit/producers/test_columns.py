"""Many events at once: the same entries as one by one, or nothing at all."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream.columns import Columns, take_columns
from meterstream.encoding import USAGE
from meterstream.intake import FRAGMENT_CACHED_BYTES_MAX, SERIES_CACHED, SLOT_BYTES, Intake
from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import QUANTITY_MAX, QUANTITY_MIN, TIME_MAX_MICROSECONDS

PLAIN: dict[str, Any] = {
    "type": "api.request", "tenant": "acme", "quantity": 5, "time": 1_790_000_000_000_000,
    "session": None, "subject": None, "attributes": None, "key": None,
}  # fmt: skip
_TEXTS = st.sampled_from(["a", "b c", "x" * 256]) | st.none()
_EVENTS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["a", "b"]),
        "tenant": st.sampled_from(["t", "u", "ü"]),
        "quantity": st.sampled_from([QUANTITY_MIN, -1, 0, 1, QUANTITY_MAX]),
        "time": st.integers(0, TIME_MAX_MICROSECONDS - 1),
        "session": _TEXTS,
        "subject": _TEXTS,
        "attributes": st.none() | st.dictionaries(st.sampled_from("ab"), st.sampled_from("xyé")),
        "key": _TEXTS,
    }
)


class _Str(str):
    """A text that is none, to those who look closely."""

    __slots__ = ()


class _Hostile:
    __slots__ = ()

    def __hash__(self) -> int:
        raise RuntimeError


def intake(capacity: int = 100) -> Intake:
    """Empty, of a thread that never comes."""
    return Intake(
        capacity=capacity, overflow="raise", block_seconds=0, strict=True, wake=lambda: None
    )


def columns(*events: dict[str, Any]) -> Columns:
    """Events as columns."""
    return Columns(*([each[name] for each in events] for name in PLAIN))


def one_by_one(door: Intake, *events: dict[str, Any]) -> list[int]:
    """As `Meter.record` takes them; attributes in the order of their names."""
    taken: list[int] = []
    for each in events:
        event_type, tenant, quantity, time, session, subject, attributes, key = (
            each[name] for name in PLAIN
        )
        ordered = attributes and dict(sorted(attributes.items()))
        taken.append(
            door.take(USAGE, event_type, tenant, quantity, time, session, subject, ordered, key)
        )
    return taken


@given(st.lists(_EVENTS, min_size=1, max_size=9))
def test_the_entries_are_those_that_take_makes(events: list[dict[str, Any]]) -> None:
    """Equal in everything but the producer's id, and in the buffer in their order; or nothing."""
    fast, slow = intake(), intake()

    entries = take_columns(fast, USAGE, columns(*events))

    if entries is None:  # Texts and nulls mixed: more than a look.
        assert not fast.buffer
        assert fast.numbering.spent() == 0
        return
    one_by_one(slow, *events)
    own, others = fast.numbering.producer.encode(), slow.numbering.producer.encode()
    assert [
        tuple(part.replace(own, others) if isinstance(part, bytes) else part for part in entry)
        for entry in entries
    ] == list(slow.buffer)
    assert list(fast.buffer) == entries


@pytest.mark.parametrize(
    "wrong",
    [
        {"quantity": True}, {"quantity": 1.0}, {"quantity": QUANTITY_MAX + 1}, {"quantity": "1"},
        {"quantity": QUANTITY_MIN - 1}, {"quantity": Decimal(1)},
        {"time": None}, {"time": -1}, {"time": TIME_MAX_MICROSECONDS}, {"time": True},
        {"type": ""}, {"type": None}, {"type": []}, {"type": _Hostile()}, {"type": "x" * 300},
        {"tenant": ""}, {"tenant": None}, {"tenant": 7}, {"tenant": "x\0y"},
        {"session": "", "key": None}, {"subject": "x" * 257}, {"key": "a\nb"}, {"key": "é"},
        {"key": _Str("k")}, {"subject": 7}, {"attributes": {"a": 1}}, {"attributes": {1: "a"}},
        {"attributes": [("a", "b")]}, {"attributes": {"a": "x" * (SLOT_BYTES + 1)}},
        {"attributes": {str(n): "x" for n in range(99)}},
    ],
)  # fmt: skip
def test_one_that_is_not_plain_leaves_all_untaken(wrong: dict[str, Any]) -> None:
    """No number is spent for its neighbours, and nothing is raised."""
    door = intake()
    plain = {**PLAIN, **{name: "ok" for name in wrong if name in {"session", "subject", "key"}}}

    assert take_columns(door, USAGE, columns(plain, {**plain, **wrong}, plain)) is None
    assert door.numbering.spent() == 0
    assert not door.buffer
    assert take_columns(door, USAGE, columns(plain, plain)) is not None


def test_there_is_room_for_all_or_for_none() -> None:
    """The buffer is filled to its bound and never beyond; a closed one takes nothing."""
    door = intake(capacity=5)

    assert take_columns(door, USAGE, columns(*[PLAIN] * 6)) is None
    assert len(take_columns(door, USAGE, columns(*[PLAIN] * 5)) or ()) == 5
    assert take_columns(door, USAGE, columns(PLAIN)) is None
    assert door.numbering.spent() == 5
    closed = intake()
    closed.close()
    assert take_columns(closed, USAGE, columns(PLAIN)) is None


def test_numbers_go_on_whoever_takes() -> None:
    """Single events and columns share the numbers of their lane."""
    door = intake()

    assert one_by_one(door, PLAIN) == [1]
    entries = take_columns(door, USAGE, columns(PLAIN, PLAIN))
    assert one_by_one(door, PLAIN) == [4]

    assert [entry[10] for entry in entries or ()] == [2, 3]
    with pytest.raises(InvalidEvent):
        one_by_one(door, {**PLAIN, "tenant": ""})


def test_equal_attributes_are_equal_bytes_and_memory_is_bounded() -> None:
    """In whatever order they came; endless new ones, tenants and large ones are not kept."""
    door = intake(capacity=100_000)
    turned = [{"a": "1", "b": "2"}, {"b": "2", "a": "1"}]
    entries = take_columns(door, USAGE, columns(*({**PLAIN, "attributes": a} for a in turned)))
    assert entries is not None
    assert entries[0][9] == entries[1][9]

    for at in range(0, 3 * SERIES_CACHED, 100):
        several = [
            {**PLAIN, "tenant": f"t{at + n}", "attributes": {"request": str(at + n)}}
            for n in range(100)
        ]
        assert take_columns(door, USAGE, columns(*several)) is not None
    large = {**PLAIN, "attributes": {"a": "x" * (FRAGMENT_CACHED_BYTES_MAX + 1)}}
    assert take_columns(door, USAGE, columns(large)) is not None

    assert max(map(len, door.ordered.young.values())) <= FRAGMENT_CACHED_BYTES_MAX
    assert len(door.ordered.young) <= SERIES_CACHED
    assert len(door.series.young) <= SERIES_CACHED
