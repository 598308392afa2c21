"""The generated worlds hold what they promise, always the same, and the oracle can count them."""

from __future__ import annotations

from functools import cache

from meterstream_schemas.events import EventKind
from meterstream_schemas.placement import lane_of
from tests.oracle.counting import Answer, count
from tests.simulation.generator import any_world, orderless_world, shuffled, world


def test_a_seed_always_makes_the_same_world() -> None:
    """Equal arguments give equal records, another seed gives others."""
    assert world(7, 500) == world(7, 500)
    assert world(7, 500) != world(8, 500)


def test_positions_rise_and_lanes_belong_to_tenants() -> None:
    """Offsets rise in each partition, and numbered events use the lane of their tenant."""
    _, records = world(1, 2_000)

    for partition in range(4):
        offsets = [record.offset for record in records if record.partition == partition]
        assert offsets == sorted(set(offsets))
    for record in records:
        if record.event.producer and record.event.kind is not EventKind.MARK:
            assert record.event.lane == lane_of(record.event.tenant)
            assert record.partition == record.event.lane % 4


@cache
def _hostile() -> Answer:
    return count(*world(3, 3_000))


def test_worlds_are_hostile() -> None:
    """Every kind of trouble occurs in a world of some thousand events."""
    answer = _hostile()

    assert sum(answer.duplicates.values()) > 100
    assert {refusal.reason for refusal in answer.refusals} == {
        "invalid_identity", "invalid_key", "invalid_quantity", "invalid_session", "invalid_tenant",
        "invalid_time", "key_conflict", "not_invertible", "unknown_kind", "unknown_type",
    }  # fmt: skip
    assert len(answer.missing) > 10
    assert set(answer.states().values()) == {"open", "closed", "timed_out", "unstarted"}
    assert any(session.conflicts for session in answer.sessions.values())
    assert any(len(subject.starts) > 2 for subject in answer.subjects.values())
    assert any(value < 0 for _, value in answer.usage.values())
    assert any(abs(value) > 2**63 for _, value in answer.usage.values())
    assert {key.state for key in answer.keys.values()} == {"COUNTED", "VOIDED", "AWAITED"}


def test_every_meter_has_what_is_late_and_what_is_not() -> None:
    """Each definition counts in time and late; series are short; VOIDs come in time and late."""
    answer = _hostile()

    ledger, everything = answer.ledger, {meter.number for meter in answer.catalogue.meters}
    sides = {(each.meter.number, ledger.is_late(each)) for each in ledger.contributions}
    assert {number for number, late in sides if not late} == everything
    assert {number for number, late in sides if late} == everything
    taken_back = {ledger.is_late(each) for each in ledger.contributions if each.events < 0}
    assert taken_back == {True, False}
    overflowing = {
        each.line.meter for each in ledger.contributions if "(overflow)" in each.line.group
    }
    assert overflowing == {"api.routes", "order.count", "visit"}


def test_worlds_sleep() -> None:
    """Some worlds outlive the horizons of producers, keys and settled subjects."""
    reasons = {
        refusal.reason for seed in range(12) for refusal in count(*any_world(seed, 80)).refusals
    }

    assert {"expired_producer", "settled_session"} <= reasons


def test_each_record_has_one_outcome() -> None:
    """Counted, duplicate, refused and marks add up to the records."""
    catalogue, records = world(4, 2_000)

    answer = count(catalogue, records)

    outcomes = answer.counted + answer.duplicates + answer.refused + answer.marks
    assert sum(outcomes.values()) == len(records)


def test_order_does_not_matter_to_the_oracle() -> None:
    """Three orders of arrival of one orderless world give the same figures and sessions."""
    catalogue, records = orderless_world(5, 1_000)

    answers = [count(catalogue, shuffled(seed, records)) for seed in range(3)]

    for answer in answers[1:]:
        assert answer.usage == answers[0].usage
        assert answer.states() == answers[0].states()
        assert answer.counted == answers[0].counted
        assert answer.missing == answers[0].missing
