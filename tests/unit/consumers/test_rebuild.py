"""What a rebuild folds: which offsets by which catalogue, in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.changes import Changes
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_aggregator.store.port import Advance, TopicBinding
from meterstream_consumers.errors import LogTooShort, RebuildRefused
from meterstream_consumers.logreader import Range
from meterstream_consumers.rebuild import Plan, Stretch, plan_of_store, rebuild, steps
from meterstream_schemas.registry import BundledSchemas

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

BINDING = TopicBinding("events", "id-1", 3)
FIRST = parse_catalogue("metering_since: 2026-01-01T00:00:00Z\nmeters: [{name: a, aggregate: sum}]")
SECOND = parse_catalogue(
    "metering_since: 2026-01-01T00:00:00Z\n"
    "meters: [{name: a, aggregate: sum}, {name: b, aggregate: sum}]"
)


class _Live:
    """A store whose partitions advance, each under the catalogue that is bound at the time."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.epochs: dict[int, int] = {}

    def advance(self, partition: int, first: int, following: int) -> None:
        if partition not in self.epochs:
            self.epochs[partition] = self.store.claim(partition, "w").epoch
            previous = None
        else:
            previous = first
        advance = Advance(partition, self.epochs[partition], previous, first, following, 5, 1, 0, 0)
        self.store.commit([advance], Changes())


@pytest.fixture
def live() -> _Live:
    """Partition 0 read by two catalogues, 1 by the first, 2 claimed and never read."""
    made = _Live()
    made.store.bind(BINDING, FIRST)
    made.advance(0, 7, 10)
    made.advance(1, 0, 4)
    made.store.bind(BINDING, SECOND)
    made.advance(0, 10, 30)
    made.store.claim(2, "w")
    return made


def test_a_stores_history_is_the_plan(live: _Live) -> None:
    """From each partition's first offset to its position, by the catalogues that read it."""
    plan = plan_of_store(live.store)

    assert plan.binding == BINDING
    assert sorted(plan.stretches) == sorted(
        [
            Stretch(FIRST.version, Range(0, 7, 10)),
            Stretch(SECOND.version, Range(0, 10, 30)),
            Stretch(FIRST.version, Range(1, 0, 4)),
        ]
    )
    assert list(plan.catalogues) == [FIRST.version, SECOND.version]
    assert (plan.begins, plan.ends, plan.offsets) == ({0: 7, 1: 0}, {0: 30, 1: 4}, 27)


def test_one_catalogue_may_read_all_of_it(live: _Live) -> None:
    """Asked for by name it takes the place of every other."""
    plan = plan_of_store(live.store, SECOND)

    assert set(plan.stretches) == {
        Stretch(SECOND.version, Range(0, 7, 30)),
        Stretch(SECOND.version, Range(1, 0, 4)),
    }
    assert list(plan.catalogues) == [SECOND.version]


def test_a_store_that_nobody_bound_has_no_history() -> None:
    """There is nothing to fold again."""
    with pytest.raises(RebuildRefused, match="belongs to no topic"):
        plan_of_store(MemoryStore())


_CUTS = st.lists(st.sampled_from("abc"), max_size=5)


@given(st.lists(_CUTS, max_size=4))
def test_steps_keep_every_partitions_order(versions: list[list[str]]) -> None:
    """Every stretch is folded once, by its version, after all that is before it."""
    stretches = [
        Stretch(version, Range(partition, at, at + 1))
        for partition, of_partition in enumerate(versions)
        for at, version in enumerate(of_partition)
    ]

    told = [(version, each) for version, ranges in steps(stretches) for each in ranges]

    assert sorted(told) == sorted((each.version, each.range) for each in stretches)
    for partition in range(len(versions)):
        mine = [each.start for _, each in told if each.partition == partition]
        assert mine == sorted(mine)


def test_a_change_takes_one_step_for_each_catalogue() -> None:
    """What most partitions have next comes first; they are read side by side."""
    stretches = [
        Stretch(version, Range(partition, at, at + 1))
        for partition in range(3)
        for at, version in enumerate(("a", "b") if partition else ("b",))
    ]

    assert [(version, len(ranges)) for version, ranges in steps(stretches)] == [("a", 2), ("b", 3)]


class _ShortLog:
    """A log that retention has overtaken."""

    def check(self, ranges: Iterable[Range]) -> None:
        wanted = min(ranges)
        raise LogTooShort("events", wanted.partition, needed=wanted.start, first=9)


def test_a_log_without_its_beginning_is_refused(live: _Live, tmp_path: Path) -> None:
    """The partition, what is needed and what there is are named; no file is left behind."""
    target = tmp_path / "new.sqlite3"

    with pytest.raises(LogTooShort, match=r"partition 0: offset 7 is needed .* begins at 9"):
        rebuild(plan_of_store(live.store), target, _ShortLog(), BundledSchemas())  # type: ignore[arg-type] # a log of one answer

    assert not target.exists()


def test_a_target_with_something_in_it_is_refused(tmp_path: Path) -> None:
    """Nothing is overwritten."""
    target = tmp_path / "mine.txt"
    target.write_text("mine", "utf-8")

    with pytest.raises(RebuildRefused, match="is not empty"):
        rebuild(Plan(BINDING, {}, ()), target, _ShortLog(), BundledSchemas())  # type: ignore[arg-type] # never asked

    assert target.read_text("utf-8") == "mine"
