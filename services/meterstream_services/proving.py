"""A store held against its log: taken as it stands, folded again, and compared.

The rebuild is always a SQLite file of its own, whatever kind the live store is: canonical rows are
the same in both, and so each kind's writing is held against the other's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from meterstream_aggregator.catalogue import Catalogue
from meterstream_aggregator.changes import OutboxMessage
from meterstream_aggregator.store.address import StoreAddress
from meterstream_aggregator.store.canonical import Compared, store_hash
from meterstream_aggregator.store.port import TopicBinding
from meterstream_aggregator.store.standing import compare, standing
from meterstream_aggregator.thresholds import FiredRow
from meterstream_consumers import rebuild
from meterstream_consumers.errors import RebuildRefused
from meterstream_consumers.logreader import BATCH_EVENTS_MAX, LogReader
from meterstream_consumers.rebuild import Plan
from meterstream_infra.topics import check_topic
from meterstream_schemas.registry import BundledSchemas, RegistrySchemas, WriterSchemas

Told = Callable[[int, int], None]
"""Hears how many offsets are done, of how many."""


def _nobody(_done: int, _offsets: int) -> None:
    """Nobody wants to hear it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Where the log is. ``registry_url`` None: schemas are the bundled ones."""

    bootstrap_servers: str
    registry_url: str | None = None
    batch_events_max: int = BATCH_EVENTS_MAX

    def schemas(self, topic: str) -> WriterSchemas:
        """Who is asked about writer schemas of a topic's events."""
        if self.registry_url is None:
            return BundledSchemas()
        return RegistrySchemas(self.registry_url, f"{topic}-value")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a store and its rebuild agree in. ``plan`` is what was folded again."""

    plan: Plan
    records: int
    tables: list[Compared]
    live_hash: str
    rebuilt_hash: str

    @property
    def same(self) -> bool:
        """Whether every row is the same."""
        return not any(table.different for table in self.tables)


def verify(live: StoreAddress, log: Log, scratch: Path, *, told: Told = _nobody) -> Verdict:
    """Hold a store against its log as of now; its workers may go on. Files go to ``scratch``.

    Raises `StoreUnavailable`, `StoreMismatch`, `RebuildRefused`, `LogUnusable`, `InfraError`.
    """
    with standing(live, scratch) as now:
        plan = rebuild.plan_of_store(now.reader, None)
        rows = now.keep()
    rebuilt = scratch / "rebuilt.sqlite3"
    records = fold_again(plan, rebuilt, log, told=told)
    tables = list(compare(rows, rebuilt))
    return Verdict(
        plan,
        records,
        tables,
        store_hash([(table.table, table.live_hash) for table in tables]),
        store_hash([(table.table, table.rebuilt_hash) for table in tables]),
    )


def rebuild_like(
    live: StoreAddress,
    target: StoreAddress,
    log: Log,
    scratch: Path,
    *,
    catalogue: Catalogue | None = None,
    told: Told = _nobody,
) -> tuple[Plan, int]:
    """A new store in ``target`` with the history of ``live``; the plan and the records folded."""
    with standing(live, scratch) as now:
        plan = rebuild.plan_of_store(now.reader, catalogue)
        waiting = now.outbox()
        notices = tuple(now.reader.threshold_notices(None, 0))
    return plan, fold_again(plan, target, log, waiting=waiting, notices=notices, told=told)


def rebuild_all(
    target: StoreAddress, log: Log, topic: str, catalogue: Catalogue, *, told: Told = _nobody
) -> tuple[Plan, int]:
    """A new store in ``target`` of all that the log has; the plan and the records folded."""
    binding = TopicBinding(*check_topic(log.bootstrap_servers, topic))
    with LogReader(log.bootstrap_servers, topic) as reader:
        plan = rebuild.plan_of_log(binding, catalogue, reader)
    return plan, fold_again(plan, target, log, told=told)


def fold_again(
    plan: Plan,
    target: StoreAddress,
    log: Log,
    *,
    waiting: tuple[OutboxMessage, ...] = (),
    notices: tuple[FiredRow, ...] = (),
    told: Told = _nobody,
) -> int:
    """Fold what a plan says, from the very topic that it names; the records folded."""
    topic = plan.binding.topic
    there = TopicBinding(*check_topic(log.bootstrap_servers, topic))
    if there != plan.binding:
        raise RebuildRefused(
            f"the topic {topic!r} at {log.bootstrap_servers} has id {there.topic_id} and "
            f"{there.partitions} partitions; the store was made from id {plan.binding.topic_id} "
            f"with {plan.binding.partitions}: name the broker that has that one"
        )
    offsets = plan.offsets
    with LogReader(log.bootstrap_servers, topic) as reader:
        return rebuild.rebuild(
            plan,
            target,
            reader,
            log.schemas(topic),
            waiting=waiting,
            notices=notices,
            told=lambda done: told(done, offsets),
            batch_events_max=log.batch_events_max,
        )
