"""One membership of the group: what is read, what is done with it, and what interrupts it.

::

              store, broker and registry answer
    WAITING ──────────────────────────────────▶ WORKING
       ▲         all partitions claimed anew       │
       └───────────────────────────────────────────┘
          one of them does not: partitions are held,
          memory is dropped, the group is kept

While it waits, the worker goes on polling: the group sees a member that lives, and nothing moves to
a worker that would find the same store away. Nothing is lost by that: what was read and not
committed is read again from the stored positions. Everything else that goes wrong ends the session:
a fence, since somebody newer owns what we thought was ours; and what a person must mend.

A partition whose log has lost records is held alone, and the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import suppress
from enum import StrEnum
from functools import partial
from typing import Final

import structlog

from meterstream_aggregator.errors import StoreError, StoreUnavailable
from meterstream_consumers.confirming import Confirmation
from meterstream_consumers.errors import GroupSilent, LogGap, LogUnsure, LogUnusable, OtherStore
from meterstream_consumers.gaps import is_accepted
from meterstream_consumers.health import Health
from meterstream_consumers.memory import Trimmer, freeze
from meterstream_consumers.metrics import WorkerMetrics
from meterstream_consumers.settings import WorkerSettings
from meterstream_consumers.source import Source
from meterstream_consumers.store_names import GroupOffset, judge, judge_neighbours
from meterstream_consumers.work import Work
from meterstream_schemas.errors import SchemaUnavailable

_TELL_SECONDS: Final = 1.0
_NEIGHBOURS_SECONDS: Final = 10.0
_FRESH_SECONDS: Final = 1.0
_WAIT_POLL_SECONDS: Final = 0.2
_UNANSWERED_MAX: Final = 3
"""Questions to the group in a row; the old client may never find its coordinator again."""
BACKOFF_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)


class Phase(StrEnum):
    """See the picture at the top of this module."""

    WORKING = "working"
    WAITING = "waiting"


class Session:
    """A member of the group, from joining to leaving. One thread.

    ``begin`` opens the store and makes the work; it is called first here, before the group is
    joined, and again whenever the store comes back. Raises what a person must mend; and `Fenced`,
    `GroupSilent`, `InstanceHeld`, `StoreUnavailable` (while opening only): then begin another
    session.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        begin: Callable[[], Work],
        partitions: int,
        *,
        confirmation: Confirmation,
        health: Health,
        metrics: WorkerMetrics,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._settings = settings
        self._begin = begin
        self._partitions = range(partitions)
        self._health = health
        self._metrics = metrics
        self._log = log
        self._confirmation = confirmation
        self._trimmer = Trimmer()
        self._problem: Exception | None = None
        self._gaps: dict[int, LogGap] = {}
        self._to_name: dict[int, int] = {}
        self._group: tuple[float, dict[int, GroupOffset]] = (0.0, {})
        self._told_at = self._neighbours_at = 0.0
        self._failures = 0
        self._unanswered = 0
        self._again_at = 0.0
        self._waits_for = ""
        self._work: Work | None = begin()
        self._store = self._work.store_name
        try:
            self._source = Source(settings, self, self._warn, store=self._store)
        except BaseException:
            self._work.close()
            raise

    @property
    def phase(self) -> Phase:
        """Whether work is done just now."""
        return Phase.WAITING if self._work is None else Phase.WORKING

    @property
    def gaps(self) -> list[LogGap]:
        """What of our partitions was lost to retention, and is not accepted."""
        return list(self._gaps.values())

    def step(self) -> None:
        """A batch, or a look around when the log is quiet; or an attempt to work again."""
        if self._work is None:
            self._wait()
        else:
            try:
                self._work_on(self._work)
                self._failures = 0
            except (StoreUnavailable, SchemaUnavailable, LogUnsure) as problem:
                self._hold(problem)
        self._metrics.paused.set(len(self._source.held))
        self._health.tell(self._why_not())

    def drain(self) -> None:
        """Before leaving: what waits in the outbox gets a last chance."""
        if self._work is not None:
            with suppress(StoreUnavailable):
                self._work.drain()

    def close(self) -> None:
        """Leave the group, not waiting for one that does not answer; let go of the store."""
        try:
            if self._unanswered:
                self._source.abandon()
            else:
                self._source.close()
        finally:
            if self._work is not None:
                self._work.close()

    def take(self, partition: int, lowest: Callable[[], int]) -> int | None:
        """A partition comes. What goes wrong is raised by the next `step`.

        Then the others that come with it are not asked for: where one waited for the store in vain
        all would, and the group has a patience of minutes.
        """
        self._metrics.rebalances.labels(kind="assigned").inc()
        if self._work is None or self._problem is not None:
            return None
        try:
            return self._claim(self._work, partition, lowest)
        except (StoreError, GroupSilent, LogUnsure, LogUnusable) as problem:
            self._problem = problem
            return None

    def let_go(self, partitions: list[int], *, lost: bool) -> None:
        """Partitions go; nothing is written, and the batch in hand leaves them out."""
        self._metrics.rebalances.labels(kind="lost" if lost else "revoked").inc()
        for partition in partitions:
            self._gaps.pop(partition, None)
            self._to_name.pop(partition, None)
        if self._work is not None:
            self._work.let_go(partitions)
        self._tell_assigned()
        self._log.info("let go of partitions", partitions=partitions, lost=lost)

    def _work_on(self, work: Work) -> None:
        raw = self._source.collect()
        self._raise_problem()
        if len(raw):
            folded = work.fold(raw)
            self._source.committed(folded.positions)
            for partition in folded.positions:  # what it is further than must not follow it
                self._to_name.pop(partition, None)
            records = folded.records
            del raw, folded
            self._trimmer.worked(records)
        else:
            self._trimmer.paused()
            self._confirmation.step()
        if self._to_name:
            named, self._to_name = self._to_name, {}
            self._source.committed(named)
        for partition in self._source.out_of_range - self._gaps.keys():
            self._judge_gap(work, partition)
        work.step(self._source.at_end)
        if time.monotonic() - self._told_at >= _TELL_SECONDS:
            self._told_at = time.monotonic()
            work.tell(self._source.high_watermark, self._source.at_end)
            self._look_at_neighbours()

    def _claim(self, work: Work, partition: int, lowest: Callable[[], int]) -> int:
        position = work.take(partition, lowest)
        stored = work.owned[partition].stored
        if not self._settings.store_replaced:
            found = self._group_offsets().get(partition)
            try:
                judge(self._settings.group, partition, found, self._store, stored)
            except OtherStore:
                work.let_go([partition])
                raise
        self._to_name[partition] = position
        self._log.info("took partition", partition=partition, offset=position)
        self._tell_assigned()
        return position

    def _group_offsets(self) -> dict[int, GroupOffset]:
        """What the group has committed for all partitions; asked once for all that come at once."""
        asked_at, known = self._group
        if time.monotonic() - asked_at > _FRESH_SECONDS:
            known = self._asked_group(self._partitions)
            self._group = (time.monotonic(), known)
        return known

    def _asked_group(self, partitions: Collection[int]) -> dict[int, GroupOffset]:
        try:
            found = self._source.group_offsets(partitions)
        except LogUnsure as problem:
            self._unanswered += 1
            if self._unanswered >= _UNANSWERED_MAX:
                raise GroupSilent(f"{problem}; a new client asks") from problem
            raise
        self._unanswered = 0
        return found

    def _look_at_neighbours(self) -> None:
        """Whether another store moves on in partitions that are not ours."""
        if time.monotonic() - self._neighbours_at < _NEIGHBOURS_SECONDS:
            return
        others = [each for each in self._partitions if each not in self._source.assigned]
        if others:
            before = self._group[1]
            now = self._asked_group(others)
            judge_neighbours(self._settings.group, before, now, self._store)
            self._group = (0.0, now)
        self._neighbours_at = time.monotonic()

    def _judge_gap(self, work: Work, partition: int) -> None:
        """The log has no record at a partition's position: why, and what follows."""
        # A topic made anew looks like this, too, and is none of the following.
        self._confirmation.ask()
        self._confirmation.check()
        at = work.owned[partition].position
        first, end = self._source.bounds(partition)
        if first <= at <= end:
            self._source.read_from({partition: at})
        elif at > end:
            raise LogUnusable(
                f"topic {self._settings.topic!r}, partition {partition}: the store stands at "
                f"offset {at} and the log ends at {end}: the log has lost its end, as after an "
                "unclean leader election or a restored broker; what is sent from now on would be "
                "taken for what was counted already: rebuild the store from the log that is left"
            )
        elif is_accepted(self._settings.accepted_gaps, partition, first=at, end=first):
            work.give_up(partition, first=at, end=first)
            self._source.read_from({partition: first})
            self._source.committed({partition: first})
            self._log.error(
                "gap accepted", partition=partition, first=at, last=first - 1, lost=first - at
            )
        else:
            gap = LogGap(self._settings.topic, partition, first=at, end=first)
            self._gaps[partition] = gap
            self._metrics.offset_gap.inc(first - at)
            self._log.error(
                "gap in the log",
                partition=partition,
                first=at,
                last=first - 1,
                lost=first - at,
                problem=str(gap),
            )
            if self._gaps.keys() >= self._source.assigned:
                raise gap

    def _hold(self, problem: Exception) -> None:
        """Stop working, and forget all that is not in the store; stay in the group."""
        self._metrics.store_retries.inc()
        self._log.warning("waiting", problem=str(problem))
        self._source.hold(self._source.assigned)
        if self._work is not None:
            self._work.close()
        self._work = None
        self._waits_for = str(problem)
        wait = BACKOFF_SECONDS[min(self._failures, len(BACKOFF_SECONDS) - 1)]
        self._again_at = time.monotonic() + wait
        self._failures += 1
        self._tell_assigned()

    def _wait(self) -> None:
        self._source.wait(_WAIT_POLL_SECONDS)
        self._raise_problem()
        if time.monotonic() < self._again_at:
            return
        try:
            self._confirmation.ask()
            self._confirmation.check()
            self._work = self._begin()
            # It may be another store by now, under the same address.
            self._store = self._source.store = self._work.store_name
            self._take_all(self._work)
        except (StoreUnavailable, SchemaUnavailable, LogUnsure) as problem:
            self._hold(problem)
        else:
            freeze()  # the work that was given up was left out of collections
            self._log.info("works again", partitions=sorted(self._source.assigned))

    def _take_all(self, work: Work) -> None:
        """Claim anew what is assigned, and read on from where the store stands."""
        positions = {
            partition: self._claim(work, partition, partial(self._lowest, partition))
            for partition in sorted(self._source.assigned)
        }
        self._gaps.clear()
        self._source.read_from(positions)

    def _lowest(self, partition: int) -> int:
        return self._source.bounds(partition)[0]

    def _raise_problem(self) -> None:
        """What went wrong inside the client's callbacks, which must not raise."""
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem

    def _why_not(self) -> str | None:
        """What keeps this worker from being ready."""
        say = self._health.since
        away = say("the store, the broker or the registry is away", self._work is None)
        if away is not None:
            return f"{away}: {self._waits_for}"
        silent = say("no broker answers", self._confirmation.silent_seconds() > 0)
        if silent is not None:
            return silent
        if not self._source.joined:
            return f"has not joined consumer group {self._settings.group!r}, or was lost to it"
        gaps = [str(gap) for gap in self.gaps]
        return "; ".join(gaps) if gaps else None

    def _tell_assigned(self) -> None:
        self._metrics.assigned.set(0 if self._work is None else len(self._work.owned))

    def _warn(self, text: str) -> None:
        self._log.warning("kafka", problem=text)
