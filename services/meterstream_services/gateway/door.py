"""The door to the log: offers become numbered events of an SDK meter, and outcomes become answers.

The meter writes every event to its spool (fsync) before it sends it, and tells each outcome in its
background thread. Here is one event loop, and no lock: what is counted and looked up below belongs
to the loop alone. One call of `take`, in order:

1. an offer whose key is known is answered from memory, or waits with the first of its key;
2. where neither log nor disk take events, nothing is numbered, and the answer is "unavailable";
3. every other offer is checked and numbered by the meter, without waiting;
4. the call waits for the outcomes of its numbers, as long as its `Patience` says;
5. outcomes come from the meter's thread in a queue, which wakes the loop once for many.

That the disk has an event is known from a barrier behind it, one for all calls of a moment that
ask. Nobody is told "spooled" otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from meterstream import Meter
from meterstream.encoding import LANE, SEQUENCE, TENANT_KEY
from meterstream_services.gateway.metrics import DoorMetrics
from meterstream_services.gateway.offering import LANE_BITS, Awaited, Offering
from meterstream_services.gateway.port import Fate, Offer, Patience, Ruling
from meterstream_services.gateway.remembering import KEYS_REMEMBERED_MAX, Underway, Waiter, name_of
from meterstream_services.gateway.waiting import SPOOLED, UNAVAILABLE, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from meterstream.intake import Barrier
    from meterstream.settlement import Arrival
    from meterstream.status import Outcome, Status

DISK_SECONDS: Final = 3.0
"""How long the disk may take to confirm, when the log did not in time."""
DRAIN_SECONDS: Final = 10.0
"""How long closing waits for outcomes."""
CLOSE_SECONDS: Final = 5.0
PART_MAX: Final = 2_000
"""Offers that are numbered at once; with attributes each needs up to 17 slots of the buffer."""
RETRY_SECONDS: Final = 2
RETRY_STUCK_SECONDS: Final = 10
_STEP_SECONDS: Final = 0.01
_ACCEPTED: Final = Ruling.ACCEPTED
_DUPLICATE: Final = Ruling.DUPLICATE
_log: Final = logging.getLogger("meterstream.gateway")
_new: Final = tuple.__new__
"""Makes a fate at a third of what its own name costs, which fills in what is left out."""


class LogDoor:
    """See `meterstream_services.gateway.port.Door`. For one event loop; `start` it there.

    ``make_meter`` gets what is to be told of outcomes; the meter needs a durability with a disk.
    """

    def __init__(
        self,
        make_meter: Callable[[Callable[[Outcome], object]], Meter],
        *,
        patience_seconds: float,
        metrics: DoorMetrics | None = None,
        keys_max: int = KEYS_REMEMBERED_MAX,
    ) -> None:
        self._metrics: Final = metrics or DoorMetrics()
        self._patience_seconds: Final = patience_seconds
        self._arrivals: Final[deque[list[Arrival]]] = deque()
        self._failures: Final[deque[Outcome]] = deque()
        self._barriers: Final[deque[tuple[Barrier, list[Request]]]] = deque()
        self._asking: list[Request] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = False
        self._away = False
        self._meter: Final = make_meter(self._hear)
        self._incarnation: Final = self._meter.current()
        self._incarnation.listen(self._hear_arrivals)
        self.producer: Final = self._incarnation.producer
        """The id under which the door numbers events."""
        self._offering: Final = Offering(self._incarnation, keys_max=keys_max)
        self._metrics.watch(self)

    def start(self) -> None:
        """Begin in this event loop: connect, and send what a dead process left in the spool."""
        self._loop = asyncio.get_running_loop()
        self._incarnation.wake()

    @property
    def keys_remembered(self) -> int:
        """Keys that a repeat would be known by."""
        return len(self._offering.keys) + len(self._offering.voids)

    @property
    def waiting(self) -> int:
        """Events that calls wait for."""
        return len(self._offering.waiting)

    def status(self) -> Status:
        """How the meter is."""
        return self._meter.status()

    def trouble(self) -> str | None:
        """See `Door`."""
        if self._offering.closed:
            return "the gateway is stopping"
        if self._incarnation.is_stuck:
            status = self._meter.status()
            return (
                f"neither the log nor the spool takes events ({status.spool_bytes} of "
                f"{status.spool_bytes_max} bytes are used): {status.last_error or 'no reason told'}"
            )
        return None

    def retry_after_seconds(self) -> int:
        """See `Door`."""
        return RETRY_STUCK_SECONDS if self._incarnation.is_stuck else RETRY_SECONDS

    async def take(self, offers: Sequence[Offer], patience: Patience = Patience.LOG) -> list[Fate]:
        """See `Door`. Many are taken in parts, one after the other.

        The meter's buffer may not have room for all of them at once, also when they come again.
        """
        if len(offers) <= PART_MAX:
            return await self._take(offers, patience)
        fates: list[Fate] = []
        while len(fates) < len(offers):
            part = await self._take(offers[len(fates) : len(fates) + PART_MAX], patience)
            fates += part
            if UNAVAILABLE in part:
                left = len(offers) - len(fates)
                self._metrics.count(Ruling.UNAVAILABLE, left)
                fates += [UNAVAILABLE] * left
            elif SPOOLED in part:
                patience = Patience.SPOOL  # The log was waited for already.
        return fates

    async def _take(self, offers: Sequence[Offer], patience: Patience) -> list[Fate]:
        if self._loop is None:
            self.start()
        request = self._offering.offered(offers)
        if request.left:
            begun = time.perf_counter()
            await self._wait(request, patience)
            self._metrics.seconds.observe(time.perf_counter() - begun)
        fates = [fate or UNAVAILABLE for fate in request.fates]
        rulings = [fate[0] for fate in fates]
        if rulings and rulings.count(rulings[0]) == len(rulings):
            self._metrics.count(rulings[0], len(rulings))
        else:
            for ruling, count in Counter(rulings).items():
                self._metrics.count(ruling, count)
        return fates

    async def close(self) -> None:
        """See `Door`. What has no outcome then stays in the spool for the next process."""
        offering = self._offering
        if offering.closed:
            return
        offering.closed = True
        deadline = time.monotonic() + DRAIN_SECONDS
        while offering.waiting and not self._incarnation.is_stuck:
            await asyncio.sleep(_STEP_SECONDS)
            if time.monotonic() >= deadline:
                break
        await asyncio.to_thread(self._meter.close, CLOSE_SECONDS)
        self._drain()
        for awaited in tuple(offering.waiting.values()):
            waiters = awaited.waiters if isinstance(awaited, Underway) else [awaited]
            for request, _ in waiters:
                self._give_up(request)

    # Step 4.

    async def _wait(self, request: Request, patience: Patience) -> None:
        loop = asyncio.get_running_loop()
        future = request.future = loop.create_future()
        on_time = self._turn_to_disk if patience is Patience.LOG_OR_SPOOL else self._give_up
        request.timer = loop.call_later(self._patience_seconds, self._is_late, on_time, request)
        if patience is Patience.SPOOL:
            self._ask_disk(request)
        try:
            await future
        finally:
            request.timer.cancel()
            if request.left:  # The caller went away.
                self._give_up(request)

    def _is_late(self, on_time: Callable[[Request], None], request: Request) -> None:
        """The log did not answer in time. Said once, until it answers again."""
        if not self._away:
            self._away = True
            status = self._meter.status()
            said = "the log is away, and of %d events that wait %d are in the spool: %s"
            why = status.last_error or "it does not answer"
            _log.warning(said, status.buffered, status.spooled, why)
        on_time(request)

    def _give_up(self, request: Request) -> None:
        """Nobody waits any longer for what is missing; it is on its way all the same."""
        self._tell_rest(request, UNAVAILABLE)

    def _turn_to_disk(self, request: Request) -> None:
        """The log took too long: the disk's word counts too."""
        loop = self._loop
        assert loop is not None
        request.timer = loop.call_later(DISK_SECONDS, self._give_up, request)
        self._ask_disk(request)

    def _ask_disk(self, request: Request) -> None:
        if not self._asking:
            loop = self._loop
            assert loop is not None
            loop.call_soon(self._place_barrier)
        self._asking.append(request)

    def _place_barrier(self) -> None:
        """One for everybody who asked since the last turn of the loop."""
        asking, self._asking = self._asking, []
        self._barriers.append((self._incarnation.tell_on_disk(self._wake), asking))

    def _tell_rest(self, request: Request, fate: Fate) -> None:
        waiting = self._offering.waiting
        for place, known in enumerate(request.fates):
            if known is not None:
                continue
            number = request.numbers[place]
            awaited = waiting.get(number)
            if isinstance(awaited, Underway):
                awaited.waiters = [waiter for waiter in awaited.waiters if waiter[0] is not request]
                if not awaited.waiters:
                    del waiting[number]
            elif awaited is not None:
                del waiting[number]
            request.tell(place, fate)

    # Step 5. The first three run in the meter's thread.

    def _hear_arrivals(self, arrivals: list[Arrival]) -> None:
        self._arrivals.append(arrivals)
        self._wake()

    def _hear(self, outcome: Outcome) -> None:
        if outcome.producer == self.producer:  # A dead process's, nobody waits for.
            self._failures.append(outcome)
            self._wake()

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None and not self._woken:
            self._woken = True
            with suppress(RuntimeError):  # The loop has ended.
                loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._woken = False  # First: what comes from now on wakes again.
        # Before the outcomes: what was refused before a barrier opened is told as refused.
        stored = list[Request]()
        while self._barriers and self._barriers[0][0].settled:
            stored += self._barriers.popleft()[1]
        arrivals = self._arrivals
        if arrivals and self._away:
            self._away = False
            _log.warning("the log is back: what waited is being sent")
        while arrivals:
            self._arrived(arrivals.popleft())
        while self._failures:
            outcome = self._failures.popleft()
            self._lost(outcome, self._offering.waiting.pop(_number_of(outcome), None))
        for request in stored:
            self._tell_rest(request, SPOOLED)

    def _arrived(self, arrivals: list[Arrival]) -> None:
        """The log has these."""
        pop, keyed = self._offering.waiting.pop, list[tuple[Waiter, int, int]]()
        for arrival in arrivals:
            entry, partition, offset = arrival
            awaited = pop(entry[SEQUENCE] << LANE_BITS | entry[LANE], None)
            if type(awaited) is not tuple:
                self._arrived_apart(awaited, arrival)
                continue
            request, place = awaited
            if request.names is not None:
                keyed.append((awaited, partition, offset))
            request.fates[place] = _new(Fate, (_ACCEPTED, partition, offset, None, None))
            request.left -= 1
            if not request.left:
                request.finish()
        if keyed:
            self._offering.keys.keep_many(keyed)

    def _arrived_apart(self, awaited: Awaited | None, arrival: Arrival) -> None:
        """The log has an event that several wait for, or nobody, or that was numbered alone."""
        entry, partition, offset = arrival
        if awaited is None:
            number = entry[SEQUENCE] << LANE_BITS | entry[LANE]
            awaited = self._underway(number, entry[TENANT_KEY].decode(), entry[-1])
        if isinstance(awaited, Underway):
            awaited.keys.keep(awaited, partition, offset)
            waiters, awaited.waiters = awaited.waiters, []
            _tell_all(waiters, partition, offset)

    def _underway(self, number: int, tenant: str, key: str | None) -> Underway | None:
        """The key of an event that nobody waits for."""
        if key is None:
            return None
        name = name_of(tenant, key)
        for keys in (self._offering.keys, self._offering.voids):
            known = keys.find(name)
            if isinstance(known, Underway) and known.number == number:
                keys.share(known)
                return known
        return None

    def _lost(self, outcome: Outcome, awaited: Awaited | None) -> None:
        """The broker refused an event for good."""
        if awaited is None:
            self._metrics.lost.inc()
            awaited = self._underway(_number_of(outcome), outcome.tenant, outcome.key)
        elif isinstance(awaited, tuple) and awaited[0].names is not None:
            request, place = awaited
            awaited = Underway.of(self._offering.keys, awaited[0].names[place], awaited)
            awaited.keys.share(awaited)
        fate = Fate(Ruling.REFUSED, reason=outcome.error)
        if isinstance(awaited, Underway):
            awaited.keys.forget(awaited)
            for request, place in awaited.waiters:
                request.tell(place, fate)
        elif awaited is not None:
            awaited[0].tell(awaited[1], fate)


def _tell_all(waiters: list[Waiter], partition: int, offset: int) -> None:
    """The first sent it, the others the same once more."""
    ruling = _ACCEPTED
    for request, place in waiters:
        request.tell(place, Fate(ruling, partition, offset))
        ruling = _DUPLICATE


def _number_of(outcome: Outcome) -> int:
    return outcome.sequence << LANE_BITS | outcome.lane
