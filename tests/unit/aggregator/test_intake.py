"""Judging one event: duplicates, replays of what was refused, and callers' keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.changes import Changes, Tally
from meterstream_aggregator.dedup import ProducerKey
from meterstream_aggregator.intake import Intake, content_hash
from meterstream_aggregator.refusals import Reason
from meterstream_aggregator.state import KEY_HORIZON, State
from meterstream_schemas.events import EventKind, MeterEvent
from tests.unit.aggregator.making import NOW, PRODUCER, READINGS, event, known, numbered

if TYPE_CHECKING:
    from meterstream_aggregator.dedup import Numbers

MINE = ProducerKey(0, PRODUCER)


class _Judge:
    """A judge with a log of its own: each event gets the next offset."""

    def __init__(self, state: State | None = None) -> None:
        self.state = state if state is not None else known()
        self.changes = Changes()
        self._intake = Intake(self.state, READINGS, self.changes)
        self._offset = 0

    def __call__(self, said: MeterEvent, *, at: int = NOW) -> bool:
        self._offset += 1
        return self._intake.accept(LogRecord(0, self._offset, at, said))

    @property
    def tally(self) -> Tally:
        return self.changes.tally(0)

    @property
    def numbers(self) -> Numbers:
        return self.state.numbers[MINE]

    @property
    def reasons(self) -> list[Reason]:
        return [letter.refusal.reason for letter in self.changes.dead_letters]


def test_a_repeated_number_is_a_duplicate() -> None:
    """The second of two is not counted, whatever it says: the number decides."""
    judge = _Judge()

    assert judge(numbered(1))
    assert not judge(numbered(1, quantity=99))

    assert judge.tally == Tally(counted=1, duplicates=1)
    assert (judge.numbers.counted, judge.numbers.duplicates) == (1, 1)


def test_a_foreign_event_has_no_number() -> None:
    """Without a producer each position of the log counts."""
    judge = _Judge()

    assert judge(event())
    assert judge(event())
    assert not judge.state.numbers


def test_a_refused_number_is_seen_and_its_replay_counted_once() -> None:
    """A dead letter leaves no hole; mended and sent again it counts, and only once."""
    judge = _Judge()

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
    judge = _Judge()

    assert not judge(numbered(1, lane=999))
    assert not judge(numbered(1, lane=999))

    assert judge.reasons == [Reason.INVALID_IDENTITY] * 2
    assert not judge.state.numbers


def test_a_mark_is_no_event() -> None:
    """A mark claims, closes, and spends no number."""
    judge = _Judge()
    mark = event(kind=EventKind.MARK, tenant="", type="", producer=PRODUCER, lane=3, sequence=2)

    assert not judge(mark)
    assert judge.numbers.missing() == [(3, 1, 2)]
    before = judge.numbers.closed
    assert not judge(mark._replace(attributes={"closing": "true"}))

    assert (before, judge.numbers.closed) == (False, True)
    assert judge.tally == Tally()
    assert judge.numbers.last_append == NOW


@pytest.mark.parametrize("number", [None, 5])
def test_a_key_counts_once(number: int | None) -> None:
    """The same content under the same key is a duplicate, under any number or none."""
    judge = _Judge()
    again = event(key="k", quantity=10, scale=1)

    assert judge(event(key="k"))
    assert not judge(again if number is None else numbered(number, key="k", quantity=10, scale=1))
    assert judge(event(key="k", tenant="other"))

    assert judge.tally == Tally(counted=2, duplicates=1)


def test_a_key_with_other_content_is_a_conflict() -> None:
    """The first in the log holds the key; the other is a dead letter, and so is its replay not."""
    judge = _Judge()

    assert judge(numbered(1, key="k"))
    assert not judge(numbered(2, key="k", quantity=2))
    assert not judge(numbered(2, key="k", quantity=2))

    assert judge.reasons == [Reason.KEY_CONFLICT]
    assert judge.tally == Tally(counted=1, duplicates=1, refused=1)
    assert not judge.numbers.missing()


def test_a_conflict_mended_counts() -> None:
    """Sent again under its number with a key of its own, a conflict counts."""
    judge = _Judge()
    judge(numbered(1, key="k"))
    judge(numbered(2, key="k", quantity=2))

    assert judge(numbered(2, key="k2", quantity=2))


def test_a_refused_event_does_not_take_the_key() -> None:
    """A key is used by the event that counts, not by one that was refused."""
    judge = _Judge()

    assert not judge(event(key="k", scale=19))
    assert judge(event(key="k"))


def test_a_key_is_forgotten_after_its_horizon() -> None:
    """Up to ninety days of append time the key holds, and then it is free."""
    judge = _Judge()
    later = NOW + KEY_HORIZON

    assert judge(event(key="k"))
    assert not judge(event(key="k"), at=later)
    assert judge(event(key="k", quantity=2), at=later + 1)
    assert not judge(event(key="k", quantity=2), at=later + 2)


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
    """Number, key and tenant are not content, and equal amounts are equal."""
    given = event(quantity=15, scale=1, attributes={"a": "1", "b": "2"})
    same = numbered(9, quantity=150, scale=2, key="k", tenant="x", attributes={"b": "2", "a": "1"})

    assert content_hash(same) == content_hash(given)
