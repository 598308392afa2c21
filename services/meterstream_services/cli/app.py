"""All commands in one place: their names and in which module each is."""

from __future__ import annotations

from typing import Annotated

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
) -> None:
    """Usage metering on Kafka whose figures can be proved."""
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
