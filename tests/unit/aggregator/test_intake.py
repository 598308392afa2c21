"""Judging one event: duplicates, replays of what was refused, and callers' keys."""

from __future__ import annotations

import pytest

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.changes import CallerKey, KeyState, Tally
from meterstream_aggregator.dedup import INTERVALS_MAX, PRODUCER_HORIZON
from meterstream_aggregator.intake import content_hash
from meterstream_aggregator.refusals import Reason, Refusal
from meterstream_aggregator.state import KEY_HORIZON
from meterstream_schemas.events import EventKind, MeterEvent
from tests.unit.aggregator.judging import MINE, Judge
from tests.unit.aggregator.making import (
    NOW,
    PRODUCER,
    boundary,
    event,
    known,
    numbered,
)

MARK = event(kind=EventKind.MARK, tenant="", type="", producer=PRODUCER, lane=3, sequence=2)
LATER = NOW + PRODUCER_HORIZON + 1


def test_a_repeated_number_is_a_duplicate() -> None:
    """The second of two is not counted, whatever it says: the number decides."""
    judge = Judge()

    assert judge(numbered(1))
    assert not judge(numbered(1, quantity=99))

    assert judge.tally == Tally(counted=1, duplicates=1)
    assert (judge.numbers.counted, judge.numbers.duplicates) == (1, 1)


def test_a_foreign_event_has_no_number() -> None:
    """Without a producer each position of the log counts."""
    judge = Judge()

    assert judge(event())
    assert judge(event())
    assert not judge.state.numbers


def test_a_refused_number_is_seen_and_its_replay_counted_once() -> None:
    """A dead letter leaves no hole; mended and sent again it counts, and only once."""
    judge = Judge()

    assert not judge(numbered(1, type="nobody"))
    assert not judge.numbers.missing()
    assert not judge(numbered(1, type="nobody"))
    assert judge(numbered(1))
    assert not judge(numbered(1))

    assert judge.reasons == [Reason.UNKNOWN_TYPE]
    assert judge.tally == Tally(counted=1, duplicates=2, refused=1)
    assert not judge.state.refused


def test_a_hidden_identity_leaves_no_number() -> None:
    """Who cannot be named is refused as often as it comes, and its number is not noted."""
    judge = Judge()

    assert not judge(numbered(1, lane=999))
    assert not judge(numbered(1, lane=999))

    assert judge.reasons == [Reason.INVALID_IDENTITY] * 2
    assert not judge.state.numbers


def test_a_mark_is_no_event() -> None:
    """A mark claims, closes, and spends no number."""
    judge = Judge()

    assert not judge(MARK)
    assert judge.numbers.missing() == [(3, 1, 2, NOW)]
    before = judge.numbers.closed
    assert not judge(MARK._replace(attributes={"closing": "true"}))

    assert (before, judge.numbers.closed) == (False, True)
    assert judge.tally == Tally()
    assert judge.numbers.last_append == NOW


def test_a_sign_of_life_is_the_latest() -> None:
    """The columnar fold hears of marks after the numbers that came later: no time goes back."""
    judge = Judge()

    judge(numbered(1), at=NOW + 5)
    judge(MARK, at=NOW)

    assert judge.numbers.last_append == NOW + 5


def test_a_tick_leaves_no_trace() -> None:
    """A mark of nobody carries the log's time and nothing else."""
    judge = Judge()

    assert not judge(MARK._replace(producer="", sequence=0))

    assert not judge.state.numbers
    assert judge.changes.tallies.get(0, Tally()) == Tally()
    assert not judge.changes.dead_letters


def test_a_hole_is_known_since_the_number_after_it() -> None:
    """The log time of the number that left it, until the lane is whole."""
    judge = Judge()

    judge(numbered(1), at=NOW)
    judge(numbered(3), at=NOW + 1)
    judge(numbered(5), at=NOW + 2)
    assert judge.numbers.missing() == [(3, 2, 2, NOW + 1), (3, 4, 4, NOW + 1)]
    judge(numbered(4), at=NOW + 3)
    judge(numbered(2), at=NOW + 4)

    assert not judge.numbers.missing()
    assert not judge.numbers.since


def test_a_producer_comes_back_within_its_horizon() -> None:
    """At the very end of the horizon its number counts, and the horizon begins anew."""
    judge = Judge()

    assert judge(numbered(1))
    assert judge(numbered(2), at=LATER - 1)
    assert judge(numbered(3), at=LATER + 1)


def test_an_expired_producer_is_not_heard() -> None:
    """After its horizon whatever it sends is refused, as often as it comes, and changes nothing."""
    judge = Judge()
    judge(numbered(1))

    assert not judge(numbered(2), at=LATER)
    assert not judge(numbered(2), at=LATER)
    assert not judge(numbered(1, type="nobody"), at=LATER)
    assert not judge(MARK._replace(sequence=9), at=LATER)

    assert judge.reasons == [Reason.EXPIRED_PRODUCER] * 3
    assert judge.tally == Tally(counted=1, refused=3)
    assert (judge.numbers.seen(), judge.numbers.refusals) == (1, 0)
    assert (judge.numbers.last_append, judge.numbers.missing()) == (NOW, [])
    assert not judge.state.refused


def test_another_partition_knows_a_producer_by_itself() -> None:
    """Expiry is a matter of one partition and one incarnation."""
    state = known()
    judge = Judge(state)
    judge(numbered(1))

    assert judge(numbered(1, producer="b" * 32), at=LATER)
    assert judge(event(), at=LATER)
    assert MINE in state.numbers


def test_a_number_too_many_is_refused() -> None:
    """A number that would need one interval too many is no identity; it may come again."""
    judge = Judge()
    for at in range(INTERVALS_MAX):
        judge(numbered(2 + 2 * at))

    assert not judge(numbered(2 * INTERVALS_MAX + 2))
    assert judge.reasons == [Reason.INVALID_IDENTITY]
    assert judge(numbered(1))
    assert judge(numbered(2 * INTERVALS_MAX + 2))


def test_a_boundary_before_what_is_settled_is_refused_once() -> None:
    """The session fold is asked about boundaries without an id, after number and key."""
    late = Refusal(Reason.SETTLED_SESSION, "time: is before what is settled")
    asked: list[LogRecord] = []

    def settled(record: LogRecord) -> Refusal | None:
        asked.append(record)
        return late if record.event.time < NOW else None

    judge = Judge(settled=settled)
    nameless = {"session": None, "producer": PRODUCER, "lane": 3}

    assert judge(boundary("START", NOW - 1, session="s"))
    assert judge(event())
    assert not asked
    assert judge(boundary("START", NOW, sequence=1, **nameless))
    assert judge(boundary("START", NOW, key="k", sequence=2, **nameless))
    assert not judge(boundary("END", NOW - 1, sequence=3, **nameless))
    assert not judge(boundary("END", NOW - 1, sequence=3, **nameless))
    assert not judge(boundary("END", NOW - 1, key="j", sequence=4, **nameless))
    asked.clear()
    assert not judge(boundary("START", NOW, key="k", sequence=5, **nameless))

    assert not asked
    assert judge.reasons == [Reason.SETTLED_SESSION] * 2
    assert judge.tally == Tally(counted=4, duplicates=2, refused=2)
    assert not judge.numbers.missing()
    assert (0, "acme", "j") not in judge.changes.keys


@pytest.mark.parametrize("number", [None, 5])
def test_a_key_counts_once(number: int | None) -> None:
    """The same content under the same key is a duplicate, under any number or none."""
    judge = Judge()
    again = event(key="k", quantity=10, scale=1)

    assert judge(event(key="k"))
    assert not judge(again if number is None else numbered(number, key="k", quantity=10, scale=1))
    assert judge(event(key="k", tenant="other"))

    assert judge.tally == Tally(counted=2, duplicates=1)


def test_a_key_with_other_content_is_a_conflict() -> None:
    """The first in the log holds the key; the other is a dead letter, and so is its replay not."""
    judge = Judge()

    assert judge(numbered(1, key="k"))
    assert not judge(numbered(2, key="k", quantity=2))
    assert not judge(numbered(2, key="k", quantity=2))

    assert judge.reasons == [Reason.KEY_CONFLICT]
    assert judge.tally == Tally(counted=1, duplicates=1, refused=1)
    assert not judge.numbers.missing()


def test_a_conflict_mended_counts() -> None:
    """Sent again under its number with a key of its own, a conflict counts."""
    judge = Judge()
    judge(numbered(1, key="k"))
    judge(numbered(2, key="k", quantity=2))

    assert judge(numbered(2, key="k2", quantity=2))


def test_a_refused_event_does_not_take_the_key() -> None:
    """A key is used by the event that counts, not by one that was refused."""
    judge = Judge()

    assert not judge(event(key="k", scale=19))
    assert judge(event(key="k"))


def test_a_key_is_forgotten_after_its_horizon() -> None:
    """Up to ninety days of append time the key holds, and then it is free."""
    judge = Judge()
    later = NOW + KEY_HORIZON

    assert judge(event(key="k"))
    assert not judge(event(key="k"), at=later)
    assert judge(event(key="k", quantity=2), at=later + 1)
    assert not judge(event(key="k", quantity=2), at=later + 2)


def test_a_key_is_kept_with_what_it_named() -> None:
    """Its content, the log time, and the event's own time."""
    judge = Judge()
    said = event(key="k", time=NOW - 5)

    judge(said, at=NOW + 7)

    kept = CallerKey(0, "acme", "k", content_hash(said), NOW + 7, KeyState.COUNTED, NOW - 5)
    assert judge.changes.keys == {(0, "acme", "k"): kept}
    assert judge.state.keys == judge.changes.keys


@pytest.mark.parametrize(
    "other",
    [
        event(kind=EventKind.SESSION_END),
        event(type="credit"),
        event(time=NOW + 1),
        event(quantity=2),
        event(scale=1),
        event(session=""),
        event(subject=""),
        event(attributes={"a": ""}),
    ],
)
def test_content_is_everything_that_counts(other: MeterEvent) -> None:
    """Each field that may change a figure changes the hash."""
    assert content_hash(other) != content_hash(event())


def test_content_is_not_the_number_nor_the_spelling() -> None:
    """Number, key and tenant are not content, equal amounts are equal, and so is a VOID."""
    given = event(quantity=15, scale=1, attributes={"a": "1", "b": "2"})
    same = numbered(9, quantity=150, scale=2, key="k", tenant="x", attributes={"b": "2", "a": "1"})

    assert content_hash(same) == content_hash(given)
    assert content_hash(same._replace(kind=EventKind.VOID)) == content_hash(given)


def test_content_of_a_boundary_has_any_scale() -> None:
    """A boundary's scale means nothing and may be anything; it is content all the same."""
    plain, odd = (boundary("END", NOW, key="k", scale=scale) for scale in (0, 99))
    judge = Judge()

    assert judge(odd)
    assert not judge(odd)
    assert not judge(plain)

    assert judge.tally == Tally(counted=1, duplicates=1, refused=1)
