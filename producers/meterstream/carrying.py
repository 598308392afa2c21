"""From the buffer into flight and to an outcome, in memory alone.

`meterstream.disk` is the same by way of the spool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meterstream.complaints import describe
from meterstream.encoding import LANE, Encoder
from meterstream.flight import Flight
from meterstream.intake import Barrier, Claims
from meterstream.marking import Barriers
from meterstream.settlement import Settlement

if TYPE_CHECKING:
    from collections.abc import Callable

    from meterstream.complaints import Complaints
    from meterstream.connection import Connection
    from meterstream.intake import Intake
    from meterstream.marking import Marks
    from meterstream.status import Outcome
    from meterstream.transport import Report, Transport

CHUNK: Final = 4_000


class Carrier:
    """What a round does between buffer and transport. Belongs to the background thread."""

    def __init__(
        self,
        *,
        intake: Intake,
        connection: Connection,
        marks: Marks,
        complaints: Complaints,
        on_outcome: Callable[[Outcome], object] | None,
        collect: bool = False,
    ) -> None:
        self.flight: Final = Flight(keep_contents=on_outcome is not None)
        self.barriers: Final = Barriers(self.flight)
        self.settlement: Final = Settlement(
            producer=intake.numbering.producer,
            flight=self.flight,
            complaints=complaints,
            on_outcome=on_outcome,
            collect=collect,
        )
        self._intake: Final = intake
        self._connection: Final = connection
        self._marks: Final = marks
        self._complaints: Final = complaints
        self._encoder: Encoder | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to send or to wait for."""
        return not (self._intake.buffer or len(self.flight))

    @property
    def awaits_reports(self) -> bool:
        """Whether the transport holds something."""
        return len(self.flight) > 0

    def store(self, now: float) -> bool:  # noqa: ARG002 - the spool wants to know
        """Before connecting: bring into safety what waits. Whether anything moved."""
        return False

    def load(self, now: float) -> int:
        """Put entries in flight, also those again whose wait is over; how many were new."""
        self.settlement.send_due_again(now)
        if self._encoder is None:
            self._encoder = Encoder(self._connection.header)
        encode, add = self._encoder.encode, self.flight.add
        popleft, partitions = self._intake.buffer.popleft, self._connection.partition_of_lane
        taken = 0
        for _ in range(min(CHUNK, self.flight.room)):
            try:
                item = popleft()
            except IndexError:
                break
            taken += 1
            if type(item) is tuple:
                partition = partitions[item[LANE]]
                try:
                    value = encode(item)
                except Exception as problem:  # noqa: BLE001 - one must not take the others along
                    self.settlement.fail(item, partition, describe(problem))
                    continue
                add(item, partition, value)
            elif type(item) is Barrier:
                self.barriers.place(item)
            elif type(item) is Claims:
                for entry in self._marks.entries(item):
                    ticket = add(entry, partitions[entry[LANE]], encode(entry))
                    self.settlement.expect_mark(ticket)
        return taken

    def send(self, transport: Transport) -> int:
        """Hand over as much as the transport takes. Raises `TransportBroken`."""
        return send_from(self.flight, transport)

    def apply(self, reports: list[Report], now: float) -> bool:
        """See `meterstream.settlement.Settlement.apply`."""
        return self.settlement.apply(reports, now)

    def send_all_again(self) -> None:
        """The transport forgot what it had."""
        self.settlement.send_all_again()

    def on_time(self, now: float) -> None:
        """Do what time asks for."""

    def poll_seconds(self, seconds: float) -> float:
        """How long to wait for reports when nothing else moves, at most so long."""
        return seconds

    def sleep_seconds(self, seconds: float, *, is_open: bool) -> tuple[float, bool]:
        """How long to sleep when nothing moves, and whether new events shall end it."""
        return seconds, is_open  # Without a connection events wait anyway.

    def end(self) -> int:
        """The last thing. How many events without an outcome are kept for later."""
        return 0

    def abandon(self) -> None:
        """The process is the child of a fork."""


def send_from(flight: Flight, transport: Transport) -> int:
    """Hand over what is in line, as much as the transport takes. Raises `TransportBroken`."""
    sent = 0
    while parcels := flight.outgoing(CHUNK):
        took = transport.send(parcels)
        flight.sent(took)
        sent += took
        if took < len(parcels):
            break
    return sent
