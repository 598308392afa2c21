"""Connections that only read: rows in portions, in one snapshot; and a few that are kept.

Inside a snapshot long answers are read through cursors, so that they are never held as a whole.
Outside of one there is no transaction that a cursor could live in: there the whole answer comes at
once.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, count
from threading import BoundedSemaphore, Lock
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus

from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.store.address import PostgresAddress
from meterstream_aggregator.store.postgres.connection import Connection, connect
from meterstream_aggregator.store.postgres.errors import unavailable
from meterstream_aggregator.store.postgres.migrations import check

Row = tuple[Any, ...]
Given = Sequence[Any] | Mapping[str, Any]
CONNECTIONS_MAX: Final = 16
"""Questions of one process that are answered at once; further ones wait."""
WAIT_SECONDS: Final = 10.0
"""How long they wait before `StoreUnavailable`."""
_PORTION: Final = 1_000
_BEGIN: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_FOR_QUESTIONS: Final = {
    "statement_timeout": "30s",
    "default_transaction_read_only": "on",
    # Rows of figures are read to the last one.
    "cursor_tuple_fraction": "1",
    "work_mem": "16MB",
}
_FOR_PROOFS: Final = _FOR_QUESTIONS | {
    "statement_timeout": "0",
    "lock_timeout": "0",
    # The log is read, for as long as it takes, while the snapshot waits.
    "idle_in_transaction_session_timeout": "0",
}


class Connections:
    """Connections to one store that are kept for the next reader. For any number of threads."""

    def __init__(self, address: PostgresAddress, *, at_most: int = CONNECTIONS_MAX) -> None:
        self.address: Final = address
        self._places = BoundedSemaphore(at_most)
        self._at_most = at_most
        self._kept: deque[Connection] = deque()
        self._lock = Lock()
        self._is_closed = False

    def take(self) -> Connection:
        """A connection that seems to be alive. Blocks while all are in use.

        Raises `StoreUnavailable` and `StoreMismatch` as `connect` does.
        """
        if not self._places.acquire(timeout=WAIT_SECONDS):
            raise StoreUnavailable(
                f"{self.address}: {self._at_most} questions are being answered already; ask again"
            )
        try:
            while self._kept:
                with suppress(IndexError):
                    known = self._kept.pop()
                    if _seems_alive(known):
                        return known
                    known.close()
            return opened(self.address, _FOR_QUESTIONS)
        except BaseException:
            self._places.release()
            raise

    def give_back(self, connection: Connection) -> None:
        """Keep it for the next reader, unless it broke. Never raises."""
        idle = connection.info.transaction_status is TransactionStatus.IDLE
        with self._lock:
            keeps = idle and not connection.closed and not self._is_closed
            if keeps:
                self._kept.append(connection)
        if not keeps:
            connection.close()
        self._places.release()

    def close(self) -> None:
        """Close what is kept; what is in use is closed when it comes back."""
        with self._lock:
            self._is_closed = True
        while self._kept:
            with suppress(IndexError):
                self._kept.pop().close()


class ReadConnection:
    """A store's schema, opened to be read. For one thread at a time.

    With ``connections`` it is one of those, given back by `close`. ``patient``: without limits of
    time, for what reads a whole store, or the log beside it.
    """

    def __init__(
        self,
        address: PostgresAddress,
        *,
        connections: Connections | None = None,
        patient: bool = False,
    ) -> None:
        self.address: Final = address
        self._connections = connections
        settings = _FOR_PROOFS if patient else _FOR_QUESTIONS
        taken = connections.take() if connections is not None else opened(address, settings)
        self._db: Connection | None = taken
        self._cursors = count()

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """Everything read inside sees the same committed state."""
        db = self._open()
        with unavailable(self.address):
            db.execute(_BEGIN)
        try:
            yield
        finally:
            # Nothing was written: a rollback is as good, and also ends what has failed.
            with suppress(psycopg.Error):
                db.execute("ROLLBACK")

    def one(self, query: str, given: Given = ()) -> Row | None:
        """The first row, None where there is none."""
        with unavailable(self.address):
            return self._open().execute(_sql(query), given).fetchone()

    def all(self, query: str, given: Given = ()) -> list[Row]:
        """Every row."""
        with unavailable(self.address):
            return self._open().execute(_sql(query), given).fetchall()

    def portions(
        self, query: str, given: Given = (), *, size: int = _PORTION
    ) -> Iterator[list[Row]]:
        """Every row, read as it is wanted."""
        db = self._open()
        if db.info.transaction_status is TransactionStatus.IDLE:
            yield self.all(query, given)
            return
        name = f"portions_{next(self._cursors)}"
        with unavailable(self.address):
            db.execute(_sql(f"DECLARE {name} NO SCROLL CURSOR FOR {query}"), given)
        fetch = _sql(f"FETCH {size} FROM {name}")
        while True:
            with unavailable(self.address):
                portion = db.execute(fetch, prepare=False).fetchall()
            if portion:
                yield portion
            if len(portion) < size:
                break
        with unavailable(self.address):  # one that is not read to its end lives as the snapshot
            db.execute(_sql(f"CLOSE {name}"), prepare=False)

    def each(self, query: str, given: Given = (), *, size: int = _PORTION) -> Iterator[Row]:
        """Every row, one by one, read in portions."""
        return chain.from_iterable(self.portions(query, given, size=size))

    def close(self) -> None:
        """Let go of the connection. Repeating it is harmless."""
        known, self._db = self._db, None
        if known is None:
            return
        if self._connections is None:
            known.close()
        else:
            self._connections.give_back(known)

    def _open(self) -> Connection:
        assert self._db is not None, "the reader is closed"
        return self._db


def opened(address: PostgresAddress, settings: Mapping[str, str]) -> Connection:
    """A connection with these settings, to a store of this version."""
    connection = connect(address, "reader")
    try:
        with unavailable(address):
            check(address, connection)
            connection.execute(
                "SELECT set_config(name, value, false)"
                " FROM unnest(%s::text[], %s::text[]) AS s (name, value)",
                (list(settings), list(settings.values())),
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _seems_alive(connection: Connection) -> bool:
    """Nothing waits to be read of one that is idle, unless the server has ended it."""
    if connection.closed:
        return False
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN | select.POLLPRI)
    return not waiting.poll(0)


def _sql(text: str) -> bytes:
    """Our own words, put together: values are never part of them."""
    return text.encode()
