"""Records of the SDK on their way into the log as they are: one thread around a transport.

No spool and no second try here: the SDK at the other end has both. What has no report in time is
in doubt, and is told so; the record may be in the log, and comes again under its number.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from meterstream.errors import TransportBroken, TransportConnecting, TransportUnavailable
from meterstream.transport import Failure, Parcel, Report, Transport
from meterstream_services.gateway.metrics import DoorMetrics

PATIENCE_SECONDS: Final = 7.0
"""For a report; the SDK waits ten for the whole answer."""
RECORDS_MAX: Final = 20_000
"""Records without a report at most; a request beyond is told to wait."""
_CONNECT_SECONDS: Final = 2.0
_AGAIN_SECONDS: Final = 0.5
_POLL_SECONDS: Final = 0.005
_IDLE_SECONDS: Final = 1.0
_JOIN_SECONDS: Final = 5.0
_log: Final = logging.getLogger("meterstream.gateway")
_IN_DOUBT: Final = Failure("the log did not answer in time", permanent=False)
_BROKEN: Final = Failure("the connection to the log broke", permanent=False)


class Record(NamedTuple):
    """Where a record goes, its tenant as key, and its bytes."""

    partition: int
    key: bytes
    value: bytes


class Busy(Exception):
    """Nothing was sent: the log is away, or too much is under way. To be tried again later."""


class _Batch:
    """The records of one request: results in their order, and who waits for them."""

    __slots__ = ("future", "left", "loop", "records", "results")

    def __init__(self, records: Sequence[Record]) -> None:
        self.records: Final = records
        self.results: Final[list[int | Failure]] = [_IN_DOUBT] * len(records)
        self.left = len(records)
        self.loop: Final = asyncio.get_running_loop()
        self.future: Final[asyncio.Future[None]] = self.loop.create_future()

    def finish(self) -> None:
        """In the thread: let the request go on."""
        with suppress(RuntimeError):  # The loop has ended.
            self.loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class Passing:
    """Passes records on, from any event loop. ``start`` once, before; `close` at the end."""

    def __init__(
        self,
        transport: Transport,
        metrics: DoorMetrics | None = None,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.partitions: int | None = None
        """Of the topic; None while the log is away."""
        self._transport: Final = transport
        self._metrics: Final = metrics or DoorMetrics()
        self._patience_seconds: Final = patience_seconds
        self._thread: Final = threading.Thread(target=self._run, name="records", daemon=True)
        self._arrived: Final = threading.Event()
        self._coming: Final[deque[_Batch]] = deque()
        self._parcels: Final[deque[Parcel]] = deque()
        self._places: Final[dict[int, tuple[_Batch, int]]] = {}
        self._ticket = 0
        self._stopped = False

    def start(self) -> None:
        """Begin to connect, and stay connected."""
        self._thread.start()

    async def send(self, records: Sequence[Record]) -> list[int | Failure]:
        """The offset of each in its partition, or why it has none; in their order.

        Raises `Busy` where nothing was sent.
        """
        if self._stopped or self.partitions is None:
            raise Busy("the log is away")
        if len(self._places) + len(records) > RECORDS_MAX:
            raise Busy("too many records are under way")
        batch = _Batch(records)
        self._coming.append(batch)
        self._arrived.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(batch.future, self._patience_seconds)
        results = list(batch.results)
        kept = sum(type(result) is int for result in results)
        refused = sum(isinstance(result, Failure) and result.permanent for result in results)
        self._metrics.records_kept.inc(kept)
        self._metrics.records_refused.inc(refused)
        self._metrics.records_in_doubt.inc(len(results) - kept - refused)
        return results

    async def close(self) -> None:
        """Take nothing more and let go. What has no report is in doubt."""
        self._stopped = True
        self._arrived.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, _JOIN_SECONDS)

    # Below: the thread.

    def _run(self) -> None:
        while not self._stopped:
            try:
                if self.partitions is None:
                    self.partitions = self._transport.connect(timeout_seconds=_CONNECT_SECONDS)
                self._round()
            except TransportConnecting:
                continue
            except TransportUnavailable:
                time.sleep(_AGAIN_SECONDS)
            except TransportBroken:
                self._broke()
            except Exception:  # noqa: BLE001 - a fault here must not end the thread: begin anew
                _log.exception("records: a fault of the gateway's own; connecting anew")
                self._broke()
                time.sleep(_AGAIN_SECONDS)
        self._broke()
        self._transport.close()

    def _round(self) -> None:
        while self._coming:
            self._number(self._coming.popleft())
        while self._parcels:
            taken = self._transport.send(list(self._parcels))
            for _ in range(taken):
                self._parcels.popleft()
            if not taken:
                break
        if self._places:
            self._apply(self._transport.poll(_POLL_SECONDS))
            return
        self._arrived.clear()
        if not self._coming and not self._stopped:
            self._arrived.wait(_IDLE_SECONDS)
            self._transport.poll(0)
            self._transport.trouble()

    def _number(self, batch: _Batch) -> None:
        for place, record in enumerate(batch.records):
            self._ticket += 1
            self._places[self._ticket] = (batch, place)
            self._parcels.append((self._ticket, record.partition, record.key, record.value))

    def _apply(self, reports: list[Report]) -> None:
        for ticket, offset, failure in reports:
            found = self._places.pop(ticket, None)
            if found is not None:
                batch, place = found
                batch.results[place] = offset if offset is not None else failure or _IN_DOUBT
                batch.left -= 1
                if not batch.left:
                    batch.finish()

    def _broke(self) -> None:
        """Reports of what was sent will not come."""
        self.partitions = None
        self._parcels.clear()
        while self._coming:
            self._number(self._coming.popleft())
        self._parcels.clear()
        self._apply([(ticket, None, _BROKEN) for ticket in tuple(self._places)])
