"""Keys in a database, SQLite or PostgreSQL.

Each change gets the next generation, in the transaction that makes it. So a process that looks
every second asks for one number, and reads only the keys that changed since it last did.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from meterstream_aggregator.store.address import StoreAddress
from meterstream_services.keys.memory import SECRET_BYTES, dead, too_many
from meterstream_services.keys.model import KEYS_MAX, Key, KeyState, checked, rotated
from meterstream_services.keys.port import KeysUnavailable, Told, UnknownKey
from meterstream_services.keys.principal import Rate, Scope
from meterstream_services.sql.opening import open_database
from meterstream_services.sql.port import Database, DatabaseUnavailable, Row, Session, Tables

TABLES: Final = Tables(
    "keys",
    0x6D736B79,
    (
        """
CREATE TABLE api_key (
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL,
    scopes TEXT NOT NULL,
    tenants TEXT,
    label TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT,
    revoked BIGINT,
    replaced_by TEXT,
    requests_per_second BIGINT,
    events_per_second BIGINT,
    bytes_per_second BIGINT,
    body_bytes_max BIGINT,
    generation BIGINT NOT NULL
);
CREATE INDEX api_key_generation ON api_key (generation);
CREATE TABLE api_key_state (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
""",
    ),
)

_STATE: Final = "SELECT name, value FROM api_key_state"
_SET: Final = (
    "INSERT INTO api_key_state (name, value) VALUES (?, ?)"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
_COLUMNS: Final = (
    "id, hash, scopes, tenants, label, created, expires, revoked, replaced_by,"
    " requests_per_second, events_per_second, bytes_per_second, body_bytes_max"
)
_CHANGED: Final = f"SELECT {_COLUMNS} FROM api_key WHERE generation > ? ORDER BY created, id"  # noqa: S608 - a constant
_ONE: Final = f"SELECT {_COLUMNS} FROM api_key WHERE id = ?"  # noqa: S608 - a constant
_LIVE: Final = (
    "SELECT COUNT(*) FROM api_key WHERE revoked IS NULL AND (expires IS NULL OR expires > ?)"
)
_MARKS: Final = ", ".join("?" * (_COLUMNS.count(",") + 2))
_INSERT: Final = f"INSERT INTO api_key ({_COLUMNS}, generation) VALUES ({_MARKS})"  # noqa: S608 - constants
_UPDATE: Final = (
    "UPDATE api_key SET expires = ?, revoked = ?, replaced_by = ?, generation = ? WHERE id = ?"
)


class KeptKeyring:
    """See `meterstream_services.keys.port.Keyring`."""

    def __init__(
        self, database: Database, *, file: Path | None = None, keys_max: int = KEYS_MAX
    ) -> None:
        self._database: Final = database
        self._file: Final = file
        self._keys_max: Final = keys_max

    def told(self, after: int = 0) -> Told:
        """See `Keyring`."""
        with self._errors(), self._database.reading() as session:
            state = _state(session)
            generation = int(state.get("generation", 0))
            rows = session.rows(_CHANGED, (after,)) if generation > after else []
        return Told(generation, [_key(row) for row in rows], bytes.fromhex(state.get("secret", "")))

    def add(self, key: Key) -> None:
        """See `Keyring`."""
        with self._errors(), self._database.writing() as session:
            self._insert(session, checked(key))

    def rotate(self, key_id: str, successor: Key, *, overlap: int) -> Key:
        """See `Keyring`."""
        with self._errors(), self._database.writing() as session:
            found = _known(session, key_id)
            if found.state(successor.created) is not KeyState.LIVE or found.replaced_by:
                raise dead(found, successor.created)
            old, new = rotated(found, successor, overlap=overlap)
            self._insert(session, checked(new))
            _update(session, old)
        return new

    def revoke(self, key_id: str, at: int) -> Key:
        """See `Keyring`."""
        with self._errors(), self._database.writing() as session:
            found = _known(session, key_id)
            if found.revoked is None:
                found = replace(found, revoked=at)
                _update(session, found)
        return found

    def close(self) -> None:
        """See `Keyring`."""
        self._database.close()

    @contextmanager
    def _errors(self) -> Generator[None]:
        if self._file is not None:
            # A directory that is not there is said by what follows.
            with suppress(OSError):
                os.close(os.open(self._file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            yield
        except DatabaseUnavailable as problem:
            raise KeysUnavailable(str(problem)) from problem

    def _insert(self, session: Session, key: Key) -> None:
        if session.rows(_LIVE, (key.created,))[0][0] >= self._keys_max:
            raise too_many(self._keys_max)
        if "secret" not in _state(session):
            session.rows(_SET, ("secret", secrets.token_hex(SECRET_BYTES)))
        session.rows(_INSERT, (*_row(key), _next_generation(session)))


def open_keyring(address: StoreAddress) -> KeptKeyring:
    """The keys at an address, opened when first asked. A file is made for its owner's eyes only."""
    file = address if isinstance(address, Path) else None
    return KeptKeyring(open_database(address, TABLES), file=file)


def _state(session: Session) -> dict[str, str]:
    found: dict[str, str] = dict(session.rows(_STATE))
    return found


def _next_generation(session: Session) -> int:
    generation = int(_state(session).get("generation", 0)) + 1
    session.rows(_SET, ("generation", str(generation)))
    return generation


def _known(session: Session, key_id: str) -> Key:
    rows = session.rows(_ONE, (key_id.replace("\0", "?"),))
    if not rows:
        raise UnknownKey(key_id)
    return _key(rows[0])


def _update(session: Session, key: Key) -> None:
    session.rows(
        _UPDATE, (key.expires, key.revoked, key.replaced_by, _next_generation(session), key.id)
    )


def _row(key: Key) -> tuple[str | int | None, ...]:
    return (
        key.id,
        key.hash.hex(),
        " ".join(sorted(key.scopes)),
        None if key.tenants is None else json.dumps(sorted(key.tenants)),
        key.label,
        key.created,
        key.expires,
        key.revoked,
        key.replaced_by,
        *key.rate,
    )


def _key(row: Row) -> Key:
    name, digest, scopes, tenants, label, created, expires, revoked, replaced_by, *rate = row
    return Key(
        id=name,
        hash=bytes.fromhex(digest),
        scopes=frozenset(map(Scope, scopes.split())),
        tenants=None if tenants is None else frozenset(json.loads(tenants)),
        label=label,
        created=created,
        expires=expires,
        revoked=revoked,
        replaced_by=replaced_by,
        rate=Rate(*rate),
    )
