"""Why an event is refused: each reason, its sentence, and what is just allowed."""

from __future__ import annotations

import pytest

from meterstream_aggregator.catalogue import HOUR
from meterstream_aggregator.refusals import Reason, amount_of, refusal
from meterstream_schemas.events import EventKind, MeterEvent
from meterstream_schemas.quantity import Amount
from tests.unit.aggregator.making import (
    CATALOGUE,
    NOW,
    PRODUCER,
    SINCE,
    boundary,
    event,
    numbered,
)

MARK = event(kind=EventKind.MARK, tenant="", type="", time=0, producer=PRODUCER, sequence=4)
REFUSED = [
    (event(kind=EventKind.UNKNOWN), Reason.UNKNOWN_KIND, "kind UNKNOWN"),
    (event(kind=EventKind.VOID), Reason.UNKNOWN_KIND, "kind VOID"),
    (event(type="nobody.reads"), Reason.UNKNOWN_TYPE, "'nobody.reads'"),
    (event(type=""), Reason.UNKNOWN_TYPE, "''"),
    (event(type="call"), Reason.UNKNOWN_TYPE, "no meter reads type 'call'"),
    (boundary("START", NOW, type="api"), Reason.UNKNOWN_TYPE, "no session meter"),
    (event(tenant=""), Reason.INVALID_TENANT, "is empty"),
    (event(tenant="t" * 129), Reason.INVALID_TENANT, "at most 128"),
    (event(tenant="é" * 65), Reason.INVALID_TENANT, "130 bytes"),
    (event(tenant="a\x1fb"), Reason.INVALID_TENANT, "control character"),
    (event(time=SINCE - 1), Reason.INVALID_TIME, "before metering began"),
    (event(time=-1), Reason.INVALID_TIME, "1970 to 9999"),
    (event(time=2**63 - 1), Reason.INVALID_TIME, "1970 to 9999"),
    (event(time=NOW + HOUR + 1), Reason.INVALID_TIME, "ahead of the log's time"),
    (event(scale=19), Reason.INVALID_QUANTITY, "scale: 19"),
    (event(scale=-1), Reason.INVALID_QUANTITY, "scale: -1"),
    (event(attributes={"bytes": ""}), Reason.INVALID_QUANTITY, "attributes.bytes"),
    (event(attributes={"bytes": "1e19"}), Reason.INVALID_QUANTITY, "does not fit"),
    (boundary("START", NOW, session=None), Reason.INVALID_SESSION, "send the session's id"),
    (boundary("END", NOW, session=""), Reason.INVALID_SESSION, "is empty"),
    (boundary("HEARTBEAT", NOW, session="s" * 257), Reason.INVALID_SESSION, "at most 256"),
    (boundary("HEARTBEAT", NOW, session="\x00"), Reason.INVALID_SESSION, "control character"),
    (numbered(0), Reason.INVALID_IDENTITY, "numbers begin at 1"),
    (numbered(-(2**63)), Reason.INVALID_IDENTITY, "numbers begin at 1"),
    (numbered(1, lane=256), Reason.INVALID_IDENTITY, "256 is not a lane"),
    (numbered(1, lane=-1), Reason.INVALID_IDENTITY, "-1 is not a lane"),
    (numbered(1, producer="p" * 65), Reason.INVALID_IDENTITY, "up to 64"),
    (event(key=""), Reason.INVALID_IDENTITY, "key: is empty"),
    (event(key="k" * 257), Reason.INVALID_IDENTITY, "at most 256"),
    (MARK._replace(producer=""), Reason.INVALID_IDENTITY, "names the producer"),
    (MARK._replace(sequence=0), Reason.INVALID_IDENTITY, "numbers begin at 1"),
]
ACCEPTED = [
    event(),
    event(tenant="é" * 64),
    event(time=SINCE),
    event(time=NOW + HOUR),
    event(scale=18, quantity=-(2**63)),
    event(attributes={"bytes": "-0.5", "other": "\x00" * 2000}),
    event(lane=-1, sequence=-5),
    event(type="run"),
    numbered(2**63 - 1, lane=255, producer="p" * 64),
    event(key="k" * 256),
    boundary("START", NOW, session="s" * 256, scale=99, quantity=7),
    MARK,
]


@pytest.mark.parametrize(("refused", "reason", "words"), REFUSED)
def test_each_rule_has_a_reason_and_a_sentence(
    refused: MeterEvent, reason: Reason, words: str
) -> None:
    """A broken rule is told by its reason and a sentence with the value or the field."""
    why = refusal(refused, NOW, CATALOGUE)

    assert why is not None
    assert why.reason is reason
    assert words in why.detail
    assert len(why.detail) < 300


@pytest.mark.parametrize("accepted", ACCEPTED)
def test_what_is_just_allowed(accepted: MeterEvent) -> None:
    """The last value inside every limit is accepted."""
    assert refusal(accepted, NOW, CATALOGUE) is None


def test_every_reason_of_an_event_is_reached() -> None:
    """No reason is dead: the others are those of records that are no events, and of keys."""
    of_records = {Reason.UNDECODABLE, Reason.UNKNOWN_SCHEMA, Reason.TOO_LARGE}

    assert {reason for _, reason, _ in REFUSED} == {*Reason} - of_records - {Reason.KEY_CONFLICT}


def test_identity_is_judged_first() -> None:
    """An event that breaks every rule is told the one that hides who it is."""
    worst = numbered(0, tenant="", type="", time=-1, scale=99, kind=EventKind.UNKNOWN)

    why = refusal(worst, NOW, CATALOGUE)

    assert why is not None
    assert why.reason is Reason.INVALID_IDENTITY


def test_amounts_come_from_where_the_meter_reads() -> None:
    """The quantity, or an attribute; an absent attribute is no amount."""
    given = event(quantity=7, scale=2, attributes={"bytes": "1.50"})

    assert amount_of(given, CATALOGUE.meter("credit")) == Amount(7, 2)
    assert amount_of(given, CATALOGUE.meter("bytes")) == Amount(15, 1)
    assert amount_of(event(), CATALOGUE.meter("bytes")) is None
