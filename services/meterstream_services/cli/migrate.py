"""`meterstream migrate`: a store's tables, and who may do what with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from meterstream_services.cli import output
from meterstream_services.cli.addresses import NO_STORE, DataOption, find_store
from meterstream_services.cli.failures import WRONG_ARGUMENTS, CommandError
from meterstream_services.cli.output import Format, FormatOption
from meterstream_services.cli.serve_options import StoreOption
from meterstream_services.wording import counted

if TYPE_CHECKING:
    from meterstream_aggregator.store.address import StoreAddress
    from meterstream_aggregator.store.migrating import Standing, Step

_COLUMNS: Final = ("version", "name", "state")


def migrate(
    *,
    store: StoreOption = None,
    data: DataOption = None,
    status: Annotated[
        bool, typer.Option("--status", help="Only tell the versions; exit status 1 if they differ.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the SQL that would be run.")
    ] = False,
    roles: Annotated[
        bool,
        typer.Option(
            "--roles",
            help="PostgreSQL: also make the roles SCHEMA_worker and SCHEMA_reader, and grant them "
            "what each needs; with --dry-run print that.",
        ),
    ] = False,
    output_format: FormatOption = Format.TABLE,
) -> None:
    """Make a store's tables on PostgreSQL, or bring a store to this program's version.

    May be run at any time and by several at once. Stop the workers of a file first.
    """
    from meterstream_aggregator.store import migrating  # noqa: PLC0415 - loaded by its command

    address = find_store(store=store, data=data)
    if address is None:
        raise CommandError(NO_STORE, status=WRONG_ARGUMENTS)
    if roles and isinstance(address, Path):
        raise CommandError(
            f"--roles: {address} is a file, which knows no roles", status=WRONG_ARGUMENTS
        )
    before = migrating.standing(address)
    if dry_run:
        _print_sql(address, before.pending, roles=roles)
        return
    done = [] if status else migrating.migrate(address)
    granted = _grant(address) if roles and not status else ()
    _print(address, before, done, granted, output_format)
    if status and before.pending:
        raise typer.Exit(1)


def _grant(address: StoreAddress) -> tuple[str, ...]:
    from meterstream_aggregator.store.postgres import roles  # noqa: PLC0415 - loaded by its command

    assert not isinstance(address, Path), "refused before"
    roles.grant(address)
    return roles.names(address)


def _print_sql(address: StoreAddress, pending: list[Step], *, roles: bool) -> None:
    for step in pending:
        print(f"-- {step.name}\n{step.text.strip()}\n")
    if roles and not isinstance(address, Path):
        from meterstream_aggregator.store.postgres import roles as of_store  # noqa: PLC0415 - loaded by its command

        for statement in of_store.statements(address):
            print(f"{statement};")


def _print(
    address: StoreAddress,
    before: Standing,
    done: list[Step],
    granted: tuple[str, ...],
    output_format: Format,
) -> None:
    pending = before.pending[len(done) :]
    rows = [(step.version, step.name, "applied") for step in done]
    rows += [(step.version, step.name, "pending") for step in pending]
    if output_format is Format.JSON:
        document = {
            "store": str(address),
            "version": done[-1].version if done else before.version,
            "wanted": before.wanted,
            "applied": [step.name for step in done],
            "pending": [step.name for step in pending],
            "roles": list(granted),
        }
        output.print_json(document)
    elif output_format is Format.CSV:
        output.print_csv(_COLUMNS, rows)
    else:
        if rows:
            output.print_table(_COLUMNS, rows, numbers=["version"])
        version = done[-1].version if done else before.version
        print(
            f"{address}: "
            + (f"version {version}" if version else "no store yet")
            + (f", {counted(len(pending), 'step')} to come" if pending else ", up to date")
        )
        for name in granted:
            print(f"role {name}: granted")
