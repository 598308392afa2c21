"""The events behind a figure, judged again from their part of the log. Pure.

The judge reads a part of the log: the offsets that hold counted events of the hours in question.
What was counted there lies in that part, and so does every earlier sending of the same event, since
that has the same time. So numbers, keys and VOIDs are judged by the log alone. A number may have
been used by another event, of any tenant: those that lie in the part are judged with it. Two things
only the store knows, and it is believed in them: that a record was refused for what lay elsewhere
(`ELSEWHERE`), and that the VOID of an event came before it, at a place that nothing was counted at.
What nobody knows is told as a difference: a number that another event used first outside the part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue import Catalogue
from meterstream_aggregator.changes import CallerKey, KeyState
from meterstream_aggregator.intake import content_hash
from meterstream_aggregator.refusals import UNNUMBERED, Reason, refusal
from meterstream_aggregator.state import KEY_HORIZON
from meterstream_schemas.events import EventKind, MeterEvent

ELSEWHERE: Final = frozenset(
    {
        Reason.KEY_CONFLICT,
        Reason.EXPIRED_PRODUCER,
        Reason.SETTLED_SESSION,
        Reason.INVALID_IDENTITY,
    }
)
"""Reasons that may lie in another part of the log."""


class Outcome(StrEnum):
    """What became of an event."""

    COUNTED = "counted"
    TAKEN_BACK = "taken back"
    """A VOID, counted the other way."""
    VOIDED = "voided"
    """An event whose VOID came first, or that VOID: neither is counted."""
    DUPLICATE = "duplicate"
    REFUSED = "refused"


class Judged(NamedTuple):
    """An event, how often it counts (1, 0, or -1 for a VOID), and why."""

    record: LogRecord
    times: int
    outcome: Outcome
    why: str


class Known(NamedTuple):
    """What the store says of the tenant: refused offsets with their reasons, and callers' keys."""

    refused: Mapping[int, str]
    keys: Mapping[str, CallerKey]


def judge(
    records: Sequence[LogRecord],
    catalogue_at: Callable[[int], Catalogue],
    known: Known,
    others: Sequence[LogRecord] = (),
) -> list[Judged]:
    """What became of these records of one tenant and partition, in log order, but for marks.

    ``others`` are more records of the partition, of any tenant: they use up numbers and keys.
    """
    mine = {record.offset for record in records}
    events = [r for r in (*records, *others) if r.event.kind is not EventKind.MARK]
    events.sort(key=lambda record: record.offset)
    judging = _Judge(catalogue_at, known, events, mine)
    judged = [judging.judged(record) for record in events]
    return [each for each in judged if each.record.offset in mine]


class _Judge:
    """Remembers what the records so far used up."""

    def __init__(
        self,
        catalogue_at: Callable[[int], Catalogue],
        known: Known,
        events: Sequence[LogRecord],
        mine: set[int],
    ) -> None:
        self._catalogue_at = catalogue_at
        self._known = known
        self._mine = mine
        voids = [r.event for r in events if r.event.kind is EventKind.VOID]
        self._voided = {(void.tenant, void.key) for void in voids}
        self._numbers: dict[tuple[str, int, int], tuple[MeterEvent, str] | None] = {}
        """What was refused under a number, and why; None once an event was not."""
        self._keys: dict[tuple[str, str], tuple[bytes, KeyState, int]] = {}

    def judged(self, record: LogRecord) -> Judged:
        event = record.event
        number = (event.producer, event.lane, event.sequence)
        own = refusal(event, record.append_time, self._catalogue_at(record.offset))
        told = self._known.refused.get(record.offset)
        if told is not None:
            if event.producer and told not in UNNUMBERED:
                self._numbers[number] = (event, told)
            agrees = told in ELSEWHERE or (own is not None and own.reason == told)
            doubt = "" if agrees else " (by the rules it is not)"
            return Judged(record, 0, Outcome.REFUSED, f"{told}{doubt}")
        is_repeat = bool(event.producer) and number in self._numbers
        refused = self._numbers.get(number) if is_repeat else None
        if is_repeat and refused is None:
            return Judged(record, 0, Outcome.DUPLICATE, "number seen before")
        if refused is not None and (own is not None or self._is_still_refused(record, refused)):
            return Judged(record, 0, Outcome.DUPLICATE, "refused before, and still not mended")
        if own is not None:
            why = f"{own.reason} (and the store has no dead letter of it)"
            return Judged(record, 0, Outcome.REFUSED, why)
        if event.producer:
            self._numbers[number] = None
        return self._by_key(record)

    def _is_still_refused(self, record: LogRecord, before: tuple[MeterEvent, str]) -> bool:
        """Whether an event that breaks no rule is refused for what lies elsewhere, as before."""
        event = record.event
        if before[1] not in ELSEWHERE:
            return False
        if event.key is not None and (event.tenant, event.key) in self._keys:
            content = self._key(record, event.key)
            return content is not None and content[0] != content_hash(event)
        return event == before[0]

    def _key(self, record: LogRecord, key: str) -> tuple[bytes, KeyState, int] | None:
        """What is known of a key within its horizon."""
        known = self._keys.get((record.event.tenant, key))
        if known is not None and record.append_time - known[2] > KEY_HORIZON:
            return None
        return known

    def _by_key(self, record: LogRecord) -> Judged:
        key, tenant = record.event.key, record.event.tenant
        if key is None:
            return Judged(record, 1, Outcome.COUNTED, "")
        content, is_void = content_hash(record.event), record.event.kind is EventKind.VOID
        known = self._key(record, key)
        if known is not None and known[0] != content:
            why = f"{Reason.KEY_CONFLICT} (and the store has no dead letter of it)"
            return Judged(record, 0, Outcome.REFUSED, why)
        state, judged = _told(record, is_void, None if known is None else known[1])
        stored = self._known.keys.get(key) if record.offset in self._mine else None
        if (
            state is KeyState.COUNTED
            and stored is not None
            and stored.state is KeyState.VOIDED
            and (tenant, key) not in self._voided
        ):
            state, judged = KeyState.VOIDED, Judged(record, 0, Outcome.VOIDED, "by an earlier VOID")
        if state is not None:
            self._keys[tenant, key] = (content, state, record.append_time)
        return judged


def _told(
    record: LogRecord,
    is_void: bool,
    known: KeyState | None,
) -> tuple[KeyState | None, Judged]:
    """The table of `intake`: what is known of the key then, and what became of the event."""
    match (is_void, known):
        case (False, None):
            return KeyState.COUNTED, Judged(record, 1, Outcome.COUNTED, "")
        case (True, KeyState.COUNTED):
            return KeyState.VOIDED, Judged(record, -1, Outcome.TAKEN_BACK, "")
        case (True, None):
            return KeyState.AWAITED, Judged(record, 0, Outcome.VOIDED, "before its event came")
        case (False, KeyState.AWAITED):
            return KeyState.VOIDED, Judged(record, 0, Outcome.VOIDED, "by an earlier VOID")
        case _:
            return None, Judged(record, 0, Outcome.DUPLICATE, "key seen before")
