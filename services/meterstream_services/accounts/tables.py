"""The accounts directory in small tables, of SQLite or of PostgreSQL.

Readers see committed states only and never wait for a writer; writers take turns. Each change is
written together with its record, numbered by the writer whose turn it is: so the numbers have no
gaps, and nobody who read up to one of them can miss a smaller one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any, Final

from meterstream_services.accounts.errors import AccountsUnavailable, FeedExpired
from meterstream_services.accounts.history import History
from meterstream_services.accounts.memory import wall_clock
from meterstream_services.accounts.model import (
    Account,
    Change,
    Content,
    Kind,
    Recorded,
)
from meterstream_services.accounts.planning import plan
from meterstream_services.accounts.plans import Plan
from meterstream_services.accounts.port import Applied, Expected, Feed
from meterstream_services.accounts.stored import (
    ACCOUNT_COLUMNS,
    ACCOUNT_QUERY,
    AT_ONCE,
    Stored,
    account_of_row,
    read_histories,
    row_of_account,
)
from meterstream_services.sql.port import Database, DatabaseUnavailable, Row, Session, Tables

CHANGES_MAX: Final = 5_000_000
"""Changes that are kept for those who follow them; the oldest go."""

_PUT_ACCOUNT: Final = (
    f"INSERT INTO account ({ACCOUNT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - names of columns
    " ON CONFLICT (id) DO UPDATE SET name = excluded.name, zone = excluded.zone,"
    " billing_anchor = excluded.billing_anchor, labels = excluded.labels,"
    " status = excluded.status, merged_into = excluded.merged_into,"
    " merged_from = excluded.merged_from"
)
_CHANGE: Final = ("sequence", "made_at", "kind", "id", "was", "is_now")


def account_tables() -> Tables:
    """The directory's tables and how they came about."""
    home = resources.files("meterstream_services.accounts")
    migrations = [home.joinpath(f"schema_{n}.sql").read_text("utf-8") for n in (1, 2)]
    return Tables("accounts", 0x6D736163, migrations)  # "msac"


class SqlDirectory:
    """An `EditableDirectory` in a database. Thread-safe; blocks on it."""

    def __init__(
        self,
        database: Database,
        *,
        now: Callable[[], int] = wall_clock,
        changes_max: int = CHANGES_MAX,
    ) -> None:
        self._database = database
        self._now = now
        self._changes_max = changes_max

    def account(self, account_id: str) -> Account | None:
        """One account, or None."""
        with _ours():
            return Stored(self._database).stored_account(account_id)

    def accounts(self, *, after: str | None = None, limit: int = 1000) -> list[Account]:
        """Accounts by id, those greater than ``after``."""
        with _ours():
            found = self._database.rows(
                f"{ACCOUNT_QUERY} WHERE id > ? ORDER BY id LIMIT ?",
                ("" if after is None else after, limit),
            )
        return [account_of_row(row) for row in found]

    def histories(self, tenants: Sequence[str]) -> dict[str, History]:
        """The histories of those tenants that have one."""
        if len(tenants) <= AT_ONCE:  # One statement needs no transaction around it.
            with _ours():
                return read_histories(self._database, tenants)
        with self._reading() as session:
            return read_histories(session, tenants)

    def tenants_of(self, account_id: str) -> list[str]:
        """Every tenant that ever belonged to an account, sorted."""
        with _ours():
            return list(Stored(self._database).stored_tenants_of(account_id))

    def external_ids(self, account_id: str) -> list[tuple[str, str]]:
        """The (system, id) pairs that mean an account, sorted."""
        with _ours():
            return list(Stored(self._database).stored_externals_of(account_id))

    def account_of(self, system: str, external_id: str) -> str | None:
        """The account that an id of another system means; None for none."""
        with _ours():
            return Stored(self._database).stored_external(system, external_id)

    def apply(
        self,
        changes: Sequence[Change],
        *,
        expected: Expected | None = None,
        dry_run: bool = False,
        detailed: bool = False,
    ) -> Applied:
        """All changes or none; see `EditableDirectory.apply`."""
        if dry_run:
            with self._reading() as session:
                made = plan(changes, Stored(session, changes), expected)
        else:
            with self._writing() as session:
                made = plan(changes, Stored(session, changes), expected)
                self._write(session, made)
        return made.applied(detailed=detailed)

    def changes(self, *, after: int, limit: int = 1000) -> Feed:
        """What was changed after that sequence, oldest first."""
        with self._reading() as session:
            first, last = session.rows(
                "SELECT coalesce(min(sequence), 1), coalesce(max(sequence), 0) FROM account_change"
            )[0]
            if after < first - 1:
                raise FeedExpired(
                    f"changes up to {first - 1} are no longer kept; export everything anew, and "
                    "follow the changes from its cursor on"
                )
            found = session.rows(
                "SELECT kind, id, was, is_now, sequence, made_at FROM account_change"
                " WHERE sequence > ? ORDER BY sequence LIMIT ?",
                (min(after, last), limit),
            )
        return Feed([_recorded(row) for row in found], last)

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        self._database.close()

    @contextmanager
    def _reading(self) -> Generator[Session]:
        with _ours(), self._database.reading() as session:
            yield session

    @contextmanager
    def _writing(self) -> Generator[Session]:
        with _ours(), self._database.writing() as session:
            yield session

    def _write(self, session: Session, made: Plan) -> None:
        accounts = [
            row_of_account(account) for account in made.accounts.values() if account is not None
        ]
        gone = [(each,) for each, account in made.accounts.items() if account is None]
        _many(session, _PUT_ACCOUNT, accounts)
        changed = [t for t, history in made.histories.items() if history != made.was_history[t]]
        known = [(tenant,) for tenant in changed if made.was_history[tenant]]
        _many(session, "DELETE FROM tenancy WHERE tenant = ?", known)
        entries = [(tenant, *entry) for tenant in changed for entry in made.histories[tenant]]
        _add(session, "tenancy", ("tenant", "start", "account"), entries)
        _many(
            session,
            "DELETE FROM external_id WHERE system = ? AND external_id = ?",
            list(made.externals),
        )
        meant = [(*key, account) for key, account in made.externals.items() if account is not None]
        _add(session, "external_id", ("system", "external_id", "account"), meant)
        _many(session, "DELETE FROM account WHERE id = ?", gone)
        self._record(session, made)

    def _record(self, session: Session, made: Plan) -> None:
        made_at = self._now()
        last = session.rows("SELECT coalesce(max(sequence), 0) FROM account_change")[0][0]
        records = [
            (number, made_at, each.kind.value, each.id, _json(each.was), _json(each.now))
            for number, each in enumerate(made.records(), last + 1)
        ]
        if not records:
            return
        session.add("account_change", _CHANGE, records)
        session.rows(
            "DELETE FROM account_change WHERE sequence <= ?",
            (last + len(records) - self._changes_max,),
        )


@contextmanager
def _ours() -> Generator[None]:
    try:
        yield
    except DatabaseUnavailable as problem:
        raise AccountsUnavailable(f"accounts: {problem}", in_doubt=problem.in_doubt) from problem


def _many(session: Session, statement: str, rows: Sequence[Sequence[str | int | None]]) -> None:
    if rows:
        session.many(statement, rows)


def _add(
    session: Session, table: str, columns: Sequence[str], rows: Sequence[Sequence[str | int | None]]
) -> None:
    if rows:
        session.add(table, columns, rows)


def _json(content: Content) -> str:
    return json.dumps(row_of_account(content) if isinstance(content, Account) else content)


def _recorded(row: Row) -> Recorded:
    kind, id_, was, now, sequence, made_at = row
    return Recorded(Kind(kind), id_, _content(kind, was), _content(kind, now), sequence, made_at)


def _content(kind: str, text: str) -> Content:
    found: Any = json.loads(text)
    if kind == Kind.ACCOUNT:
        return None if found is None else account_of_row(found)
    if kind == Kind.TENANT:
        return tuple((start, account) for start, account in found)
    return None if found is None else str(found)
