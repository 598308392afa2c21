"""Events chosen from a log: a tenant's, and those that share numbers with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hypothesis import given
from hypothesis import strategies as st

from meterstream_consumers.gathering import same_numbers, tenant_records
from meterstream_consumers.logreader import Range
from meterstream_schemas.registry import BundledSchemas
from tests.unit.aggregator.making import event
from tests.unit.consumers.making import Record, framed, raw_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from meterstream_consumers.logreader import LogReader
    from meterstream_consumers.records import RawBatch
    from meterstream_schemas.events import MeterEvent


class _Log:
    """A log in memory that is read in small batches; the broker's clock steps back in it."""

    def __init__(self, events: Sequence[tuple[int, MeterEvent]]) -> None:
        self._records = [
            Record(partition, offset, 10_000 - offset, framed(said))
            for offset, (partition, said) in enumerate(events)
        ]

    def read(self, ranges: Sequence[Range]) -> Iterator[RawBatch]:
        found = [
            r
            for r in self._records
            if any(e.partition == r.partition and e.start <= r.offset < e.end for e in ranges)
        ]
        for at in range(0, len(found), 3):
            yield raw_of(found[at : at + 3])


@st.composite
def _events(draw: st.DrawFn) -> tuple[int, MeterEvent]:
    few = st.integers(0, 1)
    producer = draw(st.sampled_from(("a" * 32, "b" * 32, "")))
    tenant = draw(st.sampled_from(("acme", "other")))
    numbers = {"lane": draw(few), "sequence": 1 + draw(few)} if producer else {}
    return draw(few), event(producer=producer, tenant=tenant, **numbers)


@given(st.lists(_events(), max_size=20), st.integers(0, 20))
def test_what_is_chosen_is_what_a_plain_search_finds(
    events: list[tuple[int, MeterEvent]], first: int
) -> None:
    """Over any log: the tenant's events, and others under a number of the partition."""
    log, schemas = cast("LogReader", _Log(events)), BundledSchemas()
    ranges = [Range(0, 0, 99), Range(1, first, 99)]
    within = [
        (offset, partition, said)
        for offset, (partition, said) in enumerate(events)
        if partition == 0 or offset >= first
    ]

    mine = [r for batch in tenant_records(log, schemas, ranges, "acme") for r in batch]
    named = [record for record in mine if record.event.producer]
    others = [r for batch in same_numbers(log, schemas, ranges, named) for r in batch]

    assert [r.offset for r in mine] == [at for at, _, said in within if said.tenant == "acme"]
    numbers = {(r.partition, r.event.producer, r.event.lane, r.event.sequence) for r in named}
    assert [r.offset for r in others] == [
        at
        for at, partition, said in within
        if said.tenant != "acme" and (partition, said.producer, said.lane, said.sequence) in numbers
    ]
    assert all(r.event == events[r.offset][1] for r in (*mine, *others))
