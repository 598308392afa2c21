"""May this store be used with this topic and this catalogue? Pure; every store asks it.

A figure is made by the definitions that applied when its events came, so what has applied stays;
where nothing was folded yet, any catalogue will do:

* an event may lie `FUTURE_MAX` ahead of its append time, so every definition that begins no later
  than that after the highest append time folded may have read something. It must still be there;
* a change is a further definition of the same name that begins later, on a whole hour;
* how long a session may last (the least ``longest`` of a type's meters) stays for the type;
* a meter may be taken out, its figures stay; it may not come back as another;
* a new meter without a date counts from the position on at which it appears, if nobody read its
  type before. Events or sessions that were counted without it need a date: a VOID, or a boundary
  that comes later, would take back from it what it never had.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Final

from meterstream_aggregator.catalogue import (
    FUTURE_MAX,
    HOUR,
    MINUTE,
    Aggregate,
    Catalogue,
    Meter,
    definition,
)
from meterstream_aggregator.civil import local_time
from meterstream_aggregator.errors import StoreMismatch
from meterstream_aggregator.sessions import longest_of
from meterstream_aggregator.store.port import TopicBinding

_LENGTHS: Final = frozenset({"window", "grace", "timeout", "longest"})
_UNITS: Final = ((24 * HOUR, "d"), (HOUR, "h"), (MINUTE, "m"), (1_000_000, "s"))


def check_binding(
    bound: TopicBinding,
    counted_by: Sequence[Catalogue],
    wanted: TopicBinding,
    catalogue: Catalogue,
    *,
    appended: int,
) -> None:
    """Raise `StoreMismatch` unless topic and partitions are the same and nothing applied changed.

    ``counted_by`` are all catalogues the store was ever counted with, the latest last. ``appended``
    is the highest append time that any partition was folded to, 0 where nothing was.
    """
    if bound != wanted:
        way_out = "or the topic it was made from"
        if not appended:
            # A start under a wrong topic binds an empty store too.
            way_out += "; nothing was folded into it yet: delete it if it was bound by mistake"
        raise StoreMismatch(
            f"this store belongs to topic {bound.topic!r} (id {bound.topic_id or 'unknown'}, "
            f"{bound.partitions} partitions), not to {wanted.topic!r} (id "
            f"{wanted.topic_id or 'unknown'}, {wanted.partitions} partitions); name another store, "
            f"{way_out}"
        )
    if not appended:
        return
    latest = counted_by[-1]
    for field in ("metering_since", "accept_from"):
        before, now = getattr(latest, field), getattr(catalogue, field)
        if before != now:
            raise StoreMismatch(
                f"{field} differs from the one this store was made with ({_instant(before)} → "
                f"{_instant(now)}); restore it, or begin a new store"
            )
    earliest = earliest_change(appended, catalogue.accept_from)
    for name in dict.fromkeys(meter.name for meter in catalogue.meters):
        definitions = catalogue.definitions(name)
        known = _known(name, counted_by, earliest)
        if known:
            _check_changes(known, definitions, earliest)
        else:
            _check_dates(definitions, {0}, earliest)
        if not any(meter.name == name for meter in latest.meters):
            _check_joins(definitions, counted_by, earliest, returns=bool(known))
    for event_type in dict.fromkeys(meter.type for meter in catalogue.meters):
        _check_lengths(event_type, counted_by, catalogue)


def earliest_change(appended: int, accept_from: int) -> int:
    """The first whole hour of which no event can have been counted yet."""
    return max(((appended + FUTURE_MAX) // HOUR + 1) * HOUR, -(-accept_from // HOUR) * HOUR)


def _known(name: str, counted_by: Sequence[Catalogue], earliest: int) -> list[Meter]:
    """The definitions of a meter that may have read something; none for a new meter.

    What applied is in every later catalogue that has the name: of those the store is not bound to
    any more, which come in no order, the one with most of it is the latest.
    """
    found = [
        [meter for meter in catalogue.meters if meter.name == name and meter.since < earliest]
        for catalogue in counted_by
    ]
    return found[-1] or max(found, key=len)


def _check_changes(known: Sequence[Meter], now: Sequence[Meter], earliest: int) -> None:
    """Everything known must be there as it was, and what is new must begin later."""
    for before in known:
        after = next((meter for meter in now if meter.since == before.since), None)
        if after is None:
            begins = f" from {_instant(before.since)}" if before.since else ""
            raise StoreMismatch(
                f"meter {before.name!r} was counted by a definition{begins} that is gone; put it "
                "back above the others of this name: figures of its time are made with it"
            )
        if after.version != before.version:
            raise StoreMismatch(
                f"meter {before.name!r} was counted by another definition "
                f"({_difference(before, after)}); put it back and write the changed one below it "
                f"with a date, at the earliest this line: from: {_instant(earliest)}"
            )
    _check_dates(now, {meter.since for meter in known}, earliest)


def _check_dates(now: Sequence[Meter], known: set[int], earliest: int) -> None:
    for meter in now:
        if meter.since < earliest and meter.since not in known:
            raise StoreMismatch(
                f"meter {meter.name!r} would change from {_instant(meter.since)} on, and events of "
                "that time may be counted already; write at the earliest: "
                f"from: {_instant(earliest)}"
            )


def _check_joins(
    now: Sequence[Meter], counted_by: Sequence[Catalogue], earliest: int, *, returns: bool
) -> None:
    """A meter that was not there joins a type that nobody read, or what is to come.

    One of usage that was there before ``returns`` to its own figures.
    """
    for meter in now:
        of_sessions = meter.aggregate is Aggregate.SESSION
        if meter.since >= earliest or (returns and not of_sessions):
            continue
        if any(
            earlier.session_meters(meter.type) if of_sessions else earlier.usage_meters(meter.type)
            for earlier in counted_by
        ):
            what = "sessions" if of_sessions else "events"
            raise StoreMismatch(
                f"meter {meter.name!r} would read {what} of type {meter.type!r} that were "
                "counted without it; give it a name of its own and a date, at the earliest this "
                f"line: from: {_instant(earliest)}"
            )


def _check_lengths(event_type: str, counted_by: Sequence[Catalogue], now: Catalogue) -> None:
    """How long a session of a type may last is one rule for all its meters, and for all time."""
    wanted = longest_of(now.session_meters(event_type))
    for earlier in counted_by:
        readers = earlier.session_meters(event_type)
        if readers and now.session_meters(event_type) and longest_of(readers) != wanted:
            longest = longest_of(readers)
            raise StoreMismatch(
                f"sessions of type {event_type!r} were counted up to a length of "
                f"{_shown('longest', longest)}, not {_shown('longest', wanted)}, and the least "
                "of a type's meters holds for all of them; give the meters of this type this "
                f"line: longest: {_shown('longest', longest)}"
            )


def _difference(before: Meter, after: Meter) -> str:
    was, now = definition(before), definition(after)
    return ", ".join(
        f"{field}: {_shown(field, was[field])} → {_shown(field, now[field])}"
        for field in was
        if was[field] != now[field]
    )


def _shown(field: str, value: object) -> str:
    if field in _LENGTHS and isinstance(value, int):
        size, unit = next(
            ((size, unit) for size, unit in _UNITS if value % size == 0), (1_000_000, "s")
        )
        return f"{value // size}{unit}" if value else "0s"
    return repr(value)


def _instant(time: int) -> str:
    return local_time(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
