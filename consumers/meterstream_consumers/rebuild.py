"""A store made again from the log: the same folding, over the same records, by the same catalogues.

1. The plan: which offsets of which partition are folded by which catalogue. It comes from a live
   store, which notes that in its table ``reading``; or from the log as it stands, and one catalogue
   for all of it.
2. The log must still begin where the plan does, and the target must be empty.
3. Stretches of one catalogue are folded side by side, in batches of 100,000, then those of the
   next. Partitions never touch each other's rows, so only the order within each of them matters.
4. The outbox stays empty: what folding puts there left long ago. Messages that still wait in the
   live store are handed over, and what it told of thresholds, so that the new one can take its
   place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Final, NamedTuple

from meterstream_aggregator.catalogue import Catalogue
from meterstream_aggregator.changes import Changes, OutboxMessage
from meterstream_aggregator.errors import StoreMismatch
from meterstream_aggregator.state import Readings
from meterstream_aggregator.store.address import StoreAddress
from meterstream_aggregator.store.opening import open_store
from meterstream_aggregator.store.port import Store, StoreReader, TopicBinding
from meterstream_aggregator.store.target import prepare
from meterstream_aggregator.thresholds import FiredRow
from meterstream_consumers.decode import Decoder
from meterstream_consumers.errors import RebuildRefused
from meterstream_consumers.folding import Folding
from meterstream_consumers.logreader import BATCH_EVENTS_MAX, LogReader, Range
from meterstream_schemas.events import DEADLETTERS_TOPIC
from meterstream_schemas.registry import WriterSchemas

OWNER: Final = "rebuild"
_OUTBOX_ROWS: Final = 10_000


class Stretch(NamedTuple):
    """Offsets of a partition that one version of the catalogue reads."""

    version: str
    range: Range


class Plan(NamedTuple):
    """What a rebuild folds. Stretches of a partition follow each other without a gap.

    ``catalogues`` are by version; the last one is that which the store is bound to.
    """

    binding: TopicBinding
    catalogues: Mapping[str, Catalogue]
    stretches: tuple[Stretch, ...]

    @property
    def offsets(self) -> int:
        """How many offsets there are to fold: records, and a few markers where there are any."""
        return sum(end - start for _, (_, start, end) in self.stretches)

    @property
    def begins(self) -> dict[int, int]:
        """The first offset of each partition: where the log must begin."""
        found: dict[int, int] = {}
        for _, (partition, start, _) in self.stretches:
            found[partition] = min(start, found.get(partition, start))
        return found

    @property
    def ends(self) -> dict[int, int]:
        """The end of each partition."""
        found: dict[int, int] = {}
        for _, (partition, _, end) in self.stretches:
            found[partition] = max(end, found.get(partition, end))
        return found


def plan_of_store(reader: StoreReader, catalogue: Catalogue | None = None) -> Plan:
    """What the store was folded from, up to its positions. Call it inside one snapshot.

    With ``catalogue``, everything is read by that one. Raises `RebuildRefused`.
    """
    binding = reader.topic()
    if binding is None:
        raise RebuildRefused("the store belongs to no topic yet: there is nothing to fold again")
    ends = {row.partition: row.next_offset for row in reader.positions() if row.next_offset >= 0}
    by_partition: dict[int, list[Stretch]] = {}
    for partition, first, version in sorted(reader.readings()):
        stretches = by_partition.setdefault(partition, [])
        if stretches:
            last = stretches[-1]
            stretches[-1] = last._replace(range=last.range._replace(end=first))
        stretches.append(Stretch(version, Range(partition, first, ends[partition])))
    if unread := sorted(ends.keys() - by_partition.keys()):
        raise RebuildRefused(
            f"the store does not say from where its partition {unread[0]} was read; only "
            "--catalogue without --store folds the log anew"
        )
    if catalogue is None:
        everything = tuple(stretch for of in by_partition.values() for stretch in of)
        return Plan(binding, _in_order(reader, everything), everything)
    whole = tuple(
        Stretch(catalogue.version, Range(partition, of[0].range.start, of[-1].range.end))
        for partition, of in by_partition.items()
    )
    return Plan(binding, {catalogue.version: catalogue}, whole)


def _in_order(reader: StoreReader, stretches: Collection[Stretch]) -> dict[str, Catalogue]:
    """The catalogues that read anything in the order of their steps, the present one last."""
    known, present = reader.catalogues(), reader.catalogue()
    used = dict.fromkeys(version for version, _ in steps(stretches))
    return {version: known[version] for version in used if version != present.version} | {
        present.version: present
    }


def plan_of_log(binding: TopicBinding, catalogue: Catalogue, log: LogReader) -> Plan:
    """Everything that the log has now, read by one catalogue."""
    bounds = log.bounds(range(binding.partitions))
    stretches = tuple(
        Stretch(catalogue.version, Range(partition, first, end))
        for partition, (first, end) in sorted(bounds.items())
        if first < end
    )
    return Plan(binding, {catalogue.version: catalogue}, stretches)


def steps(stretches: Collection[Stretch]) -> Iterator[tuple[str, list[Range]]]:
    """Stretches in an order that keeps each partition's, those of one version together.

    Each time the version that most partitions have next: the usual change takes one step for each.
    """
    waiting: dict[int, list[Stretch]] = {}
    for stretch in sorted(stretches, key=lambda stretch: stretch.range, reverse=True):
        waiting.setdefault(stretch.range.partition, []).append(stretch)
    while waiting:
        following = [of_partition[-1].version for of_partition in waiting.values()]
        version = max(following, key=following.count)
        now = [of for of in waiting.values() if of[-1].version == version]
        yield version, [of_partition.pop().range for of_partition in now]
        waiting = {partition: rest for partition, rest in waiting.items() if rest}


def rebuild(
    plan: Plan,
    target: StoreAddress,
    log: LogReader,
    schemas: WriterSchemas,
    *,
    waiting: Sequence[OutboxMessage] = (),
    notices: Sequence[FiredRow] = (),
    told: Callable[[int], None] = lambda _: None,
    batch_events_max: int = BATCH_EVENTS_MAX,
) -> int:
    """Fold what the plan says into the store ``target``, where nothing may be; records folded.

    ``waiting`` are messages of the live store's outbox to hand over, ``notices`` what it told of
    thresholds. ``told`` hears after each commit how many offsets are done. What fails leaves the
    target as it was. Raises `RebuildRefused`, `LogUnusable`, and what `Folding.fold` raises.
    """
    try:
        undo = prepare(target)
    except StoreMismatch as problem:
        raise RebuildRefused(str(problem)) from problem
    try:
        ends = plan.ends
        log.check(Range(partition, at, ends[partition]) for partition, at in plan.begins.items())
        with ExitStack() as opened:
            stores = {
                version: opened.enter_context(closing(_bound(target, plan.binding, catalogue)))
                for version, catalogue in plan.catalogues.items()
            }
            folded = 0
            for records, done in _folded(plan, stores, log, Decoder(schemas), batch_events_max):
                folded += records
                told(done)
            handed = Changes(outbox=list(waiting), told=list(notices))
            stores[next(iter(stores))].commit([], handed)
    except BaseException:
        undo()
        raise
    return folded


def _bound(target: StoreAddress, binding: TopicBinding, catalogue: Catalogue) -> Store:
    """The target as one catalogue's workers see it.

    All are bound before anything is folded: that a change lay in the future when it was made is no
    question any more.
    """
    store = open_store(target)
    try:
        store.bind(binding, catalogue)
    except BaseException:
        store.close()
        raise
    return store


def _folded(
    plan: Plan, stores: Mapping[str, Store], log: LogReader, decoder: Decoder, batch_events_max: int
) -> Iterator[tuple[int, int]]:
    """Fold it all; after each commit its records, and the offsets done so far."""
    done = 0
    for version, ranges in steps(plan.stretches):
        store = stores[version]
        folding = Folding(
            store,
            Readings(plan.catalogues[version]),
            decoder,
            owner=OWNER,
            topic=plan.binding.topic,
            deadletters_topic=DEADLETTERS_TOPIC,
        )
        reached = {partition: start for partition, start, _ in ranges}
        for partition, start, _ in ranges:
            folding.take(partition, partial(int, start))
        for raw in log.read(ranges, events_max=batch_events_max):
            told = folding.fold(raw)
            _empty_outbox(store, list(folding.owned), told.changes)
            done += sum(at - reached[partition] for partition, at in told.positions.items())
            reached.update(told.positions)
            yield told.records, done


def _empty_outbox(store: Store, partitions: list[int], changes: Changes | None) -> None:
    if changes is None or not changes.outbox:
        return
    while rows := store.outbox(partitions, _OUTBOX_ROWS):
        store.outbox_done([row.id for row in rows])
