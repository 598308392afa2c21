"""The one background thread of an incarnation: encodes, sends, and learns what became of it.

Each round, in order:

1. connect, when there is no connection, and wait between attempts;
2. take entries from the buffer, encode them and put them in flight;
3. hand parcels in flight to the transport, as many as it takes;
4. poll reports: an offset settles an entry, a refusal for good settles it as failed, anything else
   sends it again under the same number;
5. release barriers (``flush``) that everything before them has passed;
6. do what time asks for: heartbeats, marks, log lines;
7. sleep until there is work, when nothing is in flight.

The thread ends when it is told to stop, after the closing marks have an outcome or the deadline
is over. Nothing an entry, a callback or a transport does ends it before.
"""

from __future__ import annotations

import _thread
import time as clock
from collections import deque
from typing import TYPE_CHECKING, Final

from meterstream.complaints import describe
from meterstream.encoding import LANE, NO_ATTRIBUTES, Encoder, attributes_map, mark
from meterstream.errors import TransportBroken, TransportUnavailable
from meterstream.flight import FLIGHT_MAX, Ages, Flight
from meterstream.intake import Barrier, Claims
from meterstream.settlement import Settlement
from meterstream.waking import Alarm, Gate
from meterstream_schemas.errors import SchemaError
from meterstream_schemas.events import LANES
from meterstream_schemas.placement import partition_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from meterstream.complaints import Complaints
    from meterstream.intake import Intake
    from meterstream.status import Outcome
    from meterstream.transport import Transport

_CHUNK: Final = 4_000
_CONNECT_TIMEOUT_SECONDS: Final = 2.0
_CONNECT_WAIT_SECONDS: Final = 0.1
_CONNECT_WAIT_SECONDS_MAX: Final = 5.0
_POLL_SECONDS: Final = 0.01
_SLEEP_SECONDS_MAX: Final = 1.0
_CLOSING: Final = attributes_map({"closing": "true"})


class Sender:
    """What the background thread runs. Only ``run`` changes it; other threads may read counts."""

    def __init__(
        self,
        *,
        intake: Intake,
        transport: Transport,
        schema_id: Callable[[], int],
        complaints: Complaints,
        mark_seconds: float,
        beat: Callable[[float], float],
        on_outcome: Callable[[Outcome], object] | None,
    ) -> None:
        self.partitions: int | None = None
        self.rebuilt = 0
        self.ages: Final = Ages()
        self.ended: Final = Gate()
        self.stopped = False
        self._intake: Final = intake
        self._transport: Final = transport
        self._schema_id: Final = schema_id
        self._complaints: Final = complaints
        self._mark_seconds: Final = mark_seconds
        self._beat: Final = beat
        self._flight: Final = Flight()
        self.settlement: Final = Settlement(
            producer=intake.numbering.producer,
            flight=self._flight,
            complaints=complaints,
            on_outcome=on_outcome,
        )
        self._barriers: Final[deque[Barrier]] = deque()
        self._alarm: Final = Alarm()
        self._encoder: Encoder | None = None
        self._partitions: tuple[int, ...] = ()
        self._connected = False
        self._connect_at = 0.0
        self._connect_wait_seconds = _CONNECT_WAIT_SECONDS
        self._marked: dict[int, int] = {}
        self._marks_waiting = False
        self._mark_at = 0.0
        self._stop_at: float | None = None
        self._closing_claimed = False

    def wake(self) -> None:
        """End the thread's sleep. Safe from any thread and from signal handlers; does not block."""
        self._intake.drowsy = False
        self._alarm.ring()

    def stop(self, *, deadline: float) -> None:
        """Finish what was taken, say so with closing marks, and end by ``deadline`` (monotonic)."""
        self._stop_at = deadline
        self._connect_at = 0.0  # One more attempt at once: there may be no later one.
        self.wake()

    def run(self) -> None:
        """Rounds until told to stop."""
        intake = self._intake
        intake.background = _thread.get_ident()
        self._mark_at = clock.monotonic() + self._mark_seconds
        while not self._is_done():
            try:
                self._round()
            except Exception as problem:  # noqa: BLE001 - the host's thread of last resort
                self._complaints.error(
                    "internal", f"the SDK met a fault of its own: {describe(problem)}"
                )
                clock.sleep(_POLL_SECONDS)
        self._end()

    def _round(self) -> None:
        now = clock.monotonic()
        progress = self._is_connected(now) and self._carry(now)
        self._release_barriers()
        next_due = self._on_time(now)
        if not progress:
            self._rest(now, next_due)

    # 1. Connect.

    def _is_connected(self, now: float) -> bool:
        if self._connected:
            return True
        if now < self._connect_at:
            return False
        try:
            if self._encoder is None:
                self._encoder = Encoder(self._schema_id())
            partitions = self._transport.connect(timeout_seconds=self._patience(now))
        except (TransportUnavailable, TransportBroken, SchemaError) as problem:
            return self._wait_to_connect(str(problem))
        except Exception as problem:  # noqa: BLE001 - such as a package that is not there
            return self._wait_to_connect(describe(problem))
        if self.partitions is None:
            # Kept for the incarnation's life: a lane's numbers belong to one partition.
            self.partitions = partitions
            self._partitions = tuple(partition_of(lane, partitions) for lane in range(LANES))
        self._connected = True
        return True

    def _wait_to_connect(self, why: str) -> bool:
        self._complaints.warn("connect", f"events wait in the buffer: {why}")
        self._delay_connecting()
        return False

    def _delay_connecting(self) -> None:
        """Wait longer from time to time, until something arrives."""
        self._connect_at = clock.monotonic() + self._connect_wait_seconds
        self._connect_wait_seconds = min(2 * self._connect_wait_seconds, _CONNECT_WAIT_SECONDS_MAX)

    def _patience(self, now: float) -> float:
        if self._stop_at is None:
            return _CONNECT_TIMEOUT_SECONDS
        return max(0.05, min(_CONNECT_TIMEOUT_SECONDS, self._stop_at - now))

    # 2, 3 and 4. Carry.

    def _carry(self, now: float) -> bool:
        """Whether anything moved."""
        self.settlement.send_due_again(now)
        try:
            taken = self._take()
            sent = self._send()
            reports = self._transport.poll(0 if taken or sent else self._poll_seconds())
        except TransportBroken as problem:
            self._rebuild(problem)
            return False
        if self.settlement.apply(reports, now):
            self._connect_wait_seconds = _CONNECT_WAIT_SECONDS
        return bool(taken or sent or reports)

    def _poll_seconds(self) -> float:
        return _POLL_SECONDS if len(self._flight) else 0

    def _take(self) -> int:
        """Entries from the buffer, encoded, into flight."""
        assert self._encoder is not None
        popleft, encode, add = self._intake.buffer.popleft, self._encoder.encode, self._flight.add
        partitions, taken = self._partitions, 0
        for _ in range(min(_CHUNK, FLIGHT_MAX - len(self._flight))):
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
                item.ticket = self._flight.last_ticket
                self._barriers.append(item)
            elif type(item) is Claims:
                self._launch_marks(item, self._encoder)
        return taken

    def _launch_marks(self, claims: Claims, encoder: Encoder) -> None:
        time = clock.time_ns() // 1000
        attributes = _CLOSING if claims.closing else NO_ATTRIBUTES
        producer = self._intake.numbering.producer
        for lane, highest in claims.highest.items():
            entry = mark(producer, lane, highest, time=time, attributes=attributes)
            ticket = self._flight.add(entry, self._partitions[lane], encoder.encode(entry))
            self.settlement.expect_mark(ticket)
        self._marks_waiting = False

    def _send(self) -> int:
        sent = 0
        while parcels := self._flight.outgoing(_CHUNK):
            took = self._transport.send(parcels)
            self._flight.sent(took)
            sent += took
            if took < len(parcels):
                break
        return sent

    def _rebuild(self, problem: TransportBroken) -> None:
        self.rebuilt += 1
        self._complaints.warn("broken", f"the client is built anew, nothing is lost: {problem}")
        self.settlement.send_all_again()
        self._connected = False
        self._delay_connecting()

    # 5. Barriers.

    def _release_barriers(self) -> None:
        if self._barriers:
            through = self._flight.settled_through()
            while self._barriers and self._barriers[0].ticket <= through:
                barrier = self._barriers.popleft()
                barrier.settled = True
                barrier.reached.open()

    # 6. Time.

    def _on_time(self, now: float) -> float:
        """Do what is due and return when the next thing is."""
        trouble = self._transport.trouble()
        if trouble is not None:
            self._complaints.warn("connect", trouble)
        self._complaints.log_due(now)
        self.ages.note(
            taken=self._flight.last_ticket + len(self._intake.buffer),
            settled=self._flight.settled_through(),
            now=now,
        )
        if now >= self._mark_at:
            self._claim(closing=False)
            self._mark_at = now + self._mark_seconds
        return min(self._mark_at, self._beat(now))

    def _claim(self, *, closing: bool) -> None:
        """Put the highest numbers into the buffer, behind the entries that carry them."""
        claims = self._intake.numbering.claims()
        if not closing:
            if self._marks_waiting:
                return
            changed = {lane: n for lane, n in claims.items() if self._marked.get(lane) != n}
            self._marked, claims = claims, changed
        if claims:
            self._marks_waiting = True
            self._intake.buffer.append(Claims(claims, closing=closing))

    # 7. Rest.

    def _rest(self, now: float, next_due: float) -> None:
        if self._connected and len(self._flight):
            return  # The transport's poll waited already.
        until = next_due if self._connected else min(next_due, self._connect_at)
        seconds = min(max(0.0, until - now), _SLEEP_SECONDS_MAX)
        if not self._connected:
            # Events wait anyway: they need not wake us, stop() will.
            self._alarm.sleep(seconds)
            return
        self._intake.drowsy = True
        # Looked at again after drowsy is set: whoever appended before that did not ring.
        if not self._intake.buffer:
            self._alarm.sleep(seconds)
        self._intake.drowsy = False

    # The end.

    def _is_done(self) -> bool:
        if self._stop_at is None:
            return False
        if not self._closing_claimed:
            self._closing_claimed = True
            self._claim(closing=True)
        return clock.monotonic() >= self._stop_at or not (self._intake.buffer or len(self._flight))

    def _end(self) -> None:
        left = self._intake.taken() - self.settlement.acknowledged - self.settlement.failed
        if left:
            self._complaints.error(
                "close",
                f"closed while {left} events had no outcome; they may or may not be counted",
            )
        self._complaints.log_due(clock.monotonic())
        self._transport.close()
        self.stopped = True
        for item in (*self._barriers, *self._intake.buffer):
            if type(item) is Barrier:
                item.reached.open()
        self.ended.open()
