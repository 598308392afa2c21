"""The fold by columns equals the plain fold, whatever arrives."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings

from meterstream_aggregator import columnar, lanes
from meterstream_aggregator.batch import LogRecord, batch_of_records
from meterstream_aggregator.catalogue import HOUR
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.dedup import (
    INTERVALS_MAX,
    PRODUCER_HORIZON,
    Numbers,
    ProducerKey,
)
from meterstream_aggregator.fold import fold
from meterstream_aggregator.refusals import Reason, refusal
from meterstream_aggregator.state import Readings, State
from meterstream_schemas.events import EventKind, MeterEvent
from tests.unit.aggregator.making import (
    CATALOGUE,
    NOW,
    PRODUCER,
    READINGS,
    RECORDS,
    boundary,
    by_columns,
    comparable,
    event,
    known,
    logged,
    numbered,
    plainly,
    reaching,
)


@settings(max_examples=120)
@given(RECORDS)
def test_columns_equal_the_plain_fold(records: list[LogRecord]) -> None:
    """Every field of the changes agrees, in content and order; and what changes in place."""
    plain, plain_state = plainly(records, known())

    fast, fast_state = by_columns(records, known())

    assert comparable(fast) == comparable(plain)
    assert fast_state.keys == plain_state.keys
    assert fast_state.numbers.keys() == plain_state.numbers.keys()


@settings(max_examples=80)
@given(RECORDS)
def test_masks_find_every_refusal(records: list[LogRecord]) -> None:
    """`refusal` is the only judge: the vector masks never hide a row that it would refuse."""
    batch = batch_of_records(records)

    found = columnar.refusals_of(batch, READINGS)

    assert found == {
        row: why
        for row, record in enumerate(records)
        if (why := refusal(record.event, record.append_time, CATALOGUE)) is not None
    }


def test_nothing_is_a_batch_too() -> None:
    """A batch without events changes nothing: all of its records may have been undecodable."""
    changes, _ = by_columns([], known())

    assert comparable(changes) == comparable(plainly([], known())[0])


def test_time_ends_a_session_without_an_event() -> None:
    """A due session is charged by a batch that has no event at all, once append time says so."""
    start = logged([boundary("START", NOW), boundary("HEARTBEAT", NOW + 90_000_000)])
    first, state = plainly(start, known())
    [(key, (session, deadline))] = first.sessions.items()
    assert deadline == NOW + 1000 + 1_800_000_000

    later = State(
        before=state.after,
        after={**state.after, 0: deadline},
        numbers={},
        sessions={key: session},
        due=[key],
    )
    changes = columnar.fold_columns(batch_of_records([]), later, READINGS)

    [delta] = changes.usage
    assert [quantity for _, quantity in delta.rows().values()] == [90_000_000]
    assert changes.sessions[key] == (session, NOW + 1000 + 2_700_000_000)


@pytest.mark.parametrize("scale", [99, -1, 2**31 - 1, -(2**31)])
def test_a_boundary_of_any_scale_is_folded(scale: int) -> None:
    """A keyed session boundary with a meaningless scale stops nobody."""
    records = logged([boundary("START", NOW, scale=scale, key="k", sequence=1, producer=PRODUCER)])

    changes, _ = by_columns(records, known())

    assert comparable(changes) == comparable(plainly(records, known())[0])
    assert changes.tallies[0].counted == 1


def test_a_full_lane_refuses_in_both_folds() -> None:
    """A number that needs one interval too many is refused, and judged the same by both."""
    spans = [(n, n) for n in range(3, 3 + 2 * INTERVALS_MAX, 2)]
    full = Numbers(beyond={3: spans}, since={3: NOW}, last_append=NOW)
    state = known()
    state.numbers[ProducerKey(0, PRODUCER)] = full
    last = 3 + 2 * INTERVALS_MAX
    records = logged(
        [numbered(last + 5), numbered(last + 5, type="nobody"), numbered(4), numbered(1)]
    )

    plain, _ = plainly(records, copy.deepcopy(state))
    fast, _ = by_columns(records, copy.deepcopy(state))

    assert comparable(fast) == comparable(plain)
    assert [letter.refusal.reason for letter in fast.dead_letters] == [Reason.INVALID_IDENTITY] * 2
    assert fast.tallies[0].counted == 2


def test_more_groups_than_bits_are_folded_plainly() -> None:
    """A batch whose groups do not pack into 64 bits gives the same rows."""
    names = [f"g{n}" for n in range(8)]
    readings = Readings(
        parse_catalogue(
            f"meters: [{{name: api, aggregate: sum, group_by: {names}}}]".replace("'", "")
        )
    )
    rng = np.random.default_rng(1)
    records = logged(
        [
            event(attributes={name: str(rng.integers(300)) for name in names}, tenant=f"t{n}")
            for n in range(300)
        ]
    )

    fast = columnar.fold_columns(batch_of_records(records), reaching(known(), records), readings)
    plain = fold(records, reaching(known(), records), readings)

    assert comparable(fast) == comparable(plain)
    assert len(fast.usage[0].rows()) == 300


def test_a_gap_between_definitions_reads_nothing() -> None:
    """The masks know when no definition of a type reads, be it in the midst of their time."""
    first = dataclasses.replace(CATALOGUE.meter("credit"), until=NOW - 3 * HOUR)
    second = dataclasses.replace(first, since=NOW - HOUR, until=NOW)
    other = dataclasses.replace(first, name="other", type="pay", since=NOW - 3 * HOUR, until=NOW)
    again = dataclasses.replace(other, since=NOW, until=None)
    readings = Readings(dataclasses.replace(CATALOGUE, meters=(first, second, other, again)))
    types, times = ("credit", "pay", "api"), range(NOW - 4 * HOUR, NOW + HOUR, HOUR)
    records = logged([event(type=name, time=time) for name in types for time in times])

    fast = columnar.fold_columns(batch_of_records(records), reaching(known(), records), readings)
    plain = fold(records, reaching(known(), records), readings)

    assert comparable(fast) == comparable(plain)
    assert fast.tallies[0].refused == 3 + 1 + 5


def test_a_tick_is_no_mark_of_anybody() -> None:
    """Whatever lane and number a mark without a producer names, it touches no numbers."""
    tick = event(kind=EventKind.MARK, lane=256, sequence=99)
    records = logged([tick, numbered(1, lane=0), tick])

    fast, _ = by_columns(records, known())

    assert comparable(fast) == comparable(plainly(records, known())[0])
    assert not fast.numbers[ProducerKey(0, PRODUCER)].since


def test_a_silent_producer_is_judged_record_by_record() -> None:
    """One that comes back too late is refused; the others of the batch are counted as ever."""
    records = logged([numbered(1), numbered(1, producer="b" * 32), numbered(2)])
    records[2] = records[2]._replace(append_time=NOW + PRODUCER_HORIZON + 1)
    alone = [records[0], records[2]]

    for told in (records, alone):
        fast, _ = by_columns(told, known())

        assert comparable(fast) == comparable(plainly(told, known())[0])
        assert [one.refusal.reason for one in fast.dead_letters] == [Reason.EXPIRED_PRODUCER]


def test_a_mark_among_numbers_tells_since_when_one_is_missing() -> None:
    """Marks and numbers of a lane with a hole are noted in the order of the log."""
    mark: int | MeterEvent = numbered(5, kind=EventKind.MARK)
    orders = ([1, mark, 3, 2], [mark, 1, 2, 3, 4, 5], [1, 2, 5, mark, 3, 4], [1, 2, mark], [mark])
    for order in orders:
        said = [one if isinstance(one, MeterEvent) else numbered(one) for one in order]

        fast, _ = by_columns(logged(said), known())

        assert comparable(fast) == comparable(plainly(logged(said), known())[0])


def test_only_silent_producers_are_left_to_the_judge() -> None:
    """Of two that are known the one that was silent for too long is refused."""
    state = known()
    state.numbers[ProducerKey(0, PRODUCER)] = Numbers(last_append=NOW - PRODUCER_HORIZON - 1)
    state.numbers[ProducerKey(0, "b")] = Numbers(last_append=NOW - PRODUCER_HORIZON + HOUR)
    records = logged([numbered(1), numbered(1, producer="b")])

    fast, _ = by_columns(records, state)

    assert comparable(fast) == comparable(plainly(records, state)[0])
    assert (fast.tallies[0].counted, fast.tallies[0].refused) == (1, 1)


@pytest.mark.parametrize(
    "told",
    [
        [1, 2, 3, 1, 2, 3, 4, 5],
        [2, 1, 2],
        [1, 1, 1, 2],
        [1, 2, 4, 3, 4, 5],
        [3, 1, 2, 2**31 + 5, 2**31 + 5],
        [1, 2**40, 2, 3, 2**40],
    ],
)
@pytest.mark.parametrize("before", [0, 1, 5, 2**31])
def test_what_is_sent_again_is_found_again(told: list[int], before: int) -> None:
    """Runs that go back a little and on, of lanes that had numbers before; beside a whole one."""
    state = known()
    for producer in (PRODUCER, "b"):
        numbers = state.numbers_of(ProducerKey(0, producer))
        numbers.upto[3], numbers.last_append = before, NOW
    said = [numbered(number) for number in told]
    said += [numbered(number, lane=4) for number in (1, 2, 1, 2, 3)]
    said += [numbered(before + number, producer="b") for number in (1, 2)]

    fast, _ = by_columns(logged(said), state)
    plain, _ = plainly(logged(said), state)

    assert comparable(fast) == comparable(plain)


def test_what_only_repeats_is_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole runs are compared at once, as long as no number is missing."""

    def never(*_: object) -> None:
        raise AssertionError("walked")

    monkeypatch.setattr(lanes, "_walk", never)
    said = [numbered(number) for number in (1, 2, 3, 1, 2, 3, 4, 2, 5)]

    fast, state = by_columns(logged(said), known())

    assert (fast.tallies[0].counted, fast.tallies[0].duplicates) == (5, 4)
    assert state.numbers[ProducerKey(0, PRODUCER)].upto[3] == 5
    with pytest.raises(AssertionError, match="walked"):
        by_columns(logged([numbered(1), numbered(3)]), known())
