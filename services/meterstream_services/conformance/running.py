"""Running one case: its events through encoder, decoder, fold and store, its query as a question.

Everything is the code that workers and the API run; only the log is a list.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Final

from meterstream_aggregator.answering import Scope, figures
from meterstream_aggregator.catalogue import MINUTE, Catalogue, Condition, Test
from meterstream_aggregator.questions import Figure, ask
from meterstream_aggregator.state import Readings
from meterstream_aggregator.store.port import StoreReader, TopicBinding
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_aggregator.store.sqlite_reader import open_reader
from meterstream_consumers.decode import Decoder
from meterstream_consumers.folding import Folding
from meterstream_consumers.records import RawBatch
from meterstream_schemas.bundled import LATEST_ID, bundled_text
from meterstream_schemas.codec import encode, parse_text
from meterstream_schemas.quantity import Amount, to_decimal
from meterstream_schemas.registry import BundledSchemas
from meterstream_services.conformance.asking import bounds_of, window_for
from meterstream_services.conformance.cases import Case
from meterstream_services.conformance.errors import Skipped
from meterstream_services.conformance.identity import as_the_peer_counts
from meterstream_services.conformance.judging import AnswerRow, Difference, differences
from meterstream_services.conformance.translating import (
    METER,
    Arrival,
    arrivals_of,
    catalogue_of,
)

_TOPIC: Final = TopicBinding("cases", "", 1)
_NO_VALUE_OF_NOTHING: Final = frozenset({"sum", "bucketed_sum", "bucketed_max", "bucketed_min"})


def judge(case: Case) -> list[Difference]:
    """Where meterstream's answer is not the case's. Raises `Skipped` with the reason."""
    if any(row.late is not None for row in case.wanted):
        return _lateness(case)
    bounds = bounds_of(case)
    if not any(row.says_value for row in case.wanted):
        return _boundaries(case, bounds)
    window = window_for(bounds)
    if window is None:
        raise Skipped("a period begins within a minute; meterstream's windows are whole minutes")
    rows, opened = _answer(case, bounds, window)
    if case.meter.dedup is not None and case.recommended is None:
        theirs, _ = _answer(as_the_peer_counts(case), bounds, window)
        if theirs != rows:
            raise Skipped(
                f"identity: the peer's rule ({case.meter.dedup} by "
                f"{', '.join(case.meter.dedup_key)}) gives {_told(theirs)}; meterstream counts the "
                f"first event of a key and reports other content as a conflict: {_told(rows)}"
            )
    found = differences(case, rows)
    if case.open_sessions is not None and sorted(case.open_sessions) != opened:
        found.append(Difference(f"open sessions {list(case.open_sessions)}", str(opened)))
    return found


def _boundaries(case: Case, bounds: Sequence[int]) -> list[Difference]:
    """A case that is about periods only."""
    wanted = [(row.start, row.end) for row in case.wanted]
    got = list(pairwise(bounds))
    return [] if wanted == got else [Difference(str(wanted), str(got))]


def _lateness(case: Case) -> list[Difference]:
    """A case that says which events are late: each alone, in windows of a minute."""
    found: list[Difference] = []
    for wanted in case.wanted:
        alone = case.model_copy(
            update={"events": tuple(event for event in case.events if event.id == wanted.id)}
        )
        with _folded(alone, catalogue_of(alone, MINUTE)) as reader:
            meter = reader.catalogue().meter(METER)
            rows = list(reader.usage(meter, tenants=None, start=0, end=2**62))
        late = any(row.arrival for row in rows)
        if not rows or late != wanted.late:
            found.append(Difference(f"{wanted.id} late: {wanted.late}", f"late: {late}"))
    return found


def _answer(case: Case, bounds: Sequence[int], window: int) -> tuple[list[AnswerRow], list[str]]:
    """The rows of the answer, and the ids of the sessions that are open."""
    with _folded(case, catalogue_of(case, window)) as reader:
        found = _figures(case, reader, bounds)
        opened = sorted(row.session for row in reader.sessions(state="open"))
    return _rows(case, found, bounds), opened


def _figures(case: Case, reader: StoreReader, bounds: Sequence[int]) -> list[Figure]:
    query = case.query
    included = {name: _values(texts) for name, texts in query.filters.include.items()}
    tenants = included.pop("tenant", None)
    where = [Condition(name, Test.IN, values) for name, values in included.items()]
    unless = [
        tuple(Condition(name, Test.IN, _values(texts)) for name, texts in combination.items())
        for combination in query.filters.exclude
    ]
    catalogue = reader.catalogue()
    question = ask(
        catalogue.definitions(METER),
        bounds,
        by=[name for name in _by(case) if name != "tenant"],
        where=where,
        unless=unless,
        total="tenant" not in query.group_by,
        metering_since=catalogue.metering_since,
    )
    return figures(reader, question, scope=Scope(tenants), progress=0, now=query.now or query.end)


def _by(case: Case) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*case.query.group_by, *case.meter.bucket_group_by)))


def _values(texts: Sequence[str | None]) -> tuple[str, ...]:
    return tuple(sorted({text or "" for text in texts}))


def _rows(case: Case, found: Sequence[Figure], bounds: Sequence[int]) -> list[AnswerRow]:
    """Figures as rows of the case's own shape: a bucketed meter adds up its buckets."""
    names, shown = _by(case), case.query.group_by
    whole = case.meter.bucket is not None
    joined: dict[tuple[int, int, tuple[tuple[str, str], ...]], tuple[Decimal | None, int]] = {}
    for figure in found:
        values = dict(zip((n for n in names if n != "tenant"), figure.group, strict=True))
        values["tenant"] = figure.tenant or ""
        group = tuple(sorted((name, values[name]) for name in shown if values[name]))
        span = (bounds[0], bounds[-1]) if whole else (figure.start, figure.end)
        value, events = joined.get((*span, group), (None, 0))
        amount = _value(case, figure)
        if amount is not None:
            value = amount if value is None else value + amount
        joined[(*span, group)] = (value, events + figure.events)
    return [
        AnswerRow(start, end, group, _or_zero(case, value), events)
        for (start, end, group), (value, events) in joined.items()
    ]


def _value(case: Case, figure: Figure) -> Decimal | None:
    """The figure in the peer's terms: time-weighted ones are averages, an empty sum is none."""
    amount: Amount | None = figure.total
    if case.meter.aggregation in {"weighted_sum", "gauge_time_weighted_avg"}:
        amount = figure.average
    elif case.meter.aggregation in _NO_VALUE_OF_NOTHING and not figure.events:
        amount = None
    return None if amount is None else to_decimal(*amount)


def _or_zero(case: Case, value: Decimal | None) -> Decimal | None:
    return Decimal(0) if value is None and case.meter.empty_as_zero else value


@contextmanager
def _folded(case: Case, catalogue: Catalogue) -> Generator[StoreReader]:
    """A reader of a store that holds the case's events."""
    arrivals, _ = arrivals_of(case)
    with tempfile.TemporaryDirectory(prefix="meterstream-") as directory:
        path = Path(directory) / "case.sqlite3"
        store = SqliteStore(path)
        try:
            store.bind(_TOPIC, catalogue)
            folding = Folding(
                store,
                Readings(catalogue),
                Decoder(BundledSchemas()),
                owner="conformance",
                topic=_TOPIC.topic,
                deadletters_topic="refused",
            )
            folding.take(0, lambda: 0)
            folding.fold(_log(arrivals))
            reader = open_reader(path)
            try:
                yield reader
            finally:
                reader.close()
        finally:
            store.close()


class _Bare:
    """A record without headers and key."""

    def headers(self) -> None:
        """None."""

    def key(self) -> None:
        """None."""


def _log(arrivals: Sequence[Arrival]) -> RawBatch:
    schema = parse_text(bundled_text(LATEST_ID))
    return RawBatch(
        [encode(arrival.event, schema) for arrival in arrivals],
        [0] * len(arrivals),
        list(range(len(arrivals))),
        # Milliseconds, rounded up: the log never takes an event before its time.
        [-(-arrival.append_time // 1000) for arrival in arrivals],
        [_Bare()] * len(arrivals),
    )


def _told(rows: Sequence[AnswerRow]) -> str:
    return ", ".join("none" if row.value is None else f"{row.value:f}" for row in rows) or "nothing"
