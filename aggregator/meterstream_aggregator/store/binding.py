"""May this store be used with this topic and this catalogue? Pure; every store asks it."""

from __future__ import annotations

from collections.abc import Sequence

from meterstream_aggregator.catalogue import Aggregate, Catalogue, Meter, definition
from meterstream_aggregator.errors import StoreMismatch
from meterstream_aggregator.store.port import TopicBinding


def check_binding(
    bound: TopicBinding, counted_by: Sequence[Catalogue], wanted: TopicBinding, catalogue: Catalogue
) -> None:
    """Raise `StoreMismatch` unless topic and partitions are the same and no known meter changed.

    ``counted_by`` are all catalogues the store was ever counted with, the latest last: a meter that
    was taken out and comes back changed would be added to what it once counted. New meters are
    welcome: they count from the position on at which they appear. Only a session meter cannot join
    sessions that were counted without it: it would take back time that it never gave.
    """
    if bound != wanted:
        raise StoreMismatch(
            f"this store belongs to topic {bound.topic!r} (id {bound.topic_id or 'unknown'}, "
            f"{bound.partitions} partitions), not to {wanted.topic!r} (id "
            f"{wanted.topic_id or 'unknown'}, {wanted.partitions} partitions); name another store, "
            "or the topic it was made from"
        )
    for earlier in counted_by:
        if earlier.metering_since != catalogue.metering_since:
            raise StoreMismatch(
                "metering_since differs from the one this store was made with; restore it, "
                "or begin a new store"
            )
        for meter in earlier.meters:
            _check_meter(meter, catalogue)
    for meter in catalogue.meters:
        _check_session_meter(meter, counted_by)


def _check_meter(known: Meter, catalogue: Catalogue) -> None:
    now = next((meter for meter in catalogue.meters if meter.name == known.name), None)
    if now is None or now.version == known.version:
        return
    before, after = definition(known), definition(now)
    changed = ", ".join(
        f"{field}: {before[field]!r} → {after[field]!r}"
        for field in before
        if before[field] != after[field]
    )
    raise StoreMismatch(
        f"meter {known.name!r} was counted by another definition ({changed}); "
        "restore it, or give the changed meter a new name"
    )


def _check_session_meter(meter: Meter, counted_by: Sequence[Catalogue]) -> None:
    if meter.aggregate is not Aggregate.SESSION:
        return
    if any(meter.name == known.name for known in counted_by[-1].meters):
        return
    if any(earlier.session_meters(meter.type) for earlier in counted_by):
        raise StoreMismatch(
            f"meter {meter.name!r} would read sessions of type {meter.type!r} that were counted "
            "without it; take it out, or begin a new store"
        )
