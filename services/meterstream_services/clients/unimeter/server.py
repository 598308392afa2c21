"""Unimeter's TCP ports: listening, connections, pushes of alerts.

The protocol knows neither keys nor encryption: whoever reaches a port speaks for it. One port is
one tenant, or, without a tenant, every account by itself; so a port belongs on a loopback address,
a private network, or behind something that asks who comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from meterstream_services.clients.book import BookFull, BookUnavailable
from meterstream_services.clients.unimeter import wire, wire_questions
from meterstream_services.clients.unimeter.alert_log import AlertLog
from meterstream_services.clients.unimeter.alerts import LOOK_SECONDS, Alerts
from meterstream_services.clients.unimeter.answers import ALERTS_MAX, Answers
from meterstream_services.clients.unimeter.connection import Connection, Room, Rooms
from meterstream_services.clients.unimeter.figures import Questions
from meterstream_services.clients.unimeter.metrics import Metrics
from meterstream_services.clients.unimeter.pacing import Paced
from meterstream_services.clients.unimeter.wire import Op
from meterstream_services.http.limits import is_loopback
from meterstream_services.http.parts import Parts
from meterstream_services.http.settings import UnimeterPort
from meterstream_services.keys.principal import ALL

CONNECTIONS_MAX: Final = 256
"""Of one port; a further one takes the place of the one that is idle longest, or is closed."""
DISPLACED_SECONDS: Final = 2.0
"""Who is idle for less keeps its place: those who come and go do not drive each other out."""
SMALL_ROOM_BYTES: Final = 40 << 20
"""Small payloads under way on one port: more than all connections can announce and not send."""
LARGE_ROOM_BYTES: Final = 24 << 20
"""Larger ones."""
THREADS: Final = 4
DRAIN_SECONDS: Final = 15.0
"""How long requests that are under way may go on when the process ends."""
_BACKLOG: Final = 256

_log: Final = logging.getLogger("meterstream.unimeter")


@asynccontextmanager
async def serving(
    ports: Sequence[UnimeterPort], parts: Parts, *, definitions: Path | None = None
) -> AsyncGenerator[list[Port]]:
    """Answer on these ports while the block runs; at its end, what is under way first.

    ``definitions`` is where metrics of ports without a tenant are written for the workers. Raises
    `OSError` where a port cannot be had, `ValueError` for an address that clients cannot be told.
    """
    with ThreadPoolExecutor(THREADS, thread_name_prefix="unimeter") as threads:
        answers = _answers(ports, parts, definitions, threads)
        opened: list[Port] = []
        try:
            for settings in ports:
                port = Port(settings, answers[settings.tenant, settings.counted])
                await port.open()
                opened.append(port)
            yield opened
        finally:
            for port in opened:
                await port.close()
            for one in answers.values():
                await one.close()


def _answers(
    ports: Sequence[UnimeterPort],
    parts: Parts,
    definitions: Path | None,
    threads: ThreadPoolExecutor,
) -> dict[tuple[str | None, bool], Answers]:
    """One for each tenant and layout: such ports share what they know."""
    made: dict[tuple[str | None, bool], Answers] = {}
    for tenant, counted in {(port.tenant, port.counted) for port in ports}:
        owner = owner_of(tenant)
        metrics = Metrics(parts.book, owner, definitions=definitions if tenant is None else None)
        threads.submit(metrics.tell)
        questions = Questions(parts, tenant)
        alerts = Alerts(
            parts, metrics, questions, AlertLog(parts.book, owner), watched=tenant is None
        )
        made[tenant, counted] = Answers(
            parts,
            tenant,
            defined=metrics,
            questions=questions,
            alerts=alerts,
            threads=threads,
            counted=counted,
        )
    return made


def owner_of(tenant: str | None) -> str:
    """In whose name a port keeps metrics: as a key that is bound to its tenant would."""
    return ALL if tenant is None else f"tenant:{tenant}"


class Port:
    """One listening port. ``ended`` counts connections by why they ended."""

    def __init__(self, settings: UnimeterPort, answers: Answers) -> None:
        self.settings: Final = settings
        self.ended: Final[Counter[str]] = Counter()
        self._answers: Final = answers
        self._paced: Final = Paced(answers, settings.events_per_second)
        self._rooms: Final = Rooms(Room(SMALL_ROOM_BYTES), Room(LARGE_ROOM_BYTES))
        self._connections: Final[dict[Connection, asyncio.Task[None] | None]] = {}
        self._displaced: Final[set[Connection]] = set()
        self._server: asyncio.Server | None = None
        self._pushing: asyncio.Task[None] | None = None
        if settings.advertised is not None:
            wire.encode_address(settings.advertised)

    @property
    def address(self) -> str:
        """``host:port`` that it listens on."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    async def open(self) -> None:
        """Listen. Raises `OSError`."""
        settings = self.settings
        self._server = await asyncio.start_server(
            self._connected, settings.host.strip("[]"), settings.port, backlog=_BACKLOG
        )
        whose = "each account is a tenant" if settings.tenant is None else settings.tenant
        _log.info("Unimeter's clients are answered on %s (%s)", self.address, whose)
        if not is_loopback(settings.host):
            _log.warning(
                "%s: Unimeter's protocol knows no keys; whoever reaches it speaks for it",
                self.address,
            )

    async def close(self) -> None:
        """Take no connection more; answer what is under way."""
        assert self._server is not None
        self._server.close()
        if self._pushing is not None:
            self._pushing.cancel()
        for connection in list(self._connections):
            connection.drain()
        tasks = [task for task in self._connections.values() if task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=DRAIN_SECONDS)
            for connection in list(self._connections):
                connection.cut()
            if late:
                await asyncio.wait(late, timeout=1)
        with contextlib.suppress(asyncio.CancelledError):
            if self._pushing is not None:
                await self._pushing

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._has_place():
            self._note_end("too_many")
            writer.transport.abort()
            return
        host, port = writer.get_extra_info("sockname")[:2]
        address = self.settings.advertised or f"{host}:{port}"
        if len(address) >= wire.ADDRESS_BYTES:
            _log.error("%s does not fit into a map of partitions; advertise IPv4", address)
            writer.transport.abort()
            return
        connection = Connection(
            reader,
            writer,
            self._answers,
            self._rooms,
            self._note_end,
            ingest=self._paced.ingest,
            address=address,
        )
        self._connections[connection] = asyncio.current_task()
        if self._pushing is None or self._pushing.done():
            self._pushing = asyncio.create_task(self._push())
        try:
            self._answers.metrics.connections.inc()
            await connection.run()
        finally:
            self._answers.metrics.connections.dec()
            del self._connections[connection]
            self._displaced.discard(connection)

    def _has_place(self) -> bool:
        """Whether one more may come; where all places are taken, the one idle longest makes it."""
        if len(self._connections) - len(self._displaced) < CONNECTIONS_MAX:
            return True
        idle = {each: since for each in self._connections if (since := each.idle_since) is not None}
        longest = min(idle, key=idle.__getitem__, default=None)
        now = asyncio.get_running_loop().time()
        if longest is None or now - idle[longest] < DISPLACED_SECONDS:
            return False
        self._displaced.add(longest)
        longest.displace()
        return True

    def _note_end(self, reason: str) -> None:
        self.ended[reason] += 1
        self._answers.metrics.ended(reason)

    async def _push(self) -> None:
        """Tell subscribers of alerts, as long as anybody is connected."""
        alerts = self._answers.alerts
        while self._connections:
            pause = LOOK_SECONDS
            if any(connection.pushed_from is not None for connection in self._connections):
                try:
                    pause = await self._answers.in_thread(alerts.look)
                except (BookUnavailable, BookFull) as problem:
                    _log.warning("alerts are not told of: %s", problem)
                except Exception:  # noqa: BLE001 - a loop's edge: said in the log, tried again
                    _log.exception("alerts are not told of")
                self._tell()
            await asyncio.sleep(max(pause, 0.05))

    def _tell(self) -> None:
        log = self._answers.alerts.log
        for connection in list(self._connections):
            first = connection.pushed_from
            if first is None:
                continue
            rows = log.since(first, limit=ALERTS_MAX)
            for row in rows:
                payload = wire_questions.encode_alert_push(row)
                connection.push(wire.encode_push(Op.ALERT_PUSH, payload))
            if rows:
                connection.pushed_from = rows[-1].offset + 1
