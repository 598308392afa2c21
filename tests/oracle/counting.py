"""Count a log slowly and obviously (DESIGN sections 5 to 11), one record after the other.

The rules, in the order in which they meet a record:

1. An event whose own identity is impossible (lane, number, producer or caller's key out of range)
   is **refused** as `invalid_identity` and its number is not noted. A MARK spends no number and
   counts nowhere; it claims that its lane reached a number.
2. A number (partition, producer, lane, sequence) that was already taken is a **duplicate**. One
   that was *refused* before may be a mended replay: it is judged again, and counts if it is good
   now; if it is not, it is a duplicate of the dead letter there is. Foreign events (no producer)
   have no number.
3. What cannot be counted is **refused**, for the first reason that applies: `unknown_kind`;
   `invalid_tenant`; `invalid_time` (before metering began, or more than one hour ahead of the
   append time); `unknown_type` (no meter reads this type in this kind: session meters read
   boundaries, all others read USAGE); `invalid_session` (a boundary without a usable id);
   `invalid_quantity` (USAGE whose scale lies outside 0 to 18, or whose value attribute, if any
   meter of the type reads it and whatever its filter, is not a plain decimal number).
4. A caller's key that the tenant has used is a **duplicate** when the content is the same (all but
   producer, lane and sequence; amounts by value) and refused as `key_conflict` otherwise. The first
   accepted event in the log holds the key.
5. What is left is **counted**, in every meter of its type whose filter it passes. An absent value
   attribute adds nothing, not even to `events`. To groups and filters an absent attribute is "".
6. Sessions are judged when the whole log is known (`tests.oracle.sessions`). `events` of a session
   meter's row is the number of sessions that started in that window, open ones included.

Horizons (of keys, of producers) are not modelled: keep worlds shorter than 90 days.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from meterstream_schemas.events import EventKind, MeterEvent
from tests.oracle.catalogue import OracleCatalogue, OracleMeter, read_catalogue
from tests.oracle.sessions import OracleSession, SessionKey, split

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FUTURE_MICROSECONDS = 3_600_000_000
_BOUNDARIES = (EventKind.SESSION_START, EventKind.SESSION_HEARTBEAT, EventKind.SESSION_END)


_PLAIN = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?")


class LogRecord(NamedTuple):
    """One record as the log holds it; ``append_time`` in microseconds UTC."""

    partition: int
    offset: int
    append_time: int
    event: MeterEvent


class Number(NamedTuple):
    """The number an event was sent under."""

    partition: int
    producer: str
    lane: int
    sequence: int


class UsageKey(NamedTuple):
    """Which figure."""

    tenant: str
    meter: str
    group: tuple[str, ...]
    window_start: int


class Refusal(NamedTuple):
    """One dead letter."""

    partition: int
    offset: int
    reason: str


@dataclass
class Answer:
    """What the log says, whole."""

    usage: dict[UsageKey, tuple[int, Fraction]] = field(
        default_factory=dict[UsageKey, tuple[int, Fraction]]
    )
    sessions: dict[SessionKey, OracleSession] = field(
        default_factory=dict[SessionKey, OracleSession]
    )
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    counted: Counter[int] = field(default_factory=Counter[int])
    duplicates: Counter[int] = field(default_factory=Counter[int])
    refused: Counter[int] = field(default_factory=Counter[int])
    marks: Counter[int] = field(default_factory=Counter[int])
    appended: dict[int, int] = field(default_factory=dict[int, int])
    missing: dict[tuple[str, int], list[tuple[int, int]]] = field(
        default_factory=dict[tuple[str, int], list[tuple[int, int]]]
    )

    def states(self, catalogue: OracleCatalogue) -> dict[SessionKey, str]:
        """Each session's state, by the shortest timeout of the meters that read it."""
        timeouts: dict[str, int | None] = {}
        for meter in catalogue.meters:
            if meter.aggregate == "session":
                known = [t for t in (timeouts.get(meter.type), meter.timeout) if t is not None]
                timeouts[meter.type] = min(known, default=None)
        return {
            key: session.state(timeouts[key.type], self.appended[key.partition])
            for key, session in self.sessions.items()
        }


def count(catalogue: OracleCatalogue | str, records: Iterable[LogRecord]) -> Answer:
    """The whole answer to a log: records in log order, catalogue as value or YAML text."""
    if isinstance(catalogue, str):
        catalogue = read_catalogue(catalogue)
    walk = _Walk(catalogue)
    for record in records:
        walk.take(record)
    for session in walk.answer.sessions.values():
        for meter in catalogue.meters:
            if meter.aggregate == "session" and meter.type == session.key.type:
                walk.bill(meter, session)
    walk.answer.missing = walk.holes()
    return walk.answer


class _Walk:
    """One pass over the log, with everything it must remember."""

    def __init__(self, catalogue: OracleCatalogue) -> None:
        self.catalogue = catalogue
        self.answer = Answer()
        self.taken: set[Number] = set()
        self.turned_away: set[Number] = set()
        """Numbers that are taken, refused, and may still be counted."""
        self.claimed: dict[tuple[str, int], int] = {}
        self.keys: dict[tuple[int, str, str], object] = {}

    def take(self, record: LogRecord) -> None:
        """Rules 1 to 4 for the next record."""
        event, partition, answer = record.event, record.partition, self.answer
        answer.appended[partition] = max(record.append_time, answer.appended.get(partition, 0))
        if not _identity_is_possible(event):
            self.refuse(record, "invalid_identity")
            return
        if event.kind is EventKind.MARK:
            lane = (event.producer, event.lane)
            self.claimed[lane] = max(event.sequence, self.claimed.get(lane, 0))
            answer.marks[partition] += 1
            return
        number = Number(partition, event.producer, event.lane, event.sequence)
        again = number in self.taken
        if again and number not in self.turned_away:
            answer.duplicates[partition] += 1
            return
        if event.producer:
            self.taken.add(number)
        reason = _refusal(self.catalogue, event, record.append_time)
        holder = self.keys.get((partition, event.tenant, event.key)) if event.key else None
        if reason is None and holder is not None and holder != _content(event):
            reason = "key_conflict"
        if reason is not None and not again:
            self.turned_away.add(number)
            self.refuse(record, reason)
        elif reason is not None:
            answer.duplicates[partition] += 1
        else:
            self.turned_away.discard(number)
            self.keep(event, record, repeats=holder is not None)

    def refuse(self, record: LogRecord, reason: str) -> None:
        """One more dead letter."""
        self.answer.refused[record.partition] += 1
        self.answer.refusals.append(Refusal(record.partition, record.offset, reason))

    def keep(self, event: MeterEvent, record: LogRecord, *, repeats: bool) -> None:
        """A good event: a duplicate where it repeats what its key stands for, else counted."""
        if repeats:
            self.answer.duplicates[record.partition] += 1
            return
        if event.key:
            self.keys[record.partition, event.tenant, event.key] = _content(event)
        self.answer.counted[record.partition] += 1
        self.add(event, record)

    def add(self, event: MeterEvent, record: LogRecord) -> None:
        """Rule 5, for an event that was found good."""
        if event.kind in _BOUNDARIES:
            assert event.session is not None
            key = SessionKey(record.partition, event.tenant, event.type, event.session)
            session = self.answer.sessions.setdefault(key, OracleSession(key))
            session.add(event, record.append_time)
            return
        for meter in self.catalogue.meters:
            if meter.type != event.type or meter.aggregate == "session":
                continue
            value = _value(meter, event)
            if value is None or not _passes(meter, event.attributes):
                continue
            window_start = event.time // meter.window * meter.window
            self.merge(meter, event.tenant, event.attributes, (window_start, 1, value))

    def bill(self, meter: OracleMeter, session: OracleSession) -> None:
        """Rule 6, for one session and one meter that reads its type."""
        opening, start = session.opening, session.start
        if opening is None or start is None or not _passes(meter, opening.attributes):
            return
        tenant, attributes = session.key.tenant, opening.attributes
        first = start // meter.window * meter.window
        self.merge(meter, tenant, attributes, (first, 1, Fraction(0)))
        appended = self.answer.appended[session.key.partition]
        end = session.billed_end(meter.timeout, meter.timeout_bills, appended)
        for window_start, microseconds in split(start, end or start, meter.window).items():
            seconds = Fraction(microseconds, 1_000_000)
            self.merge(meter, tenant, attributes, (window_start, 0, seconds))

    def merge(
        self,
        meter: OracleMeter,
        tenant: str,
        attributes: Mapping[str, str],
        part: tuple[int, int, Fraction],
    ) -> None:
        """Join (window start, events, value) into the figure it belongs to."""
        window_start, events, value = part
        group = tuple(attributes.get(name, "") for name in meter.group_by)
        key = UsageKey(tenant, meter.name, group, window_start)
        known = self.answer.usage.get(key)
        if known is None:
            self.answer.usage[key] = (events, value)
        elif meter.aggregate == "min":
            self.answer.usage[key] = (known[0] + events, min(known[1], value))
        elif meter.aggregate == "max":
            self.answer.usage[key] = (known[0] + events, max(known[1], value))
        else:
            self.answer.usage[key] = (known[0] + events, known[1] + value)

    def holes(self) -> dict[tuple[str, int], list[tuple[int, int]]]:
        """Per producer and lane, the runs of numbers up to the highest known that never came."""
        seen: dict[tuple[str, int], set[int]] = {lane: set() for lane in self.claimed}
        for number in self.taken:
            seen.setdefault((number.producer, number.lane), set()).add(number.sequence)
        holes: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for lane, numbers in seen.items():
            highest = max(numbers | {self.claimed.get(lane, 0)})
            runs: list[tuple[int, int]] = []
            for absent in (n for n in range(1, highest + 1) if n not in numbers):
                if runs and runs[-1][1] == absent - 1:
                    runs[-1] = (runs[-1][0], absent)
                else:
                    runs.append((absent, absent))
            if runs:
                holes[lane] = runs
        return holes


def plain_decimal(text: str) -> Fraction | None:
    """The exact value of decimal text that fits an amount, or None where it is not one."""
    if len(text) > 64 or not text.isascii() or not _PLAIN.fullmatch(text):
        return None
    value = Fraction(text)
    for scale in range(19):
        unscaled = value * 10**scale
        if unscaled.denominator == 1:
            return value if -(2**63) <= unscaled < 2**63 else None
    return None


def _identity_is_possible(event: MeterEvent) -> bool:
    """Rule 1: whether the event can have been sent under what it says."""
    if event.producer:
        if not re.fullmatch(r"[ -~]{1,64}", event.producer):
            return False
        if event.lane not in range(256) or event.sequence < 1:
            return False
    elif event.kind is EventKind.MARK:
        return False
    return event.key is None or _is_clean(event.key, 256)


def _is_clean(text: str | None, bytes_max: int) -> bool:
    """Not empty, not too long, and no control characters in it."""
    if not text or len(text.encode()) > bytes_max:
        return False
    return not any(ord(character) < 32 or ord(character) == 127 for character in text)


def _refusal(catalogue: OracleCatalogue, event: MeterEvent, append_time: int) -> str | None:
    """Rule 3: the first reason why the event cannot be counted, or None."""
    boundary = event.kind in _BOUNDARIES
    if event.kind is not EventKind.USAGE and not boundary:
        return "unknown_kind"
    if not _is_clean(event.tenant, 128):
        return "invalid_tenant"
    if not catalogue.metering_since <= event.time <= append_time + FUTURE_MICROSECONDS:
        return "invalid_time"
    meters = [
        meter
        for meter in catalogue.meters
        if meter.type == event.type and (meter.aggregate == "session") == boundary
    ]
    if not meters:
        return "unknown_type"
    if boundary:
        return None if _is_clean(event.session, 256) else "invalid_session"
    read = {meter.value_attribute for meter in meters} & event.attributes.keys()
    amounts = [plain_decimal(event.attributes[name]) for name in read if name is not None]
    return None if 0 <= event.scale <= 18 and None not in amounts else "invalid_quantity"


def _value(meter: OracleMeter, event: MeterEvent) -> Fraction | None:
    """What the event adds to the meter, or None where it says nothing about it."""
    if meter.aggregate == "count":
        return Fraction(1)
    name = meter.value_attribute
    if name is None:
        return Fraction(event.quantity, 10**event.scale)
    return plain_decimal(event.attributes[name]) if name in event.attributes else None


def _passes(meter: OracleMeter, attributes: Mapping[str, str]) -> bool:
    return all(attributes.get(name, "") in allowed for name, allowed in meter.where.items())


def _content(event: MeterEvent) -> object:
    """Rule 4: what must be equal for two events under one key to be the same."""
    amount = Fraction(event.quantity, 10**event.scale)
    attributes = tuple(sorted(event.attributes.items()))
    return event.kind, event.type, event.time, amount, event.session, event.subject, attributes
