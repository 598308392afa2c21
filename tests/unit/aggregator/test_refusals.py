"""Why an event is refused: each reason, its sentence, and what is just allowed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meterstream_aggregator.catalogue import (
    HOUR,
    INVERTIBLE,
    Aggregate,
    Catalogue,
    Condition,
    Meter,
)
from meterstream_aggregator.catalogue import Test as Asks
from meterstream_aggregator.refusals import (
    UNNUMBERED,
    Reason,
    amount_of,
    counts,
    expired_producer,
    refusal,
    text_of,
)
from meterstream_schemas.errors import InvalidQuantity
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

VOID = event(kind=EventKind.VOID, key="k")
MARK = event(kind=EventKind.MARK, tenant="", type="", time=0, producer=PRODUCER, sequence=4)
REFUSED = [
    (event(kind=EventKind.UNKNOWN), Reason.UNKNOWN_KIND, "kind UNKNOWN"),
    (event(type="nobody.reads"), Reason.UNKNOWN_TYPE, "'nobody.reads'"),
    (event(type=""), Reason.UNKNOWN_TYPE, "''"),
    (event(type="call"), Reason.UNKNOWN_TYPE, "no meter reads type 'call'"),
    (boundary("START", NOW, type="api"), Reason.UNKNOWN_TYPE, "no session meter"),
    (event(tenant=""), Reason.INVALID_TENANT, "is empty"),
    (event(tenant="t" * 129), Reason.INVALID_TENANT, "at most 128"),
    (event(tenant="é" * 65), Reason.INVALID_TENANT, "130 bytes"),
    (event(tenant="a\x1fb"), Reason.INVALID_TENANT, "control character"),
    (event(time=SINCE - 1), Reason.INVALID_TIME, f"is before {SINCE} µs"),
    (event(time=-1), Reason.INVALID_TIME, "1970 to 9999"),
    (event(time=2**63 - 1), Reason.INVALID_TIME, "1970 to 9999"),
    (event(time=NOW + HOUR + 1), Reason.INVALID_TIME, "ahead of the log's time"),
    (event(scale=19), Reason.INVALID_QUANTITY, "scale: 19"),
    (event(scale=-1), Reason.INVALID_QUANTITY, "scale: -1"),
    (event(attributes={"bytes": ""}), Reason.INVALID_QUANTITY, "attributes.bytes"),
    (event(attributes={"bytes": "1e19"}), Reason.INVALID_QUANTITY, "does not fit"),
    (VOID._replace(type="nobody"), Reason.UNKNOWN_TYPE, "'nobody'"),
    (VOID._replace(type="call"), Reason.UNKNOWN_TYPE, "no meter reads type 'call'"),
    (VOID._replace(tenant=""), Reason.INVALID_TENANT, "is empty"),
    (VOID._replace(time=SINCE - 1), Reason.INVALID_TIME, f"is before {SINCE} µs"),
    (VOID._replace(scale=19), Reason.INVALID_QUANTITY, "scale: 19"),
    (VOID._replace(key=None), Reason.INVALID_KEY, "send the key"),
    (VOID._replace(key=""), Reason.INVALID_IDENTITY, "key: is empty"),
    (VOID._replace(attributes={"bytes": "1"}), Reason.NOT_INVERTIBLE, "meter 'least'"),
    (VOID._replace(type="credit"), Reason.NOT_INVERTIBLE, "counts it as min"),
    (boundary("END", NOW, session=None, subject="\x00"), Reason.INVALID_SESSION, "subject: "),
    (boundary("END", NOW, session=None, subject="u" * 257), Reason.INVALID_SESSION, "at most 256"),
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
    (MARK._replace(lane=256), Reason.INVALID_IDENTITY, "256 is not a lane"),
    (MARK._replace(producer="", key=""), Reason.INVALID_IDENTITY, "key: is empty"),
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
    boundary("START", NOW, session="s1", subject="\x00"),
    boundary("START", NOW, session=None, subject="u" * 256),
    boundary("HEARTBEAT", NOW, session=None, subject=""),
    boundary("END", NOW, session=None, subject=None),
    VOID,
    VOID._replace(type="run", quantity=-3, scale=18),
    MARK,
    MARK._replace(producer="", lane=999, sequence=0),
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
    """No reason is dead: the others are of records that are no events, and of what is known."""
    of_records = {Reason.UNDECODABLE, Reason.UNKNOWN_SCHEMA, Reason.TOO_LARGE, Reason.LOST}
    of_states = {Reason.KEY_CONFLICT, Reason.EXPIRED_PRODUCER, Reason.SETTLED_SESSION}

    assert {reason for _, reason, _ in REFUSED} == {*Reason} - of_records - of_states


def test_an_expired_producer_is_named() -> None:
    """The sentence names it, and its number is left alone as that of an impossible identity."""
    why = expired_producer(numbered(1))

    assert why.reason in UNNUMBERED
    assert PRODUCER in why.detail
    assert set(UNNUMBERED) == {Reason.EXPIRED_PRODUCER, Reason.INVALID_IDENTITY}


def test_identity_is_judged_first() -> None:
    """An event that breaks every rule is told the one that hides who it is."""
    worst = numbered(0, tenant="", type="", time=-1, scale=99, kind=EventKind.UNKNOWN)

    why = refusal(worst, NOW, CATALOGUE)

    assert why is not None
    assert why.reason is Reason.INVALID_IDENTITY


def made(aggregate: Aggregate, value: str = "quantity", **changes: object) -> Meter:
    """A meter of type ``api``."""
    plain = replace(CATALOGUE.meter("calls"), name="made", aggregate=aggregate, value=value)
    return replace(plain, **changes)  # type: ignore[arg-type]  # a test may say anything


def reasons(catalogue: Catalogue, *events: MeterEvent) -> list[Reason | None]:
    """Why each is refused, or None."""
    told = [refusal(each, NOW, catalogue) for each in events]
    return [None if why is None else why.reason for why in told]


def of(*meters: Meter) -> Catalogue:
    """A catalogue of these definitions."""
    return Catalogue(SINCE, meters, SINCE)


def test_events_are_accepted_from_a_time_of_its_own() -> None:
    """`accept_from` decides about time, before or after the start of metering."""
    for accept_from in (SINCE - HOUR, SINCE + HOUR):
        catalogue = replace(CATALOGUE, accept_from=accept_from)

        found = reasons(catalogue, event(time=accept_from), event(time=accept_from - 1))

        assert found == [None, Reason.INVALID_TIME]


def test_a_definition_reads_its_time() -> None:
    """Usage and VOIDs outside every definition's time are of an unknown type."""
    catalogue = of(
        made(Aggregate.COUNT, since=SINCE + HOUR, until=SINCE + 2 * HOUR),
        made(Aggregate.SUM, since=SINCE + 3 * HOUR),
    )
    times = (SINCE, SINCE + HOUR, SINCE + 2 * HOUR - 1, SINCE + 2 * HOUR, SINCE + 3 * HOUR)
    expected = [Reason.UNKNOWN_TYPE, None, None, Reason.UNKNOWN_TYPE, None]

    assert reasons(catalogue, *(event(time=time) for time in times)) == expected
    assert reasons(catalogue, *(VOID._replace(time=time) for time in times)) == expected


def test_the_start_decides_which_definition_reads_a_session() -> None:
    """A start needs a definition at its time; its end may come when that one is over."""
    catalogue = of(made(Aggregate.SESSION, since=SINCE + HOUR, until=SINCE + 2 * HOUR))
    before, within, after = SINCE, SINCE + HOUR, SINCE + 2 * HOUR
    unknown = Reason.UNKNOWN_TYPE

    starts = [boundary("START", time, type="api") for time in (before, within, after)]
    ends = [boundary("END", time, type="api") for time in (before, within, after)]
    signs = [boundary("HEARTBEAT", time, type="api") for time in (before, within, after)]

    assert reasons(catalogue, *starts) == [unknown, None, unknown]
    assert reasons(catalogue, *ends) == reasons(catalogue, *signs) == [unknown, None, None]


def test_an_amount_is_asked_of_the_definitions_in_force() -> None:
    """What is no decimal hurts where a definition of that time reads it as an amount."""
    later = SINCE + HOUR
    bad = {"attributes": {"n": "many"}}
    for harmless in (
        made(Aggregate.COUNT, "attributes.n"),
        made(Aggregate.UNIQUE, "attributes.n"),
        made(Aggregate.UNIQUE, "subject"),
        made(Aggregate.SUM),
    ):
        catalogue = of(
            replace(harmless, until=later), made(Aggregate.SUM, "attributes.n", since=later)
        )

        found = reasons(catalogue, event(time=later - 1, **bad), event(time=later, **bad))

        assert found == [None, Reason.INVALID_QUANTITY]


@pytest.mark.parametrize("aggregate", [each for each in Aggregate if each is not Aggregate.SESSION])
def test_a_void_is_refused_where_it_cannot_be_taken_back(aggregate: Aggregate) -> None:
    """One definition that counts the event and cannot be inverted is enough."""
    value = "attributes.n"
    only = Condition("route", Asks.IN, ("/",))
    catalogue = of(made(Aggregate.COUNT), made(aggregate, value, where=(only,)))
    voids = [
        VOID._replace(attributes={"route": "/", "n": "1"}),
        VOID._replace(attributes={"route": "/other", "n": "1"}),
        VOID._replace(attributes={"route": "/"}),
    ]

    found = reasons(catalogue, *voids)

    refused = None if aggregate in INVERTIBLE else Reason.NOT_INVERTIBLE
    assert found == [refused, None, None]


def test_a_void_asks_the_definitions_of_its_time() -> None:
    """A definition that does not read the event's time has nothing to give back."""
    catalogue = of(made(Aggregate.MAX, until=NOW), made(Aggregate.SUM, since=NOW))

    assert reasons(catalogue, VOID._replace(time=NOW - 1), VOID) == [Reason.NOT_INVERTIBLE, None]


def test_a_definition_counts_by_time_filter_and_value() -> None:
    """All three must be there; a value that is no amount is an error."""
    meter = made(Aggregate.SUM, "attributes.n", since=NOW, where=(Condition("n", Asks.EXISTS),))
    given = event(attributes={"n": "2"})

    assert counts(given, meter)
    assert not counts(given._replace(time=NOW - 1), meter)
    assert not counts(event(attributes={"m": "2"}), meter)
    assert not counts(event(), replace(meter, where=()))
    with pytest.raises(InvalidQuantity):
        counts(event(attributes={"n": "two"}), meter)


def test_a_unique_meter_tells_texts_apart() -> None:
    """Any text, of an attribute or the subject; an absent one is not counted."""
    by_name, by_subject = made(Aggregate.UNIQUE, "attributes.u"), made(Aggregate.UNIQUE, "subject")
    given = event(subject="1e99", attributes={"u": ""})

    assert (text_of(given, by_name), text_of(given, by_subject)) == ("", "1e99")
    assert amount_of(given, by_name) == amount_of(given, by_subject) == Amount(1, 0)
    assert text_of(event(), by_name) is text_of(event(), by_subject) is None
    assert amount_of(event(), by_name) is amount_of(event(), by_subject) is None


@pytest.mark.parametrize(
    ("attributes", "quantity"),
    [({}, 1), ({"op": "add"}, 1), ({"op": ""}, 1), ({"op": "remove"}, 0)],
)
def test_an_operation_removes(attributes: dict[str, str], quantity: int) -> None:
    """The word ``remove`` takes a text out; everything else adds it."""
    meter = made(Aggregate.UNIQUE, "subject", operation="op")
    given = event(subject="u", attributes=attributes)

    assert amount_of(given, meter) == Amount(quantity, 0)
    assert amount_of(given, replace(meter, operation=None)) == Amount(1, 0)


def test_amounts_come_from_where_the_meter_reads() -> None:
    """The quantity, or an attribute; an absent attribute is no amount."""
    given = event(quantity=7, scale=2, attributes={"bytes": "1.50"})

    assert amount_of(given, CATALOGUE.meter("credit")) == Amount(7, 2)
    assert amount_of(given, CATALOGUE.meter("bytes")) == Amount(15, 1)
    assert amount_of(event(), CATALOGUE.meter("bytes")) is None
    assert amount_of(given, made(Aggregate.COUNT, "attributes.absent")) == Amount(0, 0)
