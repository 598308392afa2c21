"""Count a log slowly and obviously (DESIGN sections 5 to 11), one record after the other.

The rules, in the order in which they meet a record:

1. A partition's **log time** is the highest append time so far. Everything is judged by it.
2. An event whose own identity is impossible is **refused** as `invalid_identity`, one of a producer
   that was silent for more than 90 days as `expired_producer`; neither number is noted. A MARK
   spends no number and counts nowhere; it claims that its lane reached a number (that of an expired
   producer is not heard). A MARK of nobody is a tick: it only carries the log's time.
3. A number (partition, producer, lane, sequence) that was already taken is a **duplicate**. One
   that was *refused* before may be a mended replay: it is judged again, and counts if it is good
   now; if it is not, it is a duplicate of the dead letter there is. Foreign events (no producer)
   have no number.
4. What cannot be counted is **refused**, for the first reason that applies: see `judging.refusal`.
5. A caller's key that the tenant used no more than 90 days ago is a `key_conflict` with other
   content. With the same content it depends on what is known of the key and on which comes::

       known       the event comes            its VOID comes
       nothing     counted → COUNTED          waits → AWAITED
       COUNTED     duplicate                  taken back → VOIDED
       VOIDED      duplicate                  duplicate
       AWAITED     not counted → VOIDED       duplicate

   All but duplicates count as counted in the tallies. Taken back means: contributions with the
   opposite sign, at the VOID's own log time.
6. A boundary without a session id may be too late to be paired: `settled_session`.
7. What is left is **counted**, in every definition that applies at its time, whose filter it passes
   and whose value it has. To groups an absent attribute is "".
8. Sessions are judged record by record: before a record, every deadline that the log has reached
   by then as of that deadline; then the record as of its log time; and at the end of the log the
   deadlines reached by then. Each change of what a session is charged is a contribution.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from meterstream_schemas.events import EventKind, MeterEvent
from tests.oracle import judging, subjects
from tests.oracle.catalogue import OracleCatalogue, OracleMeter, read_catalogue
from tests.oracle.ledger import NOTHING, Contribution, Ledger
from tests.oracle.producers import OracleProducer
from tests.oracle.sessions import OracleSession, SessionKey, moves
from tests.oracle.subjects import OracleSubject

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.oracle.sessions import Bill

KEY_HORIZON = 90 * 86_400_000_000


class LogRecord(NamedTuple):
    """One record as the log holds it; ``append_time`` in microseconds UTC."""

    partition: int
    offset: int
    append_time: int
    event: MeterEvent


class UsageKey(NamedTuple):
    """Which figure: of one window, whatever came when."""

    tenant: str
    meter: str
    group: tuple[str, ...]
    window_start: int


class Refusal(NamedTuple):
    """One dead letter."""

    partition: int
    offset: int
    reason: str


class KnownKey(NamedTuple):
    """What is known of a caller's key."""

    state: str
    content: object
    log_time: int


@dataclass
class Answer:
    """What the log says, whole."""

    catalogue: OracleCatalogue
    ledger: Ledger
    sessions: dict[SessionKey, OracleSession] = field(
        default_factory=dict[SessionKey, OracleSession]
    )
    subjects: dict[SessionKey, OracleSubject] = field(
        default_factory=dict[SessionKey, OracleSubject]
    )
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    counted: Counter[int] = field(default_factory=Counter[int])
    duplicates: Counter[int] = field(default_factory=Counter[int])
    refused: Counter[int] = field(default_factory=Counter[int])
    marks: Counter[int] = field(default_factory=Counter[int])
    appended: dict[int, int] = field(default_factory=dict[int, int])
    producers: dict[tuple[int, str], OracleProducer] = field(
        default_factory=dict[tuple[int, str], OracleProducer]
    )
    keys: dict[tuple[int, str, str], KnownKey] = field(
        default_factory=dict[tuple[int, str, str], KnownKey]
    )

    @property
    def usage(self) -> dict[UsageKey, tuple[int, Fraction]]:
        """Totals by window of what adds up or is an extreme: in time and late together."""
        totals: dict[UsageKey, tuple[int, Fraction]] = {}
        for part, (events, value) in self.ledger.rows().items():
            line = part.line
            key = UsageKey(line.tenant, line.meter, line.group, part.window_start)
            known = totals.get(key)
            aggregate = self.catalogue.meters[line.rule].aggregate
            if known is None:
                totals[key] = (events, value)
            elif aggregate in ("min", "max"):
                better = min if aggregate == "min" else max
                totals[key] = (known[0] + events, better(known[1], value))
            else:
                totals[key] = (known[0] + events, known[1] + value)
        return {key: figure for key, figure in totals.items() if figure != NOTHING}

    @property
    def missing(self) -> dict[tuple[str, int], list[tuple[int, int]]]:
        """Per producer and lane, the runs of numbers that never came."""
        found: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
        for (_, name), producer in self.producers.items():
            for lane, first, last, _ in producer.missing():
                found[name, lane].append((first, last))
        return dict(found)

    @property
    def awaited(self) -> int:
        """How many VOIDs wait for their event, those included whose key is too old by now."""
        return sum(key.state == "AWAITED" for key in self.keys.values())

    def states(self) -> dict[SessionKey, str]:
        """The state of each session that has an id."""
        return {
            key: session.state(
                self.catalogue.of_type(key.type, sessions=True), self.appended[key.partition]
            )
            for key, session in self.sessions.items()
        }


def count(
    text: str, records: Iterable[LogRecord], *, change: tuple[int, str] | None = None
) -> Answer:
    """The whole answer to a log: records in log order, the catalogue as YAML text.

    ``change`` is another catalogue, and how many records were read before it came. It has the
    definitions of the first in the same order, and further ones behind them.
    """
    walk = _Walk(read_catalogue(text))
    for number, record in enumerate(records):
        if change is not None and number == change[0]:
            walk.catalogue = walk.answer.catalogue = read_catalogue(change[1])
        walk.take(record)
    walk.end()
    return walk.answer


class _Walk:
    """One pass over the log, with everything it must remember."""

    def __init__(self, catalogue: OracleCatalogue) -> None:
        self.catalogue = catalogue
        self.answer = Answer(catalogue, Ledger(catalogue))

    def take(self, record: LogRecord) -> None:
        """Rules 1 to 4 for the next record."""
        partition, offset, append_time, event = record
        log_time = max(append_time, self.answer.appended.get(partition, 0))
        self.answer.appended[partition] = log_time
        record = LogRecord(partition, offset, log_time, event)
        if not judging.identity_is_possible(event):
            self.refuse(record, "invalid_identity")
        elif not event.producer:
            if event.kind is EventKind.MARK:
                self.answer.marks[partition] += 1
            else:
                self.judge(record, None, again=False)
        else:
            key = partition, event.producer
            producer = self.answer.producers.setdefault(key, OracleProducer())
            if not producer.is_expired(log_time):
                self.number(record, producer)
            elif event.kind is EventKind.MARK:
                self.answer.marks[partition] += 1
            else:
                self.refuse(record, "expired_producer")

    def number(self, record: LogRecord, producer: OracleProducer) -> None:
        """Rules 2 and 3 for an event under a number."""
        event, log_time = record.event, record.append_time
        producer.last_append = log_time
        lane = producer.lane(event.lane)
        if event.kind is EventKind.MARK:
            self.answer.marks[record.partition] += 1
            lane.claimed = max(lane.claimed, event.sequence)
            producer.closed = producer.closed or event.attributes.get("closing") == "true"
            lane.note(log_time)
            return
        again = event.sequence in lane.taken
        if again and event.sequence not in lane.refused:
            self.duplicate(record, producer)
            return
        lane.taken.add(event.sequence)
        lane.note(log_time)
        self.judge(record, producer, again=again)

    def judge(self, record: LogRecord, producer: OracleProducer | None, *, again: bool) -> None:
        """Rules 4 to 6; ``again`` for a number that was refused before."""
        event = record.event
        refused = producer.lane(event.lane).refused if producer is not None else set[int]()
        reason = judging.refusal(self.catalogue, event, record.append_time)
        outcome = reason or self.known(record)
        if outcome not in ("count", "take back", "wait", "duplicate"):
            if again:
                self.duplicate(record, producer)
            else:
                refused.add(event.sequence)
                self.refuse(record, outcome, producer)
            return
        refused.discard(event.sequence)
        if outcome == "duplicate":
            self.duplicate(record, producer)
            return
        self.answer.counted[record.partition] += 1
        if producer is not None:
            producer.counted += 1
        if outcome != "wait":
            self.add(record, 1 if outcome == "count" else -1)

    def known(self, record: LogRecord) -> str:
        """Rules 5 and 6: what becomes of an event that breaks no rule."""
        partition, _, log_time, event = record
        void = event.kind is EventKind.VOID
        content, place = judging.content(event), (partition, event.tenant, event.key or "")
        held = self.answer.keys.get(place) if event.key is not None else None
        if held is not None and log_time > held.log_time + KEY_HORIZON:
            held = None
        if held is not None and held.content != content:
            return "key_conflict"
        if held is None:
            outcome, state = ("wait", "AWAITED") if void else ("count", "COUNTED")
        elif held.state == "COUNTED" and void:
            outcome, state = "take back", "VOIDED"
        elif held.state == "AWAITED" and not void:
            outcome, state = "wait", "VOIDED"
        else:
            return "duplicate"
        if event.kind in judging.BOUNDARIES and event.session is None:
            since = self.catalogue.metering_since
            if subjects.comes_too_late(event, log_time, since):
                return "settled_session"
        if event.key is not None:
            self.answer.keys[place] = KnownKey(state, content, log_time)
        return outcome

    def refuse(
        self, record: LogRecord, reason: str, producer: OracleProducer | None = None
    ) -> None:
        """One more dead letter."""
        self.answer.refused[record.partition] += 1
        self.answer.refusals.append(Refusal(record.partition, record.offset, reason))
        if producer is not None:
            producer.refused += 1

    def duplicate(self, record: LogRecord, producer: OracleProducer | None) -> None:
        """One more repeat."""
        self.answer.duplicates[record.partition] += 1
        if producer is not None:
            producer.duplicates += 1

    def add(self, record: LogRecord, sign: int) -> None:
        """Rules 7 and 8, for an event that is counted (1) or taken back (-1)."""
        event = record.event
        if event.kind in judging.BOUNDARIES:
            self.add_boundary(record)
            return
        for meter in self.catalogue.of_type(event.type, sessions=False):
            if judging.counts(meter, event):
                self.answer.ledger.contributions.append(self.contribution(meter, record, sign))

    def contribution(self, meter: OracleMeter, record: LogRecord, sign: int) -> Contribution:
        """What a usage event does to a meter that counts it."""
        partition, offset, log_time, event = record
        group = tuple(event.attributes.get(name, "") for name in meter.group_by)
        start = event.time // meter.window * meter.window
        item = None
        if meter.aggregate == "unique":
            item = judging.text(meter, event)
            removes = meter.operation and event.attributes.get(meter.operation) == "remove"
            amount = Fraction(0 if removes else 1)
        else:
            amount = judging.value(meter, event) or Fraction(0)
            if meter.aggregate == "latest":
                item = ""
            elif meter.aggregate == "time_weighted":
                item = f"{event.time - start:010d}"
        return Contribution(
            self.answer.ledger.line(meter, partition, event.tenant, group),
            meter,
            start,
            log_time,
            sign,
            sign * amount,
            (event.time, event.sequence, event.producer, offset),
            item,
        )

    def add_boundary(self, record: LogRecord) -> None:
        """Rule 8 for one record."""
        partition, _, log_time, event = record
        longest = self.catalogue.longest(event.type)
        told: OracleSession | OracleSubject
        if event.session is not None:
            key = SessionKey(partition, event.tenant, event.type, event.session)
            told = self.answer.sessions.setdefault(key, OracleSession(key, longest))
        else:
            key = SessionKey(partition, event.tenant, event.type, event.subject or "")
            told = self.answer.subjects.setdefault(key, OracleSubject(key, longest))
        meters = self.catalogue.of_type(event.type, sessions=True)
        before = self.pass_deadlines(told, log_time)
        told.add(event, log_time)
        horizon = log_time - subjects.SETTLED_AFTER
        if isinstance(told, OracleSubject) and horizon > self.catalogue.metering_since:
            told.settle(horizon)
        self.charge(key, before, told.bills(meters, log_time), log_time)

    def pass_deadlines(self, told: OracleSession | OracleSubject, log_time: int) -> Sequence[Bill]:
        """Charge what timed out up to a log time, each at its deadline; the bills as they are."""
        meters = self.catalogue.of_type(told.key.type, sessions=True)
        before = told.bills(meters, told.last_append)
        for deadline in told.deadlines(meters):
            if deadline <= log_time:
                after = told.bills(meters, deadline)
                self.charge(told.key, before, after, deadline)
                before = after
        return before

    def charge(
        self, key: SessionKey, before: Sequence[Bill], after: Sequence[Bill], cause: int
    ) -> None:
        """Contributions that turn one set of bills into another."""
        for meter, group, start, events, microseconds in moves(before, after):
            line = self.answer.ledger.line(meter, key.partition, key.tenant, group)
            seconds = Fraction(microseconds, 1_000_000)
            contribution = Contribution(line, meter, start, cause, events, seconds)
            self.answer.ledger.contributions.append(contribution)

    def end(self) -> None:
        """Rule 8 at the end of the log: the deadlines that each partition reached."""
        everybody: list[OracleSession | OracleSubject] = [
            *self.answer.sessions.values(),
            *self.answer.subjects.values(),
        ]
        for told in everybody:
            self.pass_deadlines(told, self.answer.appended[told.key.partition])
