"""Judge a store by a log: every figure, session, counter, dead letter and hole, and nothing else.

`differences` is empty when the store says exactly what the log says. It reads the store through its
public questions and the log through the oracle; it shares no code with the fold that it judges.
`figure_differences` does the same for the answers that are made of a store's rows.
"""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from meterstream_aggregator.catalogue import MOMENT
from tests.oracle.counting import KEY_HORIZON, LogRecord, count
from tests.oracle.ledger import NOTHING, OVERFLOW, Line, Part

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from meterstream_aggregator.catalogue import Meter
    from meterstream_aggregator.store.port import StoreReader
    from tests.oracle.catalogue import OracleCatalogue
    from tests.oracle.counting import Answer

EVERYTHING = 10**9


class Difference(NamedTuple):
    """Something on which store and log disagree; None where one of them has nothing."""

    what: str
    key: Any
    log: Any
    store: Any


def differences(reader: StoreReader, text: str, records: Iterable[LogRecord]) -> list[Difference]:
    """All disagreements between a store and a log that was counted by a catalogue's text."""
    return differences_from(reader, count(text, records))


def differences_from(reader: StoreReader, answer: Answer) -> list[Difference]:
    """All disagreements between a store and what the oracle found."""
    with reader.snapshot():
        usage, moments = _stored_usage(reader, answer)
        return [
            *between("usage", answer.ledger.rows(), usage),
            *between("moment", answer.ledger.moments(), moments),
            *between("item", _told_items(answer), _stored_items(reader, answer)),
            *between("session", _told_sessions(answer), _stored_sessions(reader)),
            *between("partition", _told_counters(answer), _stored_counters(reader)),
            *between("dead letter", _told_refusals(answer), _stored_refusals(reader)),
            *between("producer", _told_producers(answer), _stored_producers(reader)),
            *between("key", _told_keys(answer), _stored_keys(reader, answer)),
            *between("overflow", _told_overflow(answer), _stored_overflow(reader)),
        ]


def between(what: str, log: Mapping[Any, Any], store: Mapping[Any, Any]) -> list[Difference]:
    """What two mappings do not agree on."""
    keys = [*log, *(key for key in store if key not in log)]
    return [
        Difference(what, key, log.get(key), store.get(key))
        for key in keys
        if log.get(key) != store.get(key)
    ]


def definitions(reader: StoreReader, catalogue: OracleCatalogue) -> Iterator[tuple[int, Meter]]:
    """The definitions of the store's catalogue, with the oracle's number of each."""
    known = reader.catalogue().meters
    assert [meter.name for meter in known] == [meter.name for meter in catalogue.meters]
    assert len({meter.version for meter in known}) == len(known), "two definitions are one"
    return iter(enumerate(known))


def _stored_usage(reader: StoreReader, answer: Answer) -> tuple[dict[Part, Any], dict[Part, Any]]:
    figures: dict[Part, tuple[int, Fraction]] = {}
    moments: dict[Part, Fraction] = {}
    for number, meter in definitions(reader, answer.catalogue):
        aggregate = answer.catalogue.meters[number].aggregate
        parts: dict[Part, list[tuple[int, Fraction]]] = defaultdict(list)
        for row in reader.usage(meter, tenants=None, start=0, end=2**55):
            part = Part(Line(row.tenant, meter.name, number, row.group), row.start, row.arrival)
            if row.scale >= MOMENT:
                moment = Fraction(row.quantity, 10 ** (row.scale - MOMENT))
                moments[part] = moments.get(part, Fraction(0)) + moment
                assert row.events == 0, "a first moment is no event"
                continue
            parts[part].append((row.events, Fraction(row.quantity, 10**row.scale)))
        for part, rows in parts.items():
            events = sum(events for events, _ in rows)
            values = [value for _, value in rows]
            match aggregate:
                case "count":
                    figures[part] = (events, Fraction(events))
                case "min":
                    figures[part] = (events, min(values))
                case "max":
                    figures[part] = (events, max(values))
                case _:
                    figures[part] = (events, sum(values, Fraction(0)))
    there = {part: figure for part, figure in figures.items() if figure != NOTHING}
    return there, {part: moment for part, moment in moments.items() if moment}


def _told_items(answer: Answer) -> dict[tuple[Part, str], Any]:
    return {key: (*last.order, last.value) for key, last in answer.ledger.items().items()}


def _stored_items(reader: StoreReader, answer: Answer) -> dict[tuple[Part, str], Any]:
    found: dict[tuple[Part, str], Any] = {}
    for number, meter in definitions(reader, answer.catalogue):
        for row in reader.items(meter, tenants=None, start=0, end=2**55):
            part = Part(Line(row.tenant, meter.name, number, row.group), row.start, row.arrival)
            by = row.by
            amount = Fraction(by.quantity, 10**by.scale)
            assert (part, row.item) not in found, "an item stands twice"
            found[part, row.item] = (by.time, by.sequence, by.producer, by.offset, amount)
    return found


def _told_sessions(answer: Answer) -> dict[Any, Any]:
    states = answer.states()
    told: dict[Any, Any] = {
        (*key, session.start): (
            states[key],
            session.end,
            session.last_sign,
            session.last_append,
            session.conflicts,
            session.opening.subject if session.opening else None,
            dict(session.opening.attributes) if session.opening else {},
        )
        for key, session in answer.sessions.items()
    }
    for key, subject in answer.subjects.items():
        meters = answer.catalogue.of_type(key.type, sessions=True)
        log_time = answer.appended[key.partition]
        owner, about = (key[:3], key.session), (subject.last_append, subject.settled_conflicts)
        pairs, left_over = subject.pairs()
        for pair in pairs:
            said = tuple(sorted(pair.start.attributes.items()))
            state = subject.state(pair, meters, log_time)
            told[owner, pair.start.time, said] = (state, pair.end, subject.sign(pair), *about)
        for end in left_over:
            told[owner, end, "unstarted"] = ("unstarted", None, end, *about)
    return told


def _stored_sessions(reader: StoreReader) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for row in reader.sessions(limit=EVERYTHING):
        attributes, key = dict(row.attributes), (row.partition, row.tenant, row.type)
        place: Any = (*key, row.session, row.start)
        facts: Any = (
            row.state, row.end, row.last_sign, row.last_append, row.conflicts,
            row.subject, attributes,
        )  # fmt: skip
        if not row.session:
            start: Any = (row.start, tuple(sorted(attributes.items())))
            if row.start is None:
                start = (row.last_sign, "unstarted")
            place, facts = ((key, row.subject or ""), *start), facts[:5]
        assert place not in found, "a session is listed twice"
        found[place] = facts
    return found


def _told_counters(answer: Answer) -> dict[int, tuple[int, int, int, int]]:
    return {
        partition: (
            answer.counted[partition],
            answer.duplicates[partition],
            answer.refused[partition],
            appended,
        )
        for partition, appended in answer.appended.items()
    }


def _stored_counters(reader: StoreReader) -> dict[int, tuple[int, int, int, int]]:
    return {
        row.partition: (row.counted, row.duplicates, row.refused, row.appended)
        for row in reader.positions()
        if row.appended
    }


def _told_refusals(answer: Answer) -> dict[tuple[int, int], str]:
    return {(refusal.partition, refusal.offset): refusal.reason for refusal in answer.refusals}


def _stored_refusals(reader: StoreReader) -> dict[tuple[int, int], str]:
    rows = reader.dead_letters(limit=EVERYTHING)
    letters = {(row.partition, row.offset): row.reason for row in rows}
    assert len(letters) == len(rows), "a record has two dead letters"
    return letters


def _told_producers(answer: Answer) -> dict[tuple[int, str], Any]:
    return {
        key: (
            tuple(producer.missing()),
            sum(len(lane.taken) for lane in producer.lanes.values()),
            producer.counted,
            producer.duplicates,
            producer.refused,
            producer.last_append,
            producer.closed,
        )
        for key, producer in answer.producers.items()
    }


def _stored_producers(reader: StoreReader) -> dict[tuple[int, str], Any]:
    return {
        (row.partition, row.producer): (
            row.missing,
            row.seen,
            row.counted,
            row.duplicates,
            row.refused,
            row.last_append,
            row.closed,
        )
        for row in reader.producers()
    }


def _told_keys(answer: Answer) -> dict[Any, Any]:
    return {
        key: (known.state, known.log_time)
        for key, known in answer.keys.items()
        if known.state == "AWAITED" or answer.appended[key[0]] <= known.log_time + KEY_HORIZON
    }


def _stored_keys(reader: StoreReader, answer: Answer) -> dict[Any, Any]:
    tenants = {tenant for _, tenant, _ in answer.keys} | set(reader.tenants())
    return {
        (known.partition, known.tenant, known.key): (known.state.name, known.append_time)
        for tenant in tenants
        for known in reader.keys_of(tenant, 0, 2**62, EVERYTHING)[1]
    }


def _told_overflow(answer: Answer) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = defaultdict(int)
    for part, (events, _) in answer.ledger.rows().items():
        if part.line.group and set(part.line.group) == {OVERFLOW}:
            found[part.line.meter, part.line.tenant] += events
    return {key: events for key, events in found.items() if events}


def _stored_overflow(reader: StoreReader) -> dict[tuple[str, str], int]:
    return {(meter, tenant): events for meter, tenant, events in reader.overflowing() if events}
