"""Thresholds in the store in memory: what `store.thresholds` asks, in dictionaries."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from meterstream_aggregator.catalogue import Aggregate, Meter
from meterstream_aggregator.changes import UsageKey
from meterstream_aggregator.store.thresholds import Used
from meterstream_aggregator.thresholds import FiredRow, Place, TotalRow, Waiting
from meterstream_schemas.quantity import Amount

_Figure = tuple[str, int, str]
"""(threshold, start of the period, who)."""


class MemoryLedger:
    """Totals and what was told of. ``rows`` is the usage of the store, which is only read."""

    def __init__(self, rows: Mapping[UsageKey, tuple[int, int]]) -> None:
        self._rows = rows
        self._totals: dict[_Figure, Amount] = {}
        self._fired: dict[_Figure, dict[str, tuple[Amount, Place]]] = {}
        self._waiting: dict[int, Waiting] = {}
        self._last_id = 0

    def total(self, threshold: str, who: str, start: int) -> Amount | None:
        """The running total, None where there is none yet."""
        return self._totals.get((threshold, start, who))

    def keep_total(self, threshold: str, who: str, start: int, total: Amount) -> None:
        """Put it in place of what is there."""
        self._totals[(threshold, start, who)] = total

    def fired(self, threshold: str, who: str, start: int) -> set[str]:
        """The values of the period that were told of."""
        return set(self._fired.get((threshold, start, who), ()))

    def keep_fired(self, row: FiredRow) -> None:
        """Note a value as told of, unless it was."""
        told = self._fired.setdefault((row.threshold, row.start, row.who), {})
        told.setdefault(row.at, (row.value, row.place))

    def keep_waiting(self, waiting: Waiting) -> None:
        """Keep a step until its account is known."""
        self._last_id += 1
        self._waiting[self._last_id] = waiting

    def take_waiting(self, ids: Collection[int]) -> bool:
        """Remove these steps; False, and nothing removed, when somebody else has taken one."""
        if not all(waited in self._waiting for waited in ids):
            return False
        for waited in ids:
            del self._waiting[waited]
        return True

    def usage(self, meter: Meter, tenant: str | None, start: int, end: int) -> Iterator[Used]:
        """What a definition has in [start, end), of one tenant or of all."""
        for key, (events, quantity) in self._rows.items():
            series = key.series
            if series.version != meter.version or not start <= key.start < end:
                continue
            if tenant in {None, series.tenant}:
                counts = meter.aggregate is Aggregate.COUNT
                amount = Amount(events, 0) if counts else Amount(quantity, key.scale)
                yield Used(series.tenant, series.partition, key.start, amount)

    def forget(self, thresholds: Iterable[str]) -> None:
        """Drop totals that are void; what was told of stays told of."""
        gone = set(thresholds)
        for figure in [figure for figure in self._totals if figure[0] in gone]:
            del self._totals[figure]
        for waited in [n for n, step in self._waiting.items() if step.threshold in gone]:
            del self._waiting[waited]

    def waiting(self, partitions: Collection[int], limit: int) -> list[tuple[int, Waiting]]:
        """The oldest steps of these partitions that wait for their account, with their ids."""
        mine = [(n, s) for n, s in self._waiting.items() if s.place.partition in partitions]
        return mine[:limit]

    def totals(self, thresholds: Collection[str], start: int) -> list[TotalRow]:
        """Running totals, the latest periods first: see `store.thresholds.totals`."""
        return sorted(
            (
                TotalRow(*figure, total)
                for figure, total in self._totals.items()
                if figure[0] in thresholds and figure[1] >= start and figure[2]
            ),
            key=lambda row: (row.threshold, -row.start, row.who),
        )

    def told(self, thresholds: Collection[str] | None, start: int) -> list[FiredRow]:
        """What was told of: see `store.thresholds.told`."""
        return sorted(
            FiredRow(*figure, at, value, place)
            for figure, several in self._fired.items()
            if (thresholds is None or figure[0] in thresholds) and figure[1] >= start
            for at, (value, place) in several.items()
        )
