"""Two roles for a store, with no right more than they need.

=================  ==============================================================================
``SCHEMA_worker``  reads and writes rows; makes, changes and drops no table
``SCHEMA_reader``  reads rows: for ``serve``, ``verify``, ``explain`` and dashboards
=================  ==============================================================================

Neither can log in: grant them to whoever does. No right on the database itself is needed, neither
to make schemas nor to make temporary tables.
"""

from __future__ import annotations

from typing import Final

from psycopg import sql

from meterstream_aggregator.store.address import PostgresAddress
from meterstream_aggregator.store.postgres.connection import connect
from meterstream_aggregator.store.postgres.errors import unavailable

_LOCK: Final = sql.SQL("SELECT pg_advisory_xact_lock(hashtextextended('meterstream roles', 0))")
_MAKE: Final = """DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {name}) THEN
        CREATE ROLE {role} NOLOGIN;
    END IF;
END $$"""
_GRANTS: Final = (
    "REVOKE ALL ON SCHEMA {schema} FROM PUBLIC",
    "GRANT USAGE ON SCHEMA {schema} TO {worker}, {reader}",
    "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {worker}, {reader}",
    "GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {worker}",
    "REVOKE INSERT, UPDATE, DELETE ON {schema}.migration FROM {worker}",
    # What later migrations make, by whoever runs this.
    "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {worker}, {reader}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT INSERT ON TABLES TO {worker}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT UPDATE, DELETE ON TABLES TO {worker}",
)


def names(address: PostgresAddress) -> tuple[str, str]:
    """The roles of the worker and of the reader."""
    return f"{address.schema}_worker"[-63:], f"{address.schema}_reader"[-63:]


def statements(address: PostgresAddress) -> list[str]:
    """The SQL that makes the roles where they are missing, and grants. To be run again at will."""
    worker, reader = names(address)
    known = {
        "schema": sql.Identifier(address.schema),
        "worker": sql.Identifier(worker),
        "reader": sql.Identifier(reader),
    }
    made = [
        sql.SQL(_MAKE).format(name=sql.Literal(name), role=sql.Identifier(name)).as_string()
        for name in (worker, reader)
    ]
    return made + [sql.SQL(each).format(**known).as_string() for each in _GRANTS]


def grant(address: PostgresAddress) -> list[str]:
    """Run `statements` in one transaction; what was run. Blocks.

    Raises `StoreUnavailable`, and `StoreMismatch` for whoever may not make roles or does not own
    the store.
    """
    wanted = statements(address)
    with connect(address, "migrate") as connection, unavailable(address):  # noqa: SIM117 - errors first
        with connection.transaction():
            connection.execute(_LOCK)
            for each in wanted:
                connection.execute(each.encode())
    return wanted
