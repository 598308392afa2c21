"""Answers that the simulation once found wrong, as small as they can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_schemas.events import EventKind
from tests.oracle import counting
from tests.oracle.answers import figure_differences
from tests.oracle.figures import FigureKey, running_figures, told_figures
from tests.oracle.telling import HOUR, MINUTE, SINCE, event
from tests.simulation.driver import by_columns
from tests.simulation.laws import fold_into

if TYPE_CHECKING:
    from meterstream_schemas.events import MeterEvent
    from tests.oracle.counting import Answer

HOURS = [SINCE + HOUR * n for n in range(8)]


def both(meter: str, *log: tuple[int, MeterEvent]) -> tuple[MemoryStore, Answer]:
    """A store and the oracle's answer to events appended so long after metering began."""
    text = f"metering_since: 2026-01-01T00:00:00Z\nmeters: [{meter}]"
    records = [counting.LogRecord(0, n, SINCE + at, each) for n, (at, each) in enumerate(log)]
    # Time goes on in all partitions, so that windows become final.
    tick = event("MARK", "", 0)
    records += [counting.LogRecord(n, 99, SINCE + 5 * HOUR, tick) for n in range(4)]
    store = MemoryStore()
    plain = [LogRecord(*record) for record in records]
    fold_into(store, parse_catalogue(text), iter([plain]), by_columns)
    return store, counting.count(text, records)


def test_a_closing_figure_that_was_taken_back_whole_is_told() -> None:
    """A level that closed as 5 and was nothing after all: 5 hours closing, -5 adjusted."""
    flow = "{name: flow, aggregate: time_weighted, samples: changes, window: 1h, grace: 0s}"
    more = event("USAGE", "flow", 0, quantity=5, key="k")
    store, answer = both(flow, (0, more), (3 * HOUR, more._replace(kind=EventKind.VOID)))

    told = told_figures(answer, "flow", HOURS, (), SINCE + 5 * HOUR)

    assert tuple(told[FigureKey(HOURS[1], "a", ())]) == (0, 5 * 3600, 0)
    assert figure_differences(store, answer, HOURS) == []


def test_a_running_session_beyond_the_limit_runs_in_the_overflow() -> None:
    """It was counted there when it started, and it will be charged there when it ends."""
    run = (
        "{name: run, aggregate: session, group_by: [plan], window: 1h, grace: 1h, "
        "limits: {series_per_tenant: 1}}"
    )
    starts = [
        event("SESSION_START", "run", n * MINUTE, session=plan, attributes={"plan": plan})
        for n, plan in enumerate("ab")
    ]
    store, answer = both(run, *((n * MINUTE, each) for n, each in enumerate(starts)))

    running = running_figures(answer, "run", HOURS, ["plan"], (0, SINCE + 2 * HOUR))

    assert {key.group for key in running} == {("a",), ("(overflow)",)}
    assert figure_differences(store, answer, HOURS) == []
