"""What tests of folded sessions share: a store of dictionaries, driven batch by batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meterstream_aggregator.catalogue import HOUR
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.changes import Changes, ChargeMove, SeriesKey, UsageKey
from meterstream_aggregator.session_fold import SessionFold
from meterstream_aggregator.state import KnownSeries, Readings, SeriesOwner, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from meterstream_aggregator.batch import LogRecord
    from meterstream_aggregator.sessions import Session, SessionKey
    from meterstream_aggregator.subjects import Subject, SubjectKey

SINCE = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z, when metering begins."""
CHANGED = SINCE + 3 * HOUR
"""When the meter ``run`` changed."""
CATALOGUE = parse_catalogue("""
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: run, aggregate: session, group_by: [route], timeout: 30m, grace: 1h,
     limits: {series_per_tenant: 2}, from: 2025-12-01T00:00:00Z}
  - {name: run, aggregate: session, group_by: [route], timeout: 50m, timeout_bills: timeout,
     grace: 2h, window: 1h, from: 2026-01-01T03:00:00Z}
  - {name: run.pay, type: run, aggregate: session, where: {route: [/pay]}, grace: 0s, timeout: 20m}
  - {name: call, aggregate: session, window: 1m, grace: 10m, timeout: 40m}
  - {name: idle, aggregate: session, window: 1h}
""")
READINGS = Readings(CATALOGUE)


@dataclass
class Kept:
    """All that a store keeps of sessions."""

    usage: Counter[UsageKey] = field(default_factory=Counter[UsageKey])
    started: Counter[UsageKey] = field(default_factory=Counter[UsageKey])
    sessions: dict[SessionKey, tuple[Session, int | None]] = field(default_factory=dict)
    subjects: dict[SubjectKey, tuple[Subject, int | None]] = field(default_factory=dict)
    series: set[SeriesKey] = field(default_factory=set)
    moves: list[ChargeMove] = field(default_factory=list)
    appended: int = 0

    def rows(self) -> dict[UsageKey, tuple[int, int]]:
        """Rows that hold anything: sessions started and microseconds."""
        keys = self.usage.keys() | self.started.keys()
        rows = {key: (self.started[key], self.usage[key]) for key in keys}
        return {key: row for key, row in rows.items() if row != (0, 0)}

    def facts(self) -> dict[object, object]:
        """Sessions and subjects, but for when they were last heard of."""
        told: dict[object, object] = {
            key: session._replace(last_append=0) for key, (session, _) in self.sessions.items()
        }
        told |= {
            ("subject", *key): subject._replace(last_append=0)
            for key, (subject, _) in self.subjects.items()
        }
        return told

    def totals(self) -> dict[tuple[str, tuple[str, ...], int], tuple[int, int]]:
        """Rows by (meter, group, window), whatever their arrival."""
        totals: dict[tuple[str, tuple[str, ...], int], tuple[int, int]] = {}
        for key, (started, time) in self.rows().items():
            place = (key.series.meter, key.series.group, key.start)
            known = totals.get(place, (0, 0))
            totals[place] = (known[0] + started, known[1] + time)
        return {place: total for place, total in totals.items() if total != (0, 0)}

    def fold(
        self, records: Sequence[LogRecord], *, upto: int | None = None, by: Readings = READINGS
    ) -> Kept:
        """Fold one batch; ``upto`` is the log time that it reaches beyond its records."""
        after = max([self.appended, *(record.append_time for record in records), upto or 0])
        series = KnownSeries()
        owners: dict[SeriesOwner, set[tuple[str, ...]]] = {}
        for key in self.series:
            owner = SeriesOwner(key.partition, key.tenant, key.version)
            owners.setdefault(owner, set()).add(key.group)
        series.learn(owners)
        due: list[SessionKey | SubjectKey] = [
            key for key, (_, at) in self.sessions.items() if at is not None and at <= after
        ]
        due += [key for key, (_, at) in self.subjects.items() if at is not None and at <= after]
        state = State(
            before={0: self.appended},
            after={0: after},
            numbers={},
            sessions={key: session for key, (session, _) in self.sessions.items()},
            subjects={key: subject for key, (subject, _) in self.subjects.items()},
            due=due,
            series=series,
        )
        changes = Changes()
        folding = SessionFold(state, by, changes)
        for record in records:
            folding.observe(record)
        folding.finish()
        self._keep(changes, after)
        return self

    def _keep(self, changes: Changes, after: int) -> None:
        self.sessions |= changes.sessions
        self.subjects |= changes.subjects
        self.moves += changes.charge_moves
        self.appended = after
        for delta in changes.usage:
            self.series.update(delta.series)
            for key, (started, time) in delta.rows().items():
                assert (started, time) != (0, 0), "a row of nothing was told"
                self.usage[key] += time
                self.started[key] += started


def folded(batches: Iterable[Sequence[LogRecord]], *, upto: int | None = None) -> Kept:
    """What is kept after these batches, and after the log's time went on to ``upto``."""
    kept = Kept()
    for batch in batches:
        kept.fold(batch)
    return kept if upto is None else kept.fold([], upto=upto)
