"""The store's writing side, over every implementation: fences, positions, and exact rows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterstream_aggregator.catalogue import HOUR, MINUTE, MOMENT, Aggregate
from meterstream_aggregator.changes import Changes, OutboxMessage
from meterstream_aggregator.dedup import Numbers, ProducerKey, RefusedNumber, pack
from meterstream_aggregator.errors import Fenced

if TYPE_CHECKING:
    from collections.abc import Callable

    from meterstream_aggregator.changes import UsageKey
    from meterstream_aggregator.sessions import Session
    from meterstream_aggregator.store.port import Store
    from meterstream_aggregator.subjects import Subject

from tests.contract.stores import (
    BINDING,
    CATALOGUE,
    NOW,
    SESSIONS,
    SUBJECTS,
    WINDOW,
    Place,
    added,
    commit,
    row,
    session_key,
    step,
    subject_key,
    usage,
)

PRODUCER = "a" * 32


def test_a_claim_raises_the_epoch(store: Store) -> None:
    """Each claim is newer than the last; nothing was folded in between."""
    first, second = store.claim(2, "a"), store.claim(2, "b")

    assert (first.next_offset, first.appended) == (None, 0)
    assert second == first._replace(epoch=first.epoch + 1)


def test_a_claim_begins_where_the_last_owner_stood(store: Store) -> None:
    """Position and append time are the store's, also at offset 0."""
    claim = store.claim(1, "a")
    store.commit([step(claim, 0, appended=7)], Changes())

    again = store.claim(1, "b")

    assert (again.next_offset, again.appended) == (0, 7)
    assert store.claim(0, "b").next_offset is None


def test_of_two_owners_the_newer_writes(place: Place, store: Store) -> None:
    """Once a partition is claimed again its former owner is fenced, and wrote nothing."""
    other = place.open()
    other.bind(BINDING, CATALOGUE)
    zombie, owner = store.claim(0, "zombie"), other.claim(0, "owner")
    other.commit([step(owner, 5, counted=1)], added({row(): (1, 10)}))

    with pytest.raises(Fenced, match="partition 0 is no longer ours") as caught:
        store.commit([step(zombie, 5, counted=1)], added({row(): (1, 99)}))

    assert caught.value.partition == 0
    assert usage(place.reader()) == {("acme", (), WINDOW, 0, 0): (1, 10)}
    [position] = place.reader().positions()
    assert (position.owner, position.counted, position.next_offset) == ("owner", 1, 5)


def test_a_position_moves_only_from_where_it_was(place: Place, store: Store) -> None:
    """The same step twice, as after a redelivery, is fenced by the position."""
    claim = store.claim(0, "a")
    store.commit([step(claim, 5)], added({row(): (1, 10)}))

    with pytest.raises(Fenced):
        store.commit([step(claim, 5)], added({row(): (1, 10)}))
    with pytest.raises(Fenced):
        store.commit([step(claim._replace(next_offset=4), 6)], added({row(): (1, 10)}))
    store.commit([step(claim._replace(next_offset=5), 6)], added({row(): (1, 10)}))

    assert usage(place.reader()) == {("acme", (), WINDOW, 0, 0): (2, 20)}


def test_one_fenced_partition_stops_all(place: Place, store: Store) -> None:
    """A batch of two partitions is written whole or not at all."""
    mine, theirs = store.claim(0, "a"), store.claim(1, "a")
    store.claim(1, "b")

    with pytest.raises(Fenced):
        store.commit([step(mine, 5), step(theirs, 5)], added({row(): (1, 10)}))

    assert not usage(place.reader())
    assert {p.next_offset for p in place.reader().positions()} == {-1}
    assert store.claim(0, "a").next_offset is None


def test_counters_add_up(place: Place, store: Store) -> None:
    """What became of a partition's events is summed over commits and owners."""
    claim = store.claim(3, "a")
    store.commit([step(claim, 5, counted=2, duplicates=1, refused=2)], Changes())
    claim = store.claim(3, "b")
    store.commit([step(claim, 9, counted=4, appended=NOW + 5)], Changes())

    [position] = place.reader().positions()

    assert position == (3, 9, NOW + 5, claim.epoch, "b", 6, 1, 2)


AMOUNTS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from((-(2**63), 2**63 - 1, -1, 0, 1))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(AMOUNTS, min_size=1, max_size=5), min_size=1, max_size=8))
@pytest.mark.parametrize(
    ("meter", "join"), [("credit", sum), ("credit.least", min), ("credit.most", max)]
)
def test_amounts_join_exactly(
    place: Place,
    store: Store,
    meter: str,
    join: Callable[[list[int]], int],
    batches: list[list[int]],
) -> None:
    """Sums beyond 64 bits and below zero, least and greatest, over commits: to the last unit."""
    claim = store.claim(0, "a")
    tenant = f"t{claim.epoch}"
    for amounts in batches:
        key = row(meter=meter, tenant=tenant, group=("",))
        claim = commit(store, claim, added({key: (len(amounts), join(amounts))}))

    found = usage(place.reader(), meter)[(tenant, ("",), WINDOW, 0, 0)]

    assert found == (sum(map(len, batches)), join([join(amounts) for amounts in batches]))


def test_scales_and_windows_are_rows_of_their_own(place: Place, store: Store) -> None:
    """Amounts of different scales never mix, nor do windows, groups, tenants and partitions."""
    keys = [
        row(), row(scale=18), row(WINDOW + HOUR), row(tenant="b"), row(group=("x",)),
        row(group=("",)), row(WINDOW - 400 * 24 * HOUR), row(tenant="Ünï'; --"),
    ]  # fmt: skip
    store.commit([step(store.claim(0, "a"), 1)], added({key: (1, n) for n, key in enumerate(keys)}))
    elsewhere = row(partition=1)
    store.commit([step(store.claim(1, "a"), 1)], added({elsewhere: (1, 100)}))

    found = list(place.reader().usage(CATALOGUE.meter("credit"), tenants=None, start=0, end=2**55))

    assert Counter((r.tenant, r.group, r.start, r.scale, r.quantity) for r in found) == Counter(
        (key.series.tenant, key.series.group, key.start, key.scale, quantity)
        for key, quantity in [*((key, n) for n, key in enumerate(keys)), (elsewhere, 100)]
    )


def test_many_meters_in_one_commit(place: Place, store: Store) -> None:
    """Rows of meters with other windows and other ways of joining do not meet."""
    changes = added(
        {
            row(meter=meter.name, group=("g",) * len(meter.group_by)): (1, -5)
            for meter in CATALOGUE.meters
        }
    )
    claim = commit(store, store.claim(0, "a"), changes)
    commit(store, claim, changes)

    for meter in CATALOGUE.meters:
        extreme = meter.aggregate in {Aggregate.MIN, Aggregate.MAX}
        assert set(usage(place.reader(), meter.name).values()) == {(2, -5 if extreme else -10)}


def test_what_came_late_is_a_row_of_its_own(place: Place, store: Store) -> None:
    """One window, one scale: in time, and each arrival, side by side."""
    arrivals = [0, WINDOW + HOUR, WINDOW + 2 * HOUR]
    rows = {row(arrival=arrival): (1, n) for n, arrival in enumerate(arrivals, start=1)}
    claim = commit(store, store.claim(0, "a"), added(rows))
    commit(store, claim, added({row(arrival=arrivals[1]): (1, 40)}))

    assert usage(place.reader()) == {
        ("acme", (), WINDOW, 0, 0): (1, 1),
        ("acme", (), WINDOW, arrivals[1], 0): (2, 42),
        ("acme", (), WINDOW, arrivals[2], 0): (1, 3),
    }


def test_a_first_moment_is_a_row_of_its_own(place: Place, store: Store) -> None:
    """The scales of first moments reach beyond those of amounts, and neither meets the other."""
    keys = [row(meter="flow", scale=scale) for scale in (0, 18, MOMENT, MOMENT + 18)]
    changes = added({key: (int(key.scale < MOMENT), n + 1) for n, key in enumerate(keys)})
    commit(store, commit(store, store.claim(0, "a"), changes), changes)

    assert {key[-1]: row for key, row in usage(place.reader(), "flow").items()} == {
        0: (2, 2), 18: (2, 4), MOMENT: (0, 6), MOMENT + 18: (0, 8),
    }  # fmt: skip


def test_a_row_of_nothing_vanishes(place: Place, store: Store) -> None:
    """A session that is taken back leaves no row; what remains of others stays."""
    gone, stays = row(meter="call"), row(WINDOW + MINUTE, meter="call")
    claim = commit(store, store.claim(0, "a"), added({gone: (1, 2**40), stays: (2, 9)}))
    commit(store, claim, added({gone: (-1, -(2**40)), stays: (-1, -5)}))

    assert usage(place.reader(), "call") == {("acme", (), WINDOW + MINUTE, 0, 0): (1, 4)}
    assert place.reader().tenants() == ["acme"]


@pytest.mark.parametrize(
    ("key", "events", "quantity"),
    [
        (row(meter="calls", group=("", "")), 1, 0),
        (row(scale=2), 1, 700),
        (row(scale=2), 1, -(2**62)),
        (row(arrival=WINDOW + HOUR), 1, 5),
        (row(arrival=WINDOW + HOUR), -1, -5),
        (row(meter="flow", scale=MOMENT + 3), 0, 12),
        (row(meter="flow", scale=MOMENT + 3), 0, -12),
    ],
)
def test_what_is_taken_back_leaves_no_trace(
    place: Place, store: Store, key: UsageKey, events: int, quantity: int
) -> None:
    """A row and its opposite, in two commits or in one, whichever of a late one comes first."""
    meter = key.series.meter
    claim = commit(store, store.claim(0, "a"), added({key: (events, quantity)}))
    assert list(usage(place.reader(), meter).values()) == [(events, quantity)]

    claim = commit(store, claim, added({key: (-events, -quantity)}))
    assert not usage(place.reader(), meter)
    commit(store, claim, added({key: (0, 0)}))

    assert not usage(place.reader(), meter)
    assert place.reader().tenants() == ["acme"]


def test_refused_numbers_are_known_until_they_count(store: Store) -> None:
    """What was refused is found again, by its very number, until its replay was counted."""
    first, second = (RefusedNumber(0, PRODUCER, 7, number) for number in (1, 2))
    claim = store.claim(0, "a")
    store.commit([step(claim, 1)], Changes(refused={first: True, second: True}))
    others = [first._replace(partition=1), first._replace(lane=8), first._replace(producer="b")]

    assert store.refused_numbers([first, second, *others]) == {first, second}

    later = step(claim._replace(next_offset=1), 2)
    store.commit([later], Changes(refused={first: False}))

    assert store.refused_numbers([first, second]) == {second}


def test_numbers_come_back_as_they_were(store: Store) -> None:
    """Holes, since when, claims and counters of a producer, by partition."""
    numbers = Numbers()
    for number in (1, 2, 5, 2**40):
        numbers.take(7, number, NOW + number)
    numbers.claim(9, 4, NOW, closing=True)
    numbers.counted, numbers.duplicates, numbers.refusals, numbers.last_append = 3, 2, 1, NOW
    key = ProducerKey(0, PRODUCER)
    odd = ProducerKey(0, "not hex'")
    changes = Changes(numbers={key: numbers, odd: Numbers()})
    store.commit([step(store.claim(0, "a"), 1)], changes)
    numbers.take(7, 3, NOW)

    found = store.numbers([key, ProducerKey(1, PRODUCER), odd])

    assert found.keys() == {key, odd}
    assert found[key].missing() == [
        (7, 3, 4, NOW + 5), (7, 6, 2**40 - 1, NOW + 5), (9, 1, 4, NOW),
    ]  # fmt: skip
    assert found[key].closed
    assert (found[key].counted, found[key].duplicates, found[key].refusals) == (3, 2, 1)
    assert found[key].last_append == NOW
    found[key].take(7, 3, NOW)
    assert pack(store.numbers([key])[key]) != pack(found[key])


@pytest.mark.parametrize("session", SESSIONS)
def test_a_session_comes_back_as_it_was(store: Store, session: Session) -> None:
    """Open, closed, unstarted, in conflict: the same facts, and nothing of other sessions."""
    key, other = session_key("s"), session_key("s", partition=1)
    changes = Changes(sessions={key: (session, None), other: (SESSIONS[1], None)})
    store.commit([step(store.claim(0, "a"), 1)], changes)

    assert store.known_sessions([key, session_key("t")]) == {key: session}


def test_sessions_are_due_by_partition_and_deadline(store: Store) -> None:
    """Those whose deadline was reached, until they are written with another."""
    changes = Changes(
        sessions={
            session_key("early"): (SESSIONS[0], 10),
            session_key("late"): (SESSIONS[0], 20),
            session_key("never"): (SESSIONS[1], None),
            session_key("early", partition=1): (SESSIONS[0], 10),
        }
    )
    claim = store.claim(0, "a")
    store.commit([step(claim, 1)], changes)

    assert store.due_sessions(0, 9) == {}
    assert store.due_sessions(0, 10) == {session_key("early"): SESSIONS[0]}
    assert store.due_sessions(0, 2**60).keys() == {session_key("early"), session_key("late")}

    again = Changes(sessions={session_key("early"): (SESSIONS[0], None)})
    store.commit([step(claim._replace(next_offset=1), 2)], again)
    assert store.due_sessions(0, 10) == {}
    assert store.due_sessions(1, 10).keys() == {session_key("early", partition=1)}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_subject_comes_back_as_it_was(store: Store, subject: Subject) -> None:
    """Starts, ends and heartbeats, and nothing of other subjects; a name may hold anything."""
    odd, other = subject_key("u\x00\x1f'"), subject_key("u", partition=1)
    changes = Changes(
        subjects={
            subject_key("u"): (subject, None),
            odd: (SUBJECTS[0], None),
            other: (SUBJECTS[1], None),
            subject_key(""): (SUBJECTS[2], None),
        }
    )
    commit(store, store.claim(0, "a"), changes)

    assert store.known_subjects([subject_key("u"), subject_key("t")]) == {subject_key("u"): subject}
    assert store.known_subjects([odd, subject_key("u\x00")]) == {odd: SUBJECTS[0]}
    assert store.known_subjects([]) == {}
    assert store.known_subjects([subject_key("")]) == {subject_key(""): SUBJECTS[2]}


def test_subjects_are_due_by_partition_and_deadline(store: Store) -> None:
    """Those whose deadline was reached, until they are written with another."""
    changes = Changes(
        subjects={
            subject_key("early"): (SUBJECTS[1], 10),
            subject_key("late"): (SUBJECTS[1], 20),
            subject_key("never"): (SUBJECTS[0], None),
            subject_key("early", partition=1): (SUBJECTS[1], 10),
        }
    )
    claim = commit(store, store.claim(0, "a"), changes)

    assert store.due_subjects(0, 9) == {}
    assert store.due_subjects(0, 10) == {subject_key("early"): SUBJECTS[1]}
    assert store.due_subjects(0, 2**60).keys() == {subject_key("early"), subject_key("late")}

    commit(store, claim, Changes(subjects={subject_key("early"): (SUBJECTS[1], None)}))
    assert store.due_subjects(0, 10) == {}
    assert store.due_subjects(1, 10).keys() == {subject_key("early", partition=1)}


def _message(n: int, partition: int = 0) -> OutboxMessage:
    return OutboxMessage(partition, "letters", b"%d" % n, b"\x00\xff", (("h", b"\xff\x00"),))


def test_the_outbox_is_left_in_order_and_once(place: Place, store: Store) -> None:
    """Oldest first, of owned partitions, up to a limit; what is done is gone, twice is harmless."""
    messages = [_message(1), _message(2, 1), _message(3), _message(4)._replace(value=None)]
    store.commit([step(store.claim(0, "a"), 1)], Changes(outbox=messages))

    mine = store.outbox([0], 10)

    assert [row.message for row in mine] == [messages[0], messages[2], messages[3]]
    assert [row.message for row in store.outbox([1, 0], 2)] == messages[:2]
    assert store.outbox([], 10) == []
    store.outbox_done([mine[0].id])
    store.outbox_done([mine[0].id, 10**9])
    store.outbox_done([])
    again = place.open()
    assert again.outbox([0], 10) == mine[1:]


def test_ids_of_the_outbox_are_never_used_again(store: Store) -> None:
    """A late receipt for an old message cannot remove a new one."""
    claim = store.claim(0, "a")
    store.commit([step(claim, 1)], Changes(outbox=[_message(1)]))
    [first] = store.outbox([0], 10)
    store.outbox_done([first.id])
    store.commit([step(claim._replace(next_offset=1), 2)], Changes(outbox=[_message(2)]))

    store.outbox_done([first.id])

    assert [row.message for row in store.outbox([0], 10)] == [_message(2)]


def test_what_was_committed_is_there_when_opened_again(place: Place, store: Store) -> None:
    """A second life begins where the first stopped, binding, catalogue and all."""
    claim = store.claim(0, "a")
    key = ProducerKey(0, PRODUCER)
    store.commit([step(claim, 8)], added({row(): (1, 2**70)}))
    store.commit([step(claim._replace(next_offset=8), 9)], Changes(numbers={key: Numbers()}))
    store.close()

    again = place.open()
    again.bind(BINDING, CATALOGUE)
    claim = again.claim(0, "a")
    assert claim.next_offset == 9
    again.commit([step(claim, 10)], added({row(): (1, 2**70)}))
    assert again.numbers([key]).keys() == {key}

    reader = place.reader()
    assert usage(reader) == {("acme", (), WINDOW, 0, 0): (2, 2**71)}
    assert reader.topic() == BINDING
    assert reader.catalogue() == CATALOGUE
