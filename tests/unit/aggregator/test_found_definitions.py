"""Found by attack: definitions that return or overlap, and sessions without a sign."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from meterstream_aggregator.answering import Scope, figures
from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue import HOUR, MINUTE, Catalogue
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.explain import Asked, explain
from meterstream_aggregator.peaks import Peak, peaks_of
from meterstream_aggregator.questions import Figure, Question, Status, ask, folded_until
from meterstream_aggregator.running import AsOf, running_usage
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_schemas.events import EventKind, MeterEvent
from meterstream_schemas.quantity import to_decimal
from tests.simulation.driver import BINDING, Folder

T0 = 1_772_323_200_000_000
"""2026-03-01T00:00:00Z."""


class World:
    """A store that a log of one tenant in one partition is folded into."""

    def __init__(self, text: str) -> None:
        self.catalogue: Catalogue = parse_catalogue(text)
        self.store = MemoryStore()
        self._folder = Folder(self.store, self.catalogue)
        self._folder.claim(range(BINDING.partitions))
        self._offset = 0
        self._now = 0

    def put(self, kind: str, time: int, quantity: int = 1) -> None:
        """One event of type ``m``, of session ``x`` if it is a boundary, appended at its time."""
        session = None if kind == "USAGE" else "x"
        event = MeterEvent(
            EventKind(kind), "a", "m", time, quantity, 0, session, None, {}, "", 0, 0, None
        )
        self._fold(event, time)

    def tick(self, at: int) -> None:
        """Let the log's time go on."""
        tick = MeterEvent(EventKind.MARK, "", "", 0, 0, 0, None, None, {}, "", 0, 0, None)
        self._fold(tick, at)

    def figure(self, low: int, high: int, meter: str = "m") -> Figure:
        """The tenant's figure over one period, as of the log's time."""
        question, as_of = self._asked(meter, low, high)
        running = running_usage(self.store, question, scope=Scope(), as_of=as_of)
        [found] = figures(
            self.store, question, progress=as_of.progress, now=self._now, running=running
        )
        return found

    def peak(self, low: int, high: int, meter: str) -> Peak:
        """The peak of one period."""
        question, as_of = self._asked(meter, low, high)
        [found] = peaks_of(self.store, question, scope=Scope(), as_of=as_of).values()
        return found

    def _fold(self, event: MeterEvent, at: int) -> None:
        self._now = max(self._now, at)
        others = [
            LogRecord(partition, self._offset, at, event._replace(kind=EventKind.MARK))
            for partition in range(1, BINDING.partitions)
        ]
        self._folder.fold([LogRecord(0, self._offset, at, event), *others])
        self._offset += 1

    def _asked(self, meter: str, low: int, high: int) -> tuple[Question, AsOf]:
        positions = self.store.positions()
        progress = folded_until(positions, BINDING.partitions)
        appended = {row.partition: row.appended for row in positions}
        question = ask(self.catalogue.definitions(meter), (low, high), total=True)
        return question, AsOf(self.catalogue, appended, progress, self._now)


def _returning(aggregate: str) -> World:
    """A definition until 10:00, another one, and the first again from 20:00 on."""
    entry = f"name: m, aggregate: {aggregate}, grace: 1h"
    return World(f"""
meters:
  - {{{entry}}}
  - {{{entry}, group_by: [g], from: "{_iso(T0 + 10 * HOUR)}"}}
  - {{{entry}, from: "{_iso(T0 + 20 * HOUR)}"}}
""")


def _iso(time: int) -> str:
    return datetime.fromtimestamp(time // 1_000_000, UTC).isoformat()


def _total(figure: Figure) -> int:
    assert figure.total is not None
    return int(to_decimal(*figure.total))


@pytest.mark.parametrize("last", ["SESSION_END", "SESSION_HEARTBEAT"])
def test_a_session_that_outlasts_two_changes_is_counted_once(last: str) -> None:
    """Its rows lie where the definition that read it has returned; running time likewise."""
    world = _returning("session")
    world.put("SESSION_START", T0 + 9 * HOUR)
    world.put(last, T0 + 23 * HOUR)

    assert _total(world.figure(T0, T0 + 48 * HOUR)) == 14 * 3600


def test_changes_of_a_gauge_are_carried_on_once() -> None:
    """The level before the first change is not that of the definition that returned as well."""
    world = _returning("time_weighted, samples: changes")
    world.put("USAGE", T0 + 9 * HOUR, 5)
    world.put("USAGE", T0 + 23 * HOUR, 1)

    assert _total(world.figure(T0 + 22 * HOUR, T0 + 23 * HOUR)) == 5 * 3600


def test_an_explanation_has_every_row_once() -> None:
    """One window before the changes and one after."""
    world = _returning("sum")
    world.put("USAGE", T0 + 9 * HOUR, 5)
    world.put("USAGE", T0 + 23 * HOUR, 1)

    told = explain(world.store, Asked("a", "m", T0, T0 + 24 * HOUR), now=T0 + 24 * HOUR)

    assert told is not None
    assert [row.quantity for _, row in told.windows] in ([5, 1], [1, 5])


def test_a_period_is_final_when_the_longer_window_of_an_earlier_definition_is_closed() -> None:
    """Else the end of a session that outlasts the change would move a final closing figure."""
    change = T0 + 10 * HOUR
    world = World(f"""
meters:
  - {{name: m, aggregate: session, window: 1h, grace: 0s}}
  - {{name: m, aggregate: session, window: 15m, grace: 0s, from: "{_iso(change)}"}}
""")
    world.put("SESSION_START", T0 + 9 * HOUR)
    world.tick(change + 20 * MINUTE)
    assert world.figure(change, change + 15 * MINUTE).status is Status.CLOSING

    world.put("SESSION_END", change + 30 * MINUTE)
    world.tick(change + 60 * MINUTE)

    ended = world.figure(change, change + 15 * MINUTE)
    assert (ended.status, ended.adjustment) == (Status.FINAL, (0, 0))


TWO_PATIENCES = """
meters:
  - {name: billed, type: m, aggregate: session, timeout: 3h, timeout_bills: timeout}
  - {name: patient, type: m, aggregate: session}
"""


def test_a_session_that_runs_on_under_another_meter_is_part_of_the_peak() -> None:
    """One meter gave it up long before the time asked for."""
    world = World(TWO_PATIENCES)
    world.put("SESSION_START", T0)
    world.tick(T0 + 20 * HOUR)

    assert world.peak(T0 + 12 * HOUR, T0 + 13 * HOUR, "patient") == Peak(1, T0 + 12 * HOUR)


@pytest.mark.parametrize("meter", ["billed", "patient"])
def test_an_explanation_names_sessions_without_a_sign_in_its_time(meter: str) -> None:
    """Billed up to their timeout, or still running: where their boundaries lie is told."""
    world = World(TWO_PATIENCES)
    world.put("SESSION_START", T0)
    world.tick(T0 + 20 * HOUR)
    asked = Asked("a", meter, T0 + 2 * HOUR, T0 + 3 * HOUR, partitions=(0,))

    told = explain(world.store, asked, now=T0 + 20 * HOUR)

    assert told is not None
    assert told.figure.total == (3600 * 10**6, 6)
    assert [row.session for row in told.sessions] == ["x"]
    assert [place.hour for place, _ in told.places] == [T0 // HOUR]
