"""Dead letters mended: fixes, the identity they go under, and whether they would be counted now."""

from __future__ import annotations

from typing import Any

import pytest

from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.refusals import Reason
from meterstream_aggregator.store.told import DeadLetterRow
from meterstream_consumers.errors import InvalidFix
from meterstream_consumers.mending import Fixes, Mended, Outcome, mend, parse_fixes
from meterstream_schemas.events import MeterEvent
from meterstream_schemas.placement import lane_of, partition_of
from tests.unit.aggregator.making import NOW, numbered

CATALOGUE = parse_catalogue(
    "metering_since: 2026-01-01T00:00:00Z\n"
    "meters:\n"
    "  - {name: calls, type: api.request, aggregate: count}\n"
    "  - {name: bytes, type: transfer, aggregate: sum, value: attributes.bytes}\n"
)
NOTHING = parse_fixes([])


def event(**changes: Any) -> MeterEvent:  # noqa: ANN401 - any field
    """A numbered event that this catalogue counts, unless the changes prevent it."""
    return numbered(7)._replace(**{"type": "api.request", "key": None, **changes})


def letter(of: MeterEvent, reason: Reason = Reason.UNKNOWN_TYPE) -> DeadLetterRow:
    """Its dead letter, at 3-50."""
    return DeadLetterRow(
        3, 50, reason.value, "d", of.tenant, of.type, of.producer, of.lane, of.sequence, NOW
    )


def mended(of: MeterEvent, *fixes: str, reason: Reason = Reason.UNKNOWN_TYPE) -> Mended:
    """The event mended by these fixes."""
    parsed = parse_fixes(fixes)
    return mend(letter(of, reason), of, parsed, CATALOGUE, partitions=8, now=NOW + 1_000_000)


def test_what_is_acceptable_now_goes_as_it_was() -> None:
    """No fix, an event that the catalogue counts by now: same bytes, number and partition."""
    one = mended(event())

    assert (one.outcome, one.is_unchanged, one.partition) == (Outcome.SEND, True, 3)
    assert one.identity.startswith(f"number 7 of lane {event().lane} of ")


def test_what_would_be_refused_again_says_why() -> None:
    """The reason of today, not that of then."""
    one = mended(event(type="nobody.reads"), "attributes.a=1")

    assert one.outcome is Outcome.REFUSED
    assert one.why.startswith("unknown_type: ")


@pytest.mark.parametrize(
    ("fix", "changes"),
    [
        ("type=transfer", {"type": "transfer"}),
        ("quantity=-1.50", {"quantity": -15, "scale": 1}),
        ("session=s", {"session": "s"}),
        ("session=", {"session": None}),
        ("subject=u=1", {"subject": "u=1"}),
        ("key=k", {"key": "k"}),
        ("attributes.bytes=12", {"attributes": {"bytes": "12", "b": "x"}}),
        ("attributes.b=", {"attributes": {"bytes": "no"}}),
        ("time=2026-03-01T12:00:00Z", {"time": 1_772_366_400_000_000}),
        ("time=2026-03-01T13:00+01:00", {"time": 1_772_366_400_000_000}),
        ("time=1772366400000000", {"time": 1_772_366_400_000_000}),
    ],
)
def test_each_field_can_be_mended(fix: str, changes: dict[str, Any]) -> None:
    """One fix changes its field and nothing else; number and partition stay."""
    of = event(attributes={"bytes": "no", "b": "x"})

    one = mended(of, fix)

    assert one.event == of._replace(**changes)
    assert (one.partition, one.is_unchanged) == (3, one.event == of)


@pytest.mark.parametrize(
    ("fix", "said"),
    [
        ("type", "write FIELD=VALUE"),
        ("lane=3", "none of the fields"),
        ("attributes.=3", "none of the fields"),
        ("quantity=1e400", "quantity"),
        ("time=yesterday", "is not an ISO 8601 time"),
        ("producer=somebody", "can only be taken out"),
    ],
)
def test_a_fix_that_is_none(fix: str, said: str) -> None:
    """It is named, with what to write instead."""
    with pytest.raises(InvalidFix, match=said) as refused:
        parse_fixes(["type=ok", fix])
    assert repr(fix) in str(refused.value)


def test_no_fixes_change_nothing() -> None:
    """The very same event."""
    assert Fixes({}, {}) == NOTHING
    assert NOTHING.apply(event()) == event()


def test_an_event_without_number_or_key_gets_a_key() -> None:
    """Its place becomes its identity, the same at every replay; its own key would stay."""
    foreign = event(producer="", lane=0, sequence=0)

    one, again = mended(foreign), mended(foreign)
    keyed = mended(foreign._replace(key="mine"))

    assert one == again
    assert one.event is not None
    assert (one.event.key, one.identity) == ("replay:3-50", "key replay:3-50")
    assert (one.partition, one.is_unchanged) == (3, False)
    assert (keyed.identity, keyed.is_unchanged) == ("key mine", True)


def test_another_tenant_lies_elsewhere_under_a_key() -> None:
    """The number belongs to the lane it was given in, so the mended event goes without it."""
    one = mended(event(tenant=""), "tenant=globex", reason=Reason.INVALID_TENANT)

    assert one.event is not None
    assert one.outcome is Outcome.SEND
    assert one.partition == partition_of(lane_of("globex"), 8)
    assert (one.event.producer, one.event.lane, one.event.sequence) == ("", 0, 0)
    assert one.event.key == "replay:3-50"


def test_an_expired_producers_number_is_left() -> None:
    """As often as that number came it would be refused: a key stands for it."""
    one = mended(event(), reason=Reason.EXPIRED_PRODUCER)

    assert (one.outcome, one.identity, one.partition) == (Outcome.SEND, "key replay:3-50", 3)


def test_a_number_that_is_none_can_be_taken_out() -> None:
    """Otherwise it is refused again."""
    wrong = event(lane=900)

    kept = mended(wrong, reason=Reason.INVALID_IDENTITY)
    left = mended(wrong, "producer=", reason=Reason.INVALID_IDENTITY)

    assert kept.outcome is Outcome.REFUSED
    assert kept.why.startswith("invalid_identity")
    assert (left.outcome, left.identity) == (Outcome.SEND, "key replay:3-50")


def test_a_key_that_is_taken_stays_taken() -> None:
    """A conflict is mended by another key or content, or by no key."""
    of = event(key="taken")

    assert mended(of, reason=Reason.KEY_CONFLICT).outcome is Outcome.REFUSED
    for fix in ("key=other", "key=", "quantity=8"):
        assert mended(of, fix, reason=Reason.KEY_CONFLICT).outcome is Outcome.SEND
