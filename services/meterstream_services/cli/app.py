"""All commands in one place: their names and in which module each is."""

from __future__ import annotations

import os
from typing import Annotated, Final

import typer

from meterstream_services.cli import (
    accounts,
    catalogue,
    check,
    conformance,
    deadletters,
    demo,
    explain,
    importing,
    keys,
    migrate,
    periods,
    rebuild,
    reconcile,
    run,
    serve,
    sessions,
    spool,
    status,
    thresholds,
    topics,
    usage,
)

API_KEY: Final = "METERSTREAM_API_KEY"

app = typer.Typer(
    name="meterstream",
    help="Usage metering on Kafka whose figures can be proved.",
    no_args_is_help=True,
    # One plain sentence per mistake, in place of boxes; main() does the same for other errors.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(run.up)
app.command()(run.worker)
app.command()(serve.serve)
app.command("import")(importing.import_command)
app.command()(usage.usage)
app.command()(periods.periods)
app.command()(periods.adjustments)
app.command()(sessions.sessions)
app.add_typer(accounts.app, name="accounts")
app.add_typer(keys.app, name="keys")
app.command()(status.status)
app.command()(thresholds.thresholds)
app.command()(thresholds.notices)
app.command()(explain.explain)
app.command()(reconcile.reconcile)
app.command()(rebuild.rebuild)
app.command()(rebuild.verify)
app.command()(migrate.migrate)
app.command()(catalogue.catalogue)
app.command()(check.check)
app.add_typer(spool.app, name="spool")
app.add_typer(topics.app, name="topics")
app.add_typer(deadletters.app, name="deadletters")
app.command()(demo.demo)
app.command()(conformance.conformance)


@app.command()
def version() -> None:
    """Print the version."""
    print(f"meterstream {installed_version()}")


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
    api_key: Annotated[
        str | None,
        typer.Option(
            "--api-key",
            envvar=API_KEY,
            show_envvar=False,
            help="The key for the API (METERSTREAM_API_KEY, where no process list shows it).",
        ),
    ] = None,
) -> None:
    """Usage metering on Kafka whose figures can be proved."""
    if api_key:
        os.environ[API_KEY] = api_key  # The one place where every command looks for it.
    if show_version:
        version()
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


def installed_version() -> str:
    """The version of the installed distribution."""
    # Imported here: it costs milliseconds that only this command needs.
    from importlib import metadata  # noqa: PLC0415 - loaded by its command

    try:
        return metadata.version("meterstream")
    except metadata.PackageNotFoundError:
        return "(not installed, running from its sources)"
