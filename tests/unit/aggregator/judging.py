"""A judge with a log of its own, for tests of the intake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.changes import Changes, Tally
from meterstream_aggregator.dedup import ProducerKey
from meterstream_aggregator.intake import Intake
from tests.unit.aggregator.making import NOW, PRODUCER, READINGS, known

if TYPE_CHECKING:
    from collections.abc import Callable

    from meterstream_aggregator.dedup import Numbers
    from meterstream_aggregator.refusals import Reason, Refusal
    from meterstream_aggregator.state import State
    from meterstream_schemas.events import MeterEvent

MINE = ProducerKey(0, PRODUCER)


class Judge:
    """Judges one event after the other; each gets the next offset of partition 0."""

    def __init__(
        self,
        state: State | None = None,
        *,
        settled: Callable[[LogRecord], Refusal | None] | None = None,
    ) -> None:
        self.state = state if state is not None else known()
        self.changes = Changes()
        self._intake = Intake(self.state, READINGS, self.changes, settled)
        self._offset = 0

    def __call__(self, said: MeterEvent, *, at: int = NOW) -> int:
        self._offset += 1
        return self._intake.accept(LogRecord(0, self._offset, at, said))

    @property
    def tally(self) -> Tally:
        """What became of the events so far."""
        return self.changes.tally(0)

    @property
    def numbers(self) -> Numbers:
        """What is known of `PRODUCER`."""
        return self.state.numbers[MINE]

    @property
    def reasons(self) -> list[Reason]:
        """Why events were refused, in order."""
        return [letter.refusal.reason for letter in self.changes.dead_letters]
