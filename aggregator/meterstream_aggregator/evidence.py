"""The events behind a figure, judged again from their part of the log. Pure.

The judge reads a part of the log: the offsets that hold counted events of the hours in question.
What was counted there lies in that part, and so does every earlier record of the same number, or of
the same key and content, since those have the same time. So numbers, keys and VOIDs are judged by
the log alone. Two things only the store knows, and it is believed in them: that a record was
refused for what lay elsewhere (`ELSEWHERE`), and that the VOID of an event came before it, at a
place that nothing was counted at.
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
from meterstream_schemas.events import EventKind

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
    records: Sequence[LogRecord], catalogue_at: Callable[[int], Catalogue], known: Known
) -> list[Judged]:
    """What became of these records of one tenant, in log order. Marks are left out."""
    voided = {r.event.key for r in records if r.event.kind is EventKind.VOID}
    judging = _Judge(catalogue_at, known, voided)
    return [judging.judged(r) for r in records if r.event.kind is not EventKind.MARK]


class _Judge:
    """Remembers what the records so far used up."""

    def __init__(
        self,
        catalogue_at: Callable[[int], Catalogue],
        known: Known,
        voided: set[str | None],
    ) -> None:
        self._catalogue_at = catalogue_at
        self._known = known
        self._voided = voided
        self._numbers: dict[tuple[str, int, int], bool] = {}
        """Whether a number's event was refused so far."""
        self._keys: dict[str, tuple[bytes, KeyState, int]] = {}

    def judged(self, record: LogRecord) -> Judged:
        event = record.event
        number = (event.producer, event.lane, event.sequence)
        own = refusal(event, record.append_time, self._catalogue_at(record.offset))
        told = self._known.refused.get(record.offset)
        if told is not None:
            if event.producer and told not in UNNUMBERED:
                self._numbers[number] = True
            agrees = told in ELSEWHERE or (own is not None and own.reason == told)
            doubt = "" if agrees else " (by the rules it is not)"
            return Judged(record, 0, Outcome.REFUSED, f"{told}{doubt}")
        was_refused = self._numbers.get(number) if event.producer else None
        if was_refused is False:
            return Judged(record, 0, Outcome.DUPLICATE, "number seen before")
        if own is not None and was_refused:
            return Judged(record, 0, Outcome.DUPLICATE, "refused before, and still not mended")
        if own is not None:
            why = f"{own.reason} (and the store has no dead letter of it)"
            return Judged(record, 0, Outcome.REFUSED, why)
        if event.producer:
            self._numbers[number] = False
        return self._by_key(record)

    def _by_key(self, record: LogRecord) -> Judged:
        key = record.event.key
        if key is None:
            return Judged(record, 1, Outcome.COUNTED, "")
        content, is_void = content_hash(record.event), record.event.kind is EventKind.VOID
        known = self._keys.get(key)
        if known is not None and record.append_time - known[2] > KEY_HORIZON:
            known = None
        if known is not None and known[0] != content:
            why = f"{Reason.KEY_CONFLICT} (and the store has no dead letter of it)"
            return Judged(record, 0, Outcome.REFUSED, why)
        state, judged = _told(record, is_void, None if known is None else known[1])
        stored = self._known.keys.get(key)
        if (
            state is KeyState.COUNTED
            and stored is not None
            and stored.state is KeyState.VOIDED
            and key not in self._voided
        ):
            state, judged = KeyState.VOIDED, Judged(record, 0, Outcome.VOIDED, "by an earlier VOID")
        if state is not None:
            self._keys[key] = (content, state, record.append_time)
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
