"""Judge the answers that are made of a store's rows: figures, adjustments, and that they add up."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from typing import TYPE_CHECKING

from meterstream_aggregator import answering
from meterstream_aggregator.questions import ask, folded_until
from meterstream_aggregator.running import AsOf, running_usage
from tests.oracle.figures import FigureKey, Told, running_figures, told_figures
from tests.oracle.verdict import Difference, between

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meterstream_aggregator.questions import Question
    from meterstream_aggregator.store.port import StoreReader
    from meterstream_aggregator.store.told import UsageRow
    from meterstream_schemas.quantity import Amount
    from tests.oracle.counting import Answer

PARTITIONS = 4
HOUR = 3_600_000_000


def bounds_of(answer: Answer, name: str, bounds: Sequence[int]) -> tuple[int, ...]:
    """These boundaries, and within them those where the meter changed."""
    changes = {meter.since for meter in answer.catalogue.meters if meter.name == name}
    return tuple(sorted({*bounds, *(at for at in changes if bounds[0] < at < bounds[-1])}))


def figure_differences(
    reader: StoreReader, answer: Answer, bounds: Sequence[int]
) -> list[Difference]:
    """What answers and oracle say otherwise about the figures of these periods, of all meters.

    ``now`` is an hour after the latest log time; sessions that still run are counted.
    """
    found: list[Difference] = []
    for name in dict.fromkeys(meter.name for meter in answer.catalogue.meters):
        found += _differences_of(reader, answer, name, bounds_of(answer, name, bounds))
    return found


def _differences_of(
    reader: StoreReader, answer: Answer, name: str, bounds: tuple[int, ...]
) -> list[Difference]:
    catalogue, now = reader.catalogue(), max(answer.appended.values()) + HOUR
    kept = [set(meter.group_by) for meter in catalogue.definitions(name)]
    by = sorted(set.intersection(*kept))
    question = ask(
        catalogue.definitions(name), bounds, by=by, metering_since=catalogue.metering_since
    )
    stored = stored_figures(reader, question, now)
    told = told_figures(answer, name, bounds, by, now)
    progress = min(answer.appended.get(partition, 0) for partition in range(PARTITIONS))
    for key, (closing, total) in running_figures(answer, name, bounds, by, (progress, now)).items():
        known = told.get(key, Told(0, None, None))
        told[key] = Told(
            known.events,
            _or_nothing(known.closing) + closing,
            _or_nothing(known.total) + total,
        )
    differences = between(f"figure of {name}", _plain(told), _plain(stored))
    adjusted: dict[FigureKey, Fraction] = defaultdict(Fraction)
    running = _running(reader, question, now)
    for each in answering.adjustments(reader, question, now=now, running=running):
        assert each.tenant is not None
        assert each.arrived_from or running, "what came late came at some time"
        key = FigureKey(each.start, each.tenant, each.group)
        adjusted[key] += fraction(each.amount)
    late = {
        key: _or_nothing(figure.total) - _or_nothing(figure.closing)
        for key, figure in stored.items()
    }
    moved = {key: amount for key, amount in late.items() if amount}
    arrived = {key: amount for key, amount in adjusted.items() if amount}
    return differences + between(f"adjustments of {name}", moved, arrived)


def stored_figures(reader: StoreReader, question: Question, now: int) -> dict[FigureKey, Told]:
    """The figures that the store answers; total = closing + adjustment is asked of each."""
    found: dict[FigureKey, Told] = {}
    progress = folded_until(reader.positions(), PARTITIONS)
    running = _running(reader, question, now)
    for each in answering.figures(reader, question, progress=progress, now=now, running=running):
        assert each.tenant is not None
        key = FigureKey(each.start, each.tenant, each.group)
        assert key not in found, "a figure stands twice"
        closing, total = each.closing, each.total
        told = Told(
            each.events,
            None if closing is None else fraction(closing),
            None if total is None else fraction(total),
        )
        if each.adjustment is not None:
            assert _or_nothing(told.closing) + fraction(each.adjustment) == _or_nothing(told.total)
        found[key] = told
    return found


def _running(reader: StoreReader, question: Question, now: int) -> dict[str, list[UsageRow]]:
    appended = {row.partition: row.appended for row in reader.positions()}
    progress = folded_until(reader.positions(), PARTITIONS)
    as_of = AsOf(reader.catalogue(), appended, progress, now)
    found = running_usage(reader, question, scope=answering.Scope(), as_of=as_of)
    return {version: list(rows) for version, rows in found.items()}


def fraction(amount: Amount) -> Fraction:
    """The amount as it is."""
    return Fraction(amount.quantity, 10**amount.scale)


def _or_nothing(value: Fraction | None) -> Fraction:
    return Fraction(0) if value is None else value


def _plain(figures: dict[FigureKey, Told]) -> dict[FigureKey, tuple[int, Fraction, Fraction]]:
    """Without those of nothing, and with 0 for what there is none of."""
    plain = {
        key: (told.events, _or_nothing(told.closing), _or_nothing(told.total))
        for key, told in figures.items()
    }
    return {key: told for key, told in plain.items() if any(told)}
