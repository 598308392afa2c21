"""What PostgreSQL's errors mean to whoever uses the store, and what to do about each.

Some pass by themselves: those are `StoreUnavailable`, the position is kept and work goes on once
they have. The others are for a person to mend: `StoreMismatch`. A mistake of our own stays what it
is. No message has a password in it.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final
from urllib.parse import unquote, urlsplit

import psycopg

from meterstream_aggregator.errors import StoreError, StoreMismatch, StoreUnavailable
from meterstream_aggregator.store.address import PostgresAddress

_WAIT: Final = {
    "53300": "it has no free connection; raise max_connections, or run fewer processes",
    "53100": "its disk is full; give it room: work goes on by itself then",
    "53200": "it is out of memory; give it more, or run fewer processes",
    "25006": "it takes no writes: a standby, or set to read only; name the primary, or wait for a"
    " standby to be promoted",
    "55P03": "a lock was not free in time; somebody else works on the same partition or migrates",
    "57014": "a statement took too long and was given up",
    "25P03": "a transaction was idle for too long and was given up",
    "25P04": "a transaction took too long and was given up",
    "57P01": "it was told to stop this connection",
    "57P02": "it crashed and is starting again",
    "57P03": "it is starting, stopping or recovering",
    "57P05": "the connection was idle for too long and was given up",
}
_MEND: Final = {
    "28P01": "the password is wrong or missing; see METERSTREAM_STORE_PASSWORD,"
    " METERSTREAM_STORE_PASSWORD_FILE, or libpq's PGPASSFILE",
    "28000": "it lets this user not in; see its pg_hba.conf",
    "3D000": "there is no such database; CREATE DATABASE it, or name another",
    "42501": "this user may not do that: workers need GRANT SCHEMA_worker, readers GRANT"
    " SCHEMA_reader ('meterstream migrate --roles' makes both), and only the owner makes tables",
    "22021": "the database's encoding is not UTF8; make it with ENCODING 'UTF8'",
    "0A000": "the store's tables changed while it was open; start again",
    "42703": "the store's tables changed while it was open; start again",
    "42P05": "its pooler mixes sessions; let the store connect to the server itself, or through a"
    " pool by session",
    "26000": "its pooler mixes sessions; let the store connect to the server itself, or through a"
    " pool by session",
}
_NO_TABLES: Final = frozenset({"42P01", "3F000"})
_TO_BE_WAITED_OUT: Final = ("08", "40", "53", "57", "58")


@contextmanager
def unavailable(address: PostgresAddress) -> Generator[None]:
    """PostgreSQL's errors as ours; what is no fault of the database is raised as it is."""
    try:
        yield
    except psycopg.Error as problem:
        meant = explained(address, problem)
        if meant is None:
            raise
        raise meant from problem


def explained(address: PostgresAddress, problem: psycopg.Error) -> StoreError | None:
    """The error of ours, None for a mistake in this program."""
    code = problem.sqlstate or _code_in(str(problem)) or ""
    said = _said(address, problem)
    if code in _NO_TABLES:
        return no_store(address)
    if code in _MEND:
        return StoreMismatch(f"{address}: {_MEND[code]} ({said})")
    if code in _WAIT or code.startswith(_TO_BE_WAITED_OUT):
        return StoreUnavailable(f"{address}: {_WAIT.get(code, 'cannot do it now')} ({said})")
    if not code and isinstance(problem, psycopg.OperationalError | psycopg.InterfaceError):
        return StoreUnavailable(f"{address}: cannot be reached: {said}")
    if not code and isinstance(problem, psycopg.ProgrammingError):
        return StoreMismatch(f"{address}: is no address for PostgreSQL's client: {said}")
    return None


def no_store(address: PostgresAddress) -> StoreError:
    """What is said where nothing was migrated yet: waiting helps while somebody does."""
    return StoreUnavailable(
        f"{address}: there is no store yet; make it: meterstream migrate --store '{address}', "
        "as the user who is to own the tables"
    )


def _said(address: PostgresAddress, problem: psycopg.Error) -> str:
    """What the server or the client said, on one line, without the password."""
    text = problem.diag.message_primary or str(problem)
    password = urlsplit(address.url).password
    for secret in {password, unquote(password)} if password else ():
        text = text.replace(secret, "***")
    return " ".join(text.split()).rstrip(".") or type(problem).__name__


_SENTENCES: Final = (
    (re.compile(r"password authentication failed|no password supplied"), "28P01"),
    (re.compile(r"no pg_hba.conf entry|role .* does not exist|not permitted to log in"), "28000"),
    (re.compile(r"database .* does not exist"), "3D000"),
    (re.compile(r"permission denied for database"), "42501"),
    (re.compile(r"too many (clients|connections)|remaining connection slots"), "53300"),
    (re.compile(r"session is (read-only|not read-only)|server is in hot standby"), "25006"),
    (re.compile(r"the database system is"), "57P03"),
)


def _code_in(text: str) -> str | None:
    """The code that a failed connection's text means: libpq passes none on there."""
    return next((code for pattern, code in _SENTENCES if pattern.search(text)), None)
