"""Connections to PostgreSQL: how they are made, what they may take, and one that comes back.

Every session has the store's schema alone in its search path, an application name, and limits, so
that a process which is stopped in the middle holds no lock for ever:

========================================  =======  =================================================
limit                                     seconds  what happens then
========================================  =======  =================================================
connect_timeout                                10  the next host of the URL, or `StoreUnavailable`
tcp_user_timeout, keepalives                   45  a peer that is gone without a word is noticed
lock_timeout                                   30  `StoreUnavailable`, nothing was written
statement_timeout                             120  the same
idle_in_transaction_session_timeout            60  the server ends the session, its locks are free
========================================  =======  =================================================

What the URL itself says, by its parameters or by ``options=-c name=value``, stands. The password
comes from the URL, from METERSTREAM_STORE_PASSWORD, from the file that
METERSTREAM_STORE_PASSWORD_FILE names, or from libpq's own PGPASSWORD and PGPASSFILE.

A pooler between the two must pool by session: transactions of one session belong together here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict

from meterstream_aggregator.errors import StoreMismatch
from meterstream_aggregator.store.address import PostgresAddress
from meterstream_aggregator.store.postgres.errors import unavailable

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
Purpose: TypeAlias = Literal["worker", "reader", "migrate"]

SERVER_VERSION_MIN: Final = 15
PASSWORD_VARIABLE: Final = "METERSTREAM_STORE_PASSWORD"  # noqa: S105 - a variable's name
_CLIENT: Final = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
_LIMITS: Final = {
    "lock_timeout": "30s",
    "statement_timeout": "120s",
    "idle_in_transaction_session_timeout": "60s",
}
_SETTINGS: Final = {
    "DateStyle": "ISO",
    "TimeZone": "UTC",
    "jit": "off",  # compiling costs more than our statements take
}


def connect(address: PostgresAddress, purpose: Purpose) -> Connection:
    """A session in autocommit mode, set up as the module says. Blocks for up to 10 s a host.

    Raises `StoreUnavailable` where waiting may help, else `StoreMismatch`: also for a server older
    than `SERVER_VERSION_MIN` and for a database that does not keep UTF-8.
    """
    with unavailable(address):
        wanted = _parameters(address, purpose)
        connection: Connection = psycopg.connect(**wanted, autocommit=True)
        try:
            _check_server(address, connection)
            _set_up(connection, address, purpose, str(wanted.get("options") or ""))
        except BaseException:
            connection.close()
            raise
    return connection


class Link:
    """One session that is made again when it broke. For one thread at a time.

    ``prepare`` is done to each session before anything else.
    """

    def __init__(
        self,
        address: PostgresAddress,
        purpose: Purpose,
        prepare: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        self.address: Final = address
        self._purpose: Final[Purpose] = purpose
        self._prepare = prepare
        self._connection: Connection | None = None
        self._connection = self._alive()

    @contextmanager
    def session(self) -> Generator[Connection]:
        """A live session, made anew where the last one broke; its errors come out as ours.

        No transaction is left open: what was begun inside and not committed is rolled back.
        """
        connection = self._alive()
        with unavailable(self.address):
            try:
                yield connection
            except BaseException:
                self._tidy(connection)
                raise

    def drop(self) -> None:
        """Close the session; the next one is made when it is needed."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    close = drop

    def _alive(self) -> Connection:
        known = self._connection
        if known is None or known.closed:
            self._connection = None
            known = connect(self.address, self._purpose)
            try:
                with unavailable(self.address):
                    self._prepare(known)
            except BaseException:
                known.close()
                raise
            self._connection = known
        return known

    def _tidy(self, connection: Connection) -> None:
        """After an error: roll back, and let go of a session that cannot even do that."""
        try:
            if connection.closed:
                self.drop()
            elif connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                connection.execute("ROLLBACK")
        except psycopg.Error:
            self.drop()


def _parameters(address: PostgresAddress, purpose: Purpose) -> dict[str, Any]:
    """What libpq is given: our defaults, over them what the URL says."""
    told = conninfo_to_dict(address.url)
    wanted: dict[str, Any] = {"application_name": f"meterstream {purpose}", **_CLIENT, **told}
    wanted["client_encoding"] = "UTF8"
    if purpose != "reader":
        wanted.setdefault("target_session_attrs", "read-write")
    if "password" not in told and (password := _password()) is not None:
        wanted["password"] = password
    return wanted


def _password() -> str | None:
    if (password := os.environ.get(PASSWORD_VARIABLE)) is not None:
        return password
    if name := os.environ.get(f"{PASSWORD_VARIABLE}_FILE"):
        try:
            return Path(name).read_text("utf-8").rstrip("\r\n")
        except (OSError, ValueError) as problem:
            raise StoreMismatch(
                f"{PASSWORD_VARIABLE}_FILE: {name} cannot be read ({problem}); "
                "name a readable file that holds the password alone"
            ) from problem
    return None


def _check_server(address: PostgresAddress, connection: Connection) -> None:
    version = connection.info.server_version // 10_000
    if version < SERVER_VERSION_MIN:
        raise StoreMismatch(
            f"{address}: is PostgreSQL {version}; the store needs {SERVER_VERSION_MIN} or later"
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreMismatch(
            f"{address}: the database keeps texts as {encoding}; make one with ENCODING 'UTF8'"
        )


def _set_up(
    connection: Connection, address: PostgresAddress, purpose: Purpose, options: str
) -> None:
    limits = {} if purpose == "migrate" else _LIMITS
    wanted = {
        name: value for name, value in (_SETTINGS | limits).items() if f"{name}=" not in options
    }
    wanted["search_path"] = address.schema
    connection.execute(
        "SELECT set_config(name, value, false)"
        " FROM unnest(%s::text[], %s::text[]) AS wanted (name, value)",
        (list(wanted), list(wanted.values())),
    )
