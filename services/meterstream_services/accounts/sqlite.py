"""The accounts directory in one SQLite file of its own: the only module here that knows SQL.

Each call takes a connection from a small pool, so threads never share one at the same moment.
Readers see committed states only and never wait for a writer (WAL); writers take turns.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Final

from meterstream_services.accounts.errors import AccountsUnavailable
from meterstream_services.accounts.history import History
from meterstream_services.accounts.model import Account, AccountStatus, Change
from meterstream_services.accounts.planning import Plan, plan
from meterstream_services.accounts.port import Applied, Expected

APPLICATION_ID: Final = 0x6D736163
"""In the file's header, so that no other file is taken for a directory ("msac")."""
SCHEMA_VERSION: Final = 1
BUSY_SECONDS: Final = 5.0
"""How long a writer waits for another before it says so."""

_TENANTS_AT_ONCE: Final = 500
_ACCOUNT: Final = "SELECT id, name, zone, billing_anchor, labels, status FROM account"


class SqliteDirectory:
    """An `EditableDirectory` in ``path``, made when first used. Thread-safe; blocks on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._ready = False

    def account(self, account_id: str) -> Account | None:
        """One account, or None."""
        with self._connection() as db:
            return _Stored(db).stored_account(account_id)

    def accounts(self, *, after: str | None = None, limit: int = 1000) -> list[Account]:
        """Accounts by id, those greater than ``after``."""
        with self._connection() as db:
            found = db.execute(
                f"{_ACCOUNT} WHERE id > ? ORDER BY id LIMIT ?",
                ("" if after is None else after, limit),
            )
            return [_account(row) for row in found]

    def histories(self, tenants: Sequence[str]) -> dict[str, History]:
        """The histories of those tenants that have one."""
        found: dict[str, list[tuple[int, str | None]]] = {}
        with self._connection() as db, _snapshot(db):
            for at in range(0, len(tenants), _TENANTS_AT_ONCE):
                some = tenants[at : at + _TENANTS_AT_ONCE]
                marks = ", ".join("?" * len(some))
                for tenant, start, account in db.execute(
                    f"SELECT tenant, start, account FROM tenancy WHERE tenant IN ({marks})"  # noqa: S608 - marks
                    " ORDER BY tenant, start",
                    some,
                ):
                    found.setdefault(tenant, []).append((start, account))
        return {tenant: tuple(changes) for tenant, changes in found.items()}

    def tenants_of(self, account_id: str) -> list[str]:
        """Every tenant that ever belonged to an account, sorted."""
        with self._connection() as db:
            return list(_Stored(db).stored_tenants_of(account_id))

    def apply(
        self,
        changes: Sequence[Change],
        *,
        expected: Expected | None = None,
        dry_run: bool = False,
    ) -> Applied:
        """All changes or none; see `EditableDirectory.apply`."""
        with self._connection() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                made = plan(changes, _Stored(db), expected)
                if not dry_run:
                    _write(db, made)
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("ROLLBACK" if dry_run else "COMMIT")
            return made.applied

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        with self._lock:
            idle, self._idle = self._idle, []
        for db in idle:
            db.close()

    @contextmanager
    def _connection(self) -> Generator[sqlite3.Connection]:
        """A connection for one call; it goes back to the pool unless the call failed."""
        db: sqlite3.Connection | None = None
        try:
            db = self._take()
            yield db
        except sqlite3.Error as problem:
            if db is not None:
                db.close()
            raise AccountsUnavailable(
                f"{self._path}: accounts cannot be used: {problem}"
            ) from problem
        except BaseException:
            if db is not None:
                db.close()
            raise
        with self._lock:
            self._idle.append(db)

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        db = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA synchronous = FULL")
            with self._lock:
                if not self._ready:
                    _prepare(db, self._path)
                    self._ready = True
        except BaseException:
            db.close()
            raise
        return db


class _Stored:
    """What is stored, as planning asks for it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def stored_account(self, account_id: str) -> Account | None:
        row = self._db.execute(f"{_ACCOUNT} WHERE id = ?", (account_id,)).fetchone()
        return None if row is None else _account(row)

    def stored_history(self, tenant: str) -> History:
        return tuple(
            self._db.execute(
                "SELECT start, account FROM tenancy WHERE tenant = ? ORDER BY start", (tenant,)
            )
        )

    def stored_tenants_of(self, account_id: str) -> Sequence[str]:
        found = self._db.execute(
            "SELECT DISTINCT tenant FROM tenancy WHERE account = ? ORDER BY tenant", (account_id,)
        )
        return [row[0] for row in found]


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables in a new file; raise, and change nothing, for a file that is another."""
    _is_new(db, path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("BEGIN IMMEDIATE")
    try:
        if _is_new(db, path):  # asked again: another process may have made them meanwhile
            schema = resources.files("meterstream_services.accounts").joinpath("schema.sql")
            for statement in schema.read_text("utf-8").split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _is_new(db: sqlite3.Connection, path: Path) -> bool:
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if (application, version) == (APPLICATION_ID, SCHEMA_VERSION):
        return False
    if (application, version, tables) == (0, 0, 0):
        return True
    raise AccountsUnavailable(
        f"{path}: is no accounts directory of version {SCHEMA_VERSION}; name another file"
    )


def _write(db: sqlite3.Connection, made: Plan) -> None:
    db.executemany(
        "INSERT INTO account (id, name, zone, billing_anchor, labels, status)"
        " VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET name = excluded.name, zone = excluded.zone,"
        " billing_anchor = excluded.billing_anchor, labels = excluded.labels,"
        " status = excluded.status",
        [
            (a.id, a.name, a.zone, a.billing_anchor, json.dumps(a.labels), a.status.value)
            for a in made.accounts.values()
            if a is not None
        ],
    )
    db.executemany("DELETE FROM tenancy WHERE tenant = ?", [(t,) for t in made.histories])
    db.executemany(
        "INSERT INTO tenancy (tenant, start, account) VALUES (?, ?, ?)",
        [
            (tenant, start, account)
            for tenant, history in made.histories.items()
            for start, account in history
        ],
    )
    db.executemany(
        "DELETE FROM account WHERE id = ?",
        [(account_id,) for account_id, account in made.accounts.items() if account is None],
    )


@contextmanager
def _snapshot(db: sqlite3.Connection) -> Generator[None]:
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("COMMIT")


def _account(row: tuple[str, str, str, int, str, str]) -> Account:
    account_id, name, zone, billing_anchor, labels, status = row
    return Account(
        account_id,
        name,
        zone,
        billing_anchor,
        tuple((label, value) for label, value in json.loads(labels)),
        AccountStatus(status),
    )
