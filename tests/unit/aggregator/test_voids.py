"""Taking events back: every order of an event, its VOID and repeats of both."""

from __future__ import annotations

from itertools import permutations
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_aggregator.changes import KeyState, Tally
from meterstream_aggregator.refusals import Reason
from meterstream_aggregator.state import KEY_HORIZON
from meterstream_schemas.events import EventKind, MeterEvent
from tests.unit.aggregator.judging import Judge
from tests.unit.aggregator.making import NOW, PRODUCER, boundary, event

SAID = event(type="run", key="k", quantity=15, scale=1, attributes={"route": "/"})
VOID = SAID._replace(kind=EventKind.VOID)
OTHER = SAID._replace(quantity=16)
OTHER_VOID = VOID._replace(quantity=16)
PLACE = (0, "acme", "k")


def under(sequence: int, said: MeterEvent) -> MeterEvent:
    """An event under a number."""
    return said._replace(producer=PRODUCER, lane=3, sequence=sequence)


class Case(NamedTuple):
    """What is said in order, how often each is counted, and what the key has seen in the end."""

    said: str
    times: tuple[int, ...]
    state: KeyState
    tally: Tally


SAYINGS = {"E": SAID, "V": VOID, "e": OTHER, "v": OTHER_VOID}
CASES = [
    Case("E", (1,), KeyState.COUNTED, Tally(1)),
    Case("V", (0,), KeyState.AWAITED, Tally(1)),
    Case("EE", (1, 0), KeyState.COUNTED, Tally(1, 1)),
    Case("VV", (0, 0), KeyState.AWAITED, Tally(1, 1)),
    Case("EV", (1, -1), KeyState.VOIDED, Tally(2)),
    Case("VE", (0, 0), KeyState.VOIDED, Tally(2)),
    Case("EVV", (1, -1, 0), KeyState.VOIDED, Tally(2, 1)),
    Case("EVE", (1, -1, 0), KeyState.VOIDED, Tally(2, 1)),
    Case("EEV", (1, 0, -1), KeyState.VOIDED, Tally(2, 1)),
    Case("VEE", (0, 0, 0), KeyState.VOIDED, Tally(2, 1)),
    Case("VEV", (0, 0, 0), KeyState.VOIDED, Tally(2, 1)),
    Case("VVE", (0, 0, 0), KeyState.VOIDED, Tally(2, 1)),
    Case("EVEV", (1, -1, 0, 0), KeyState.VOIDED, Tally(2, 2)),
    Case("Ee", (1, 0), KeyState.COUNTED, Tally(1, 0, 1)),
    Case("Ev", (1, 0), KeyState.COUNTED, Tally(1, 0, 1)),
    Case("Ve", (0, 0), KeyState.AWAITED, Tally(1, 0, 1)),
    Case("Vv", (0, 0), KeyState.AWAITED, Tally(1, 0, 1)),
    Case("EveV", (1, 0, 0, -1), KeyState.VOIDED, Tally(2, 0, 2)),
    Case("VevE", (0, 0, 0, 0), KeyState.VOIDED, Tally(2, 0, 2)),
    Case("EVev", (1, -1, 0, 0), KeyState.VOIDED, Tally(2, 0, 2)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.said)
@pytest.mark.parametrize("is_numbered", [False, True])
def test_event_and_void_in_any_order(case: Case, is_numbered: bool) -> None:
    """E and V are an event and its VOID, e and v the same key with other content."""
    judge = Judge()
    said = [SAYINGS[letter] for letter in case.said]
    if is_numbered:
        said = [under(n + 1, each) for n, each in enumerate(said)]

    times = tuple(judge(each) for each in said)

    assert times == case.times
    assert judge.state.keys[PLACE].state is case.state
    assert judge.tally == case.tally
    assert set(judge.reasons) <= {Reason.KEY_CONFLICT}
    if is_numbered:
        numbers = judge.numbers
        assert (numbers.counted, numbers.duplicates, numbers.refusals) == (
            case.tally.counted,
            case.tally.duplicates,
            case.tally.refused,
        )
        assert not numbers.missing()


@given(st.integers(1, 3), st.integers(1, 3), st.data())
def test_all_orders_come_to_nothing(events: int, voids: int, data: st.DataObject) -> None:
    """Whatever the order of event, VOID, repeats and resends: counted as often as taken back."""
    said = [under(n, SAID) for n in range(1, events + 1)]
    said += [under(n, VOID) for n in range(events + 1, events + voids + 1)]
    said += data.draw(st.lists(st.sampled_from(said), max_size=3))
    judge = Judge()

    times = [judge(each) for each in data.draw(st.permutations(said))]

    assert sum(times) == 0
    assert judge.tally == Tally(counted=2, duplicates=len(said) - 2)
    assert judge.state.keys[PLACE].state is KeyState.VOIDED
    running = [sum(times[: n + 1]) for n in range(len(times))]
    assert set(running) <= {0, 1}


@pytest.mark.parametrize("order", [*permutations("EVev")], ids="".join)
def test_the_first_of_two_contents_holds_the_key(order: tuple[str, ...]) -> None:
    """Both contents come with their VOIDs: one is counted and taken back, the other refused."""
    judge = Judge()

    assert sum(judge(SAYINGS[letter]) for letter in order) == 0

    assert judge.tally == Tally(counted=2, refused=2)
    assert judge.reasons == [Reason.KEY_CONFLICT] * 2


@pytest.mark.parametrize("mended_first", [False, True])
def test_a_refused_event_and_its_refused_void_are_replayed(
    mended_first: bool,
) -> None:
    """Refused numbers hold no key; mended, event and VOID find each other in either order."""
    judge = Judge()
    bad = [under(1, SAID._replace(type="nobody")), under(2, VOID._replace(type="nobody"))]
    mended = [under(1, SAID), under(2, VOID)]

    assert [judge(each) for each in bad] == [0, 0]
    assert not judge.state.keys
    times = [judge(each) for each in (mended if mended_first else mended[::-1])]
    again = [judge(each) for each in (*mended, *bad)]

    assert times == ([1, -1] if mended_first else [0, 0])
    assert again == [0] * 4
    assert judge.tally == Tally(counted=2, duplicates=4, refused=2)
    assert not judge.state.refused


def test_a_conflicting_void_mended_takes_back() -> None:
    """A VOID with wrong content is a dead letter; its mended replay takes the event back."""
    judge = Judge()

    assert judge(under(1, SAID)) == 1
    assert judge(under(2, OTHER_VOID)) == 0
    assert judge(under(2, OTHER_VOID)) == 0
    assert judge(under(2, VOID)) == -1
    assert judge(under(2, VOID)) == 0

    assert judge.reasons == [Reason.KEY_CONFLICT]
    assert judge.tally == Tally(counted=2, duplicates=2, refused=1)


def test_a_replay_that_the_key_knows_is_a_duplicate() -> None:
    """A refused VOID whose mended twin came under another number is refused no more."""
    judge = Judge()
    judge(under(1, SAID))
    judge(under(2, OTHER_VOID))

    assert judge(under(3, VOID)) == -1
    assert judge(under(2, VOID)) == 0

    assert judge.tally == Tally(counted=2, duplicates=1, refused=1)
    assert not judge.state.refused


@pytest.mark.parametrize("changed", [{"session": "s"}, {"subject": "u"}, {"time": NOW - 1}])
def test_a_void_repeats_everything(changed: dict[str, object]) -> None:
    """Each field of the event is part of what its VOID must say."""
    judge = Judge()
    judge(SAID)

    assert judge(VOID._replace(**changed)) == 0  # type: ignore[arg-type]  # a test may say anything
    assert judge.reasons == [Reason.KEY_CONFLICT]


@pytest.mark.parametrize("void_first", [False, True])
def test_a_boundary_is_not_taken_back(void_first: bool) -> None:
    """A VOID has the content of usage: with a session's boundary it conflicts, in either order."""
    judge = Judge()
    start = boundary("START", NOW, key="k")
    void = start._replace(kind=EventKind.VOID)

    first, second = (void, start) if void_first else (start, void)
    judge(first)

    assert judge(second) == 0
    assert judge.reasons == [Reason.KEY_CONFLICT]


def test_tenants_and_keys_are_apart() -> None:
    """A VOID finds its event by tenant and key: another's is another."""
    judge = Judge()

    assert judge(SAID) == 1
    assert judge(VOID._replace(tenant="other")) == 0
    assert judge(VOID._replace(key="l")) == 0
    assert judge(VOID) == -1


def test_a_void_within_the_horizon_of_its_event() -> None:
    """It takes back up to ninety days of log time afterwards; later it finds nothing and waits."""
    in_time, too_late = Judge(), Judge()
    in_time(SAID)
    too_late(SAID)

    assert in_time(VOID, at=NOW + KEY_HORIZON) == -1
    assert too_late(VOID, at=NOW + KEY_HORIZON + 1) == 0

    assert too_late.state.keys[PLACE].state is KeyState.AWAITED


def test_a_waiting_void_is_forgotten_after_its_horizon() -> None:
    """An event that comes more than ninety days after its VOID is counted."""
    met, missed = Judge(), Judge()
    met(VOID)
    missed(VOID)

    assert met(SAID, at=NOW + KEY_HORIZON) == 0
    assert missed(SAID, at=NOW + KEY_HORIZON + 1) == 1

    assert missed.state.keys[PLACE].state is KeyState.COUNTED


@pytest.mark.parametrize("void_first", [False, True])
def test_the_horizon_begins_anew_with_each_state(void_first: bool) -> None:
    """Who came second is known for ninety days too: no repeat of it counts."""
    judge = Judge()
    first, second = (VOID, SAID) if void_first else (SAID, VOID)
    at = NOW + KEY_HORIZON

    total = judge(first) + judge(second, at=at)

    assert total == 0
    assert judge(SAID, at=at + KEY_HORIZON) == 0
    assert judge(VOID, at=at + KEY_HORIZON) == 0
    assert judge.tally.duplicates == 2
    assert judge(SAID, at=at + KEY_HORIZON + 1) == 1
