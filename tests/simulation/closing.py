"""Promise P5: a closing figure that was ever called final never changes, whatever comes later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterstream_aggregator import answering
from meterstream_aggregator.questions import ask, folded_until
from meterstream_aggregator.running import AsOf, running_usage
from tests.oracle.answers import fraction
from tests.simulation.driver import BINDING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

    from meterstream_aggregator.questions import Question
    from meterstream_aggregator.store.port import StoreReader

Closed = dict[tuple[str, tuple[str, ...]], "Fraction"]
"""Closing figures of one period by tenant and group, without those of nothing."""


class Watch:
    """Looks at a store now and then, and remembers every closing figure that was final."""

    def __init__(self, bounds: Sequence[int]) -> None:
        self._bounds = tuple(bounds)
        self.final: dict[tuple[str, int], Closed] = {}

    def look(self, reader: StoreReader) -> None:
        """Compare what was final with what is, and remember what is final by now."""
        with reader.snapshot():
            for name in dict.fromkeys(meter.name for meter in reader.catalogue().meters):
                for place, closed in _final_figures(reader, name, self._bounds).items():
                    assert self.final.setdefault(place, closed) == closed, (
                        f"a closing figure of {place} changed after it was final"
                    )


def _final_figures(
    reader: StoreReader, name: str, bounds: tuple[int, ...]
) -> dict[tuple[str, int], Closed]:
    catalogue = reader.catalogue()
    definitions = catalogue.definitions(name)
    changes = {meter.since for meter in definitions if bounds[0] < meter.since < bounds[-1]}
    by = sorted(set.intersection(*(set(meter.group_by) for meter in definitions)))
    question = ask(
        definitions, sorted({*bounds, *changes}), by=by, metering_since=catalogue.metering_since
    )
    appended = {row.partition: row.appended for row in reader.positions()}
    progress = folded_until(reader.positions(), BINDING.partitions)
    as_of = AsOf(catalogue, appended, progress, max(appended.values(), default=0))
    found: dict[tuple[str, int], Closed] = {
        (name, start): {} for start in _final_periods(question, as_of)
    }
    figures = answering.figures(
        reader,
        question,
        progress=progress,
        now=as_of.now,
        running=running_usage(reader, question, scope=answering.Scope(), as_of=as_of),
    )
    for figure in figures:
        final = (name, figure.start) in found
        assert final == (figure.status == "final")
        if final and figure.closing is not None and figure.closing.quantity:
            assert figure.tenant is not None
            found[name, figure.start][figure.tenant, figure.group] = fraction(figure.closing)
    return found


def _final_periods(question: Question, as_of: AsOf) -> list[int]:
    return [
        start
        for stretch in question.stretches
        for start, end, final_at in zip(
            stretch.bounds,
            stretch.bounds[1:],
            stretch.final_at(question.metering_since),
            strict=False,
        )
        if as_of.now >= end and as_of.progress >= final_at
    ]
