"""A schema for a store that is made anew."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from psycopg import sql

from meterstream_aggregator.errors import StoreMismatch
from meterstream_aggregator.store.address import PostgresAddress
from meterstream_aggregator.store.postgres.connection import Connection, connect
from meterstream_aggregator.store.postgres.errors import unavailable
from meterstream_aggregator.store.postgres.migrations import migrate

_TABLES = "SELECT tablename::text FROM pg_catalog.pg_tables WHERE schemaname = %s ORDER BY 1"
_GIVEN = frozenset({"migration", "binding"})
"""Tables that a store which was never used has rows in."""


def prepare(target: PostgresAddress) -> Callable[[], None]:
    """See `store.target.prepare`."""
    with connect(target, "migrate") as connection, unavailable(target):
        known = connection.execute("SELECT to_regnamespace(%s)", (target.schema,)).fetchone()
        is_there = known is not None and known[0] is not None
        tables = _tables(connection, target.schema)
        if tables and ("migration" not in tables or _is_used(connection, tables)):
            raise StoreMismatch(
                f"{target}: has tables with something in them; name a schema that is not there"
            )
    migrate(target)
    if not is_there:
        return partial(_drop, target)
    return partial(_drop_tables, target) if not tables else partial(_empty, target)


def _is_used(connection: Connection, tables: list[str]) -> bool:
    bound = connection.execute("SELECT 1 FROM binding WHERE topic IS NOT NULL").fetchone()
    return bound is not None or any(
        connection.execute(
            sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(name))
        ).fetchone()
        for name in tables
        if name not in _GIVEN
    )


def _tables(connection: Connection, schema: str) -> list[str]:
    return [name for (name,) in connection.execute(_TABLES, (schema,)).fetchall()]


def _drop(target: PostgresAddress) -> None:
    with connect(target, "migrate") as connection, unavailable(target):
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(target.schema)))


def _drop_tables(target: PostgresAddress) -> None:
    with connect(target, "migrate") as connection, unavailable(target), connection.transaction():
        for name in _tables(connection, target.schema):
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))


def _empty(target: PostgresAddress) -> None:
    """As it was: of this version, with its own name, and belonging to no topic."""
    with connect(target, "migrate") as connection, unavailable(target), connection.transaction():
        for name in _tables(connection, target.schema):
            if name not in _GIVEN:
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(name)))
        connection.execute(
            "UPDATE binding SET topic = NULL, topic_id = NULL, partitions = NULL, catalogue = NULL"
        )
