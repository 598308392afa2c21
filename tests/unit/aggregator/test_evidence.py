"""Events judged again and added up: the same rows as the fold's, and every doubt told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings

from meterstream_aggregator.catalogue import HOUR, Aggregate
from meterstream_aggregator.changes import CallerKey, KeyState
from meterstream_aggregator.evidence import Known, Outcome, judge
from meterstream_aggregator.evidence_rows import (
    Frame,
    KeptKey,
    RowKey,
    Rows,
    mismatches,
    rows_of_events,
    rows_of_sessions,
)
from meterstream_aggregator.intake import content_hash
from meterstream_schemas.events import EventKind
from tests.unit.aggregator.making import (
    CATALOGUE,
    NOW,
    event,
    known,
    logged,
    nasty_records,
    numbered,
    plainly,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meterstream_aggregator.batch import LogRecord
    from meterstream_aggregator.catalogue import Meter
    from meterstream_aggregator.changes import Changes

NOTHING = Known({}, {})
ALL_TIME = (-(2**62), 2**62)


def _rows(changes: Changes, partition: int, tenant: str, versions: set[str]) -> Rows:
    """What the fold made of a tenant."""
    usage = {
        RowKey(key.series.version, key.series.group, *key[1:]): row
        for delta in changes.usage
        for key, row in delta.rows().items()
        if (key.series.partition, key.series.tenant) == (partition, tenant)
        and key.series.version in versions
        and any(row)
    }
    items = {
        KeptKey(key.series.version, key.series.group, *key[1:]): item
        for key, item in changes.items.items()
        if (key.series.partition, key.series.tenant) == (partition, tenant)
        and key.series.version in versions
    }
    return Rows(Aggregate.SUM, usage, items)


def _known(changes: Changes, partition: int, tenant: str) -> Known:
    return Known(
        {
            letter.offset: letter.refusal.reason.value
            for letter in changes.dead_letters
            if letter.partition == partition
        },
        {
            key.key: key
            for (of, whose, _), key in changes.keys.items()
            if (of, whose) == (partition, tenant)
        },
    )


def _definitions() -> Mapping[str, list[Meter]]:
    names = dict.fromkeys(meter.name for meter in CATALOGUE.meters)
    return {name: list(CATALOGUE.definitions(name)) for name in names}


@settings(max_examples=50)
@given(nasty_records())
def test_events_make_the_rows_that_the_fold_makes(records: list[LogRecord]) -> None:
    """Of any log, for every tenant and meter: judged and added up, the same rows and items."""
    changes, state = plainly(records, known())

    for partition, tenant in {(record.partition, record.event.tenant) for record in records}:
        here = [r for r in records if r.partition == partition]
        mine = [r for r in here if r.event.tenant == tenant]
        others = [r for r in here if r.event.tenant != tenant]
        judged = judge(mine, lambda _: CATALOGUE, _known(changes, partition, tenant), others)
        for definitions in _definitions().values():
            theirs = _rows(changes, partition, tenant, {m.version for m in definitions})
            admitted = frozenset((key.version, key.group) for key in theirs.usage)
            frame = Frame(definitions, *ALL_TIME, CATALOGUE.metering_since, admitted)
            if frame.aggregate is Aggregate.SESSION:
                made = rows_of_sessions(judged, CATALOGUE, frame, state.after[partition])
            else:
                made = rows_of_events(judged, frame)
            assert mismatches(theirs, made) == []


def test_the_table_of_keys() -> None:
    """An event and its VOID, in either order and repeated, come to nothing."""
    said = event(key="k")
    void = said._replace(kind=EventKind.VOID)

    def outcomes(*events: object) -> list[tuple[int, str]]:
        judged = judge(logged(events), lambda _: CATALOGUE, NOTHING)  # type: ignore[arg-type] # events
        return [(one.times, one.outcome) for one in judged]

    counted, taken_back = (1, Outcome.COUNTED), (-1, Outcome.TAKEN_BACK)
    duplicate, voided = (0, Outcome.DUPLICATE), (0, Outcome.VOIDED)
    assert outcomes(said, said, void, void, said) == [
        counted, duplicate, taken_back, duplicate, duplicate,
    ]  # fmt: skip
    assert outcomes(void, void, said, said, void) == [
        voided, duplicate, voided, duplicate, duplicate,
    ]  # fmt: skip


def test_a_void_that_lies_elsewhere_is_the_stores_word() -> None:
    """Its event was not counted, since the VOID came before; only the store knows of that."""
    [record] = logged([event(key="k")])
    key = CallerKey(0, "acme", "k", content_hash(record.event), NOW, KeyState.VOIDED, NOW)

    [judged] = judge([record], lambda _: CATALOGUE, Known({}, {"k": key}))

    assert (judged.times, judged.outcome, judged.why) == (0, Outcome.VOIDED, "by an earlier VOID")


def test_a_replay_of_a_refused_number_counts() -> None:
    """Refused, it is remembered; still broken, it is a repeat; mended, it counts once."""
    broken = numbered(1, attributes={"bytes": "many"})
    mended = numbered(1, attributes={"bytes": "7"})

    judged = judge(
        logged([broken, broken, mended, mended]),
        lambda _: CATALOGUE,
        Known({0: "invalid_quantity"}, {}),
    )

    assert [one.outcome for one in judged] == ["refused", "duplicate", "counted", "duplicate"]


@pytest.mark.parametrize(
    ("told", "changes", "why"),
    [
        ("invalid_quantity", {}, "invalid_quantity (by the rules it is not)"),
        ("key_conflict", {}, "key_conflict"),
        (None, {"tenant": ""}, "invalid_tenant (and the store has no dead letter of it)"),
    ],
)
def test_where_store_and_rules_part_it_is_told(
    told: str | None, changes: dict[str, object], why: str
) -> None:
    """What the rules say otherwise than the store is a doubt; what lies elsewhere is believed."""
    refused = {} if told is None else {0: told}

    [judged] = judge(logged([event(**changes)]), lambda _: CATALOGUE, Known(refused, {}))

    assert (judged.outcome, judged.why) == (Outcome.REFUSED, why)


def test_two_contents_of_one_key_without_a_dead_letter_are_a_doubt() -> None:
    """The second would have been refused; that the store has no dead letter of it is told."""
    one, other = event(key="k"), event(key="k", quantity=2)

    judged = judge(logged([one, other]), lambda _: CATALOGUE, NOTHING)

    assert [each.outcome for each in judged] == ["counted", "refused"]
    assert "no dead letter" in judged[1].why


def test_a_row_that_is_not_the_same_is_told_with_both_sides() -> None:
    """Other, missing and extra rows, in the order of their keys."""
    rows = [RowKey("v", (), HOUR * n, 0, 0) for n in range(4)]
    store = Rows(Aggregate.SUM, {rows[0]: (1, 1), rows[1]: (1, 5), rows[2]: (1, 1)})
    events = Rows(Aggregate.SUM, {rows[0]: (1, 1), rows[1]: (1, 6), rows[3]: (2, 2)})

    assert [(each.key, each.store, each.events) for each in mismatches(store, events)] == [
        (rows[1], (1, 5), (1, 6)),
        (rows[2], (1, 1), None),
        (rows[3], None, (2, 2)),
    ]


def test_a_number_that_another_tenant_used_first_is_taken() -> None:
    """Numbers are a producer's, whoever's events they number; a refused use leaves them free."""
    first, mine = numbered(1, tenant="b"), numbered(1)
    records = logged([first, mine])

    [judged] = judge(records[1:], lambda _: CATALOGUE, NOTHING, records[:1])
    [mended] = judge(records[1:], lambda _: CATALOGUE, Known({0: "invalid_value"}, {}), records[:1])
    [alone] = judge(records[1:], lambda _: CATALOGUE, NOTHING)

    assert (judged.outcome, judged.why) == (Outcome.DUPLICATE, "number seen before")
    assert (mended.outcome, alone.outcome) == (Outcome.COUNTED, Outcome.COUNTED)


@pytest.mark.parametrize(
    ("told", "outcome"), [("key_conflict", "duplicate"), ("invalid_time", "counted")]
)
def test_a_repeat_of_what_was_refused_for_what_lies_elsewhere(told: str, outcome: str) -> None:
    """It is as it was, and so refused as before; where a rule refused it, the rule is asked."""
    said = numbered(1, key="k")

    judged = judge(logged([said, said]), lambda _: CATALOGUE, Known({0: told}, {}))

    assert [one.outcome for one in judged] == ["refused", outcome]
