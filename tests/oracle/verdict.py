"""Judge a store by a log: every figure, session, counter, dead letter and hole, and nothing else.

`differences` is empty when the store says exactly what the log says. It reads the store through its
public questions and the log through the oracle; it shares no code with the fold that it judges.
"""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.oracle.catalogue import OracleCatalogue, read_catalogue
from tests.oracle.counting import LogRecord, UsageKey, count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from meterstream_aggregator.store.port import StoreReader
    from tests.oracle.counting import Answer

EVERYTHING = 10**9
NOTHING = (0, Fraction(0))


class Difference(NamedTuple):
    """Something on which store and log disagree; None where one of them has nothing."""

    what: str
    key: Any
    log: Any
    store: Any


def differences(reader: StoreReader, text: str, records: Iterable[LogRecord]) -> list[Difference]:
    """All disagreements between a store and a log that was counted by a catalogue's text."""
    catalogue = read_catalogue(text)
    answer = count(catalogue, records)
    with reader.snapshot():
        return [
            *_between("usage", _told_usage(answer), _stored_usage(reader, catalogue)),
            *_between("session", _told_sessions(answer, catalogue), _stored_sessions(reader)),
            *_between("partition", _told_counters(answer), _stored_counters(reader)),
            *_between("dead letter", _told_refusals(answer), _stored_refusals(reader)),
            *_between("missing", answer.missing, _stored_holes(reader)),
        ]


def _between(what: str, log: Mapping[Any, Any], store: Mapping[Any, Any]) -> list[Difference]:
    keys = [*log, *(key for key in store if key not in log)]
    return [
        Difference(what, key, log.get(key), store.get(key))
        for key in keys
        if log.get(key) != store.get(key)
    ]


def _told_usage(answer: Answer) -> dict[UsageKey, tuple[int, Fraction]]:
    return {key: figure for key, figure in answer.usage.items() if figure != NOTHING}


def _stored_usage(
    reader: StoreReader, catalogue: OracleCatalogue
) -> dict[UsageKey, tuple[int, Fraction]]:
    known = reader.catalogue()
    figures: dict[UsageKey, tuple[int, Fraction]] = {}
    for meter in catalogue.meters:
        parts: dict[UsageKey, list[tuple[int, Fraction]]] = defaultdict(list)
        for row in reader.usage(known.meter(meter.name), tenants=None, start=0, end=2**62):
            key = UsageKey(row.tenant, meter.name, row.group, row.start)
            parts[key].append((row.events, Fraction(row.quantity, 10**row.scale)))
        for key, rows in parts.items():
            events = sum(events for events, _ in rows)
            values = [value for _, value in rows]
            match meter.aggregate:
                case "count":
                    figures[key] = (events, Fraction(events))
                case "min":
                    figures[key] = (events, min(values))
                case "max":
                    figures[key] = (events, max(values))
                case _:
                    figures[key] = (events, sum(values, Fraction(0)))
    return {key: figure for key, figure in figures.items() if figure != NOTHING}


def _told_sessions(answer: Answer, catalogue: OracleCatalogue) -> dict[Any, Any]:
    states = answer.states(catalogue)
    return {
        tuple(key): (
            states[key],
            session.start,
            session.end,
            session.last_sign,
            session.last_append,
            session.conflicts,
            dict(session.opening.attributes) if session.opening else {},
        )
        for key, session in answer.sessions.items()
    }


def _stored_sessions(reader: StoreReader) -> dict[Any, Any]:
    return {
        (row.partition, row.tenant, row.type, row.session): (
            row.state,
            row.start,
            row.end,
            row.last_sign,
            row.last_append,
            row.conflicts,
            dict(row.attributes),
        )
        for row in reader.sessions(limit=EVERYTHING)
    }


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


def _stored_holes(reader: StoreReader) -> dict[tuple[str, int], list[tuple[int, int]]]:
    holes: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    for row in reader.producers():
        for lane, first, last in row.missing:
            holes[row.producer, lane].append((first, last))
    return dict(holes)
