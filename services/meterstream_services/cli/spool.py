"""`meterstream spool`: what waits on this machine's disk, and sending it now."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from meterstream_schemas.events import EVENTS_TOPIC
from meterstream_services.cli import output
from meterstream_services.cli.addresses import BootstrapOption, DataOption, find_bootstrap
from meterstream_services.cli.failures import WRONG_ARGUMENTS, CommandError
from meterstream_services.cli.output import Format, FormatOption
from meterstream_services.wording import counted

if TYPE_CHECKING:
    from meterstream_services.spools import Found

app = typer.Typer(help="Events that the SDK keeps on this machine's disk.", no_args_is_help=True)

DirectoryArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[DIR]", help="The spool's root (METERSTREAM_SPOOL, or spool in --data)."
    ),
]
_COLUMNS: Final = (
    "producer",
    "state",
    "entries",
    "bytes",
    "files",
    "age_seconds",
    "topic",
    "problem",
)
SERVICE: Final = "meterstream-spool"


@app.callback()
def group() -> None:
    """Events that the SDK keeps on this machine's disk."""


@app.command("list")
def list_command(
    directory: DirectoryArgument = None,
    *,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
) -> None:
    """List spools: in use by a living process, or left behind by a dead one. Changes nothing.

    The entries are at most so many; some may have arrived already.
    """
    root = _root(directory, data)
    rows = [_row(each) for each in _look(root)]
    if output_format is Format.JSON:
        spools = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
        output.print_json({"root": str(root), "spools": spools})
    elif output_format is Format.CSV:
        output.print_csv(_COLUMNS, rows)
    elif rows:
        numbers = ["entries", "bytes", "files", "age_seconds"]
        output.print_table(_COLUMNS, rows, numbers=numbers, title=str(root))
    else:
        print(_nothing(root))


@app.command()
def send(
    directory: DirectoryArgument = None,
    *,
    topic: Annotated[str | None, typer.Option(help="Send those of this topic only.")] = None,
    timeout: Annotated[
        float, typer.Option(help="Give up after so many seconds of no progress.")
    ] = 60.0,
    data: DataOption = None,
    bootstrap: BootstrapOption = None,
) -> None:
    """Deliver what dead processes left behind, under its old numbers, so that nothing doubles.

    Any service that uses the directory does the same; this is for directories that none uses.
    """
    root = _root(directory, data)
    left = [each for each in _look(root) if each.state == "left behind" and each.files]
    own = os.environ.get("METERSTREAM_TOPIC") or EVENTS_TOPIC
    # Those of no known topic go with the first; so that is the configured one.
    topics = sorted({each.topic or own for each in left}, key=lambda name: (name != own, name))
    for name in topics:
        if topic in {None, name}:
            part = [each for each in left if (each.topic or own) == name]
            _send(root, name, part, timeout, bootstrap=bootstrap, data=data)
    unreadable = [each for each in _look(root) if each.state == "unreadable"]
    if unreadable:
        raise CommandError(f"{unreadable[0].path} cannot be opened: {unreadable[0].problem}")
    if not topics:
        print(_nothing(root, "nothing is left behind"))


def _send(
    root: Path,
    topic: str,
    left: list[Found],
    timeout: float,
    *,
    bootstrap: str | None,
    data: Path | None,
) -> None:
    from meterstream import Meter  # noqa: PLC0415 - loaded by its command
    from meterstream_services import spools  # noqa: PLC0415 - as above

    def told(delivered: int, directories: int) -> None:
        left = counted(directories, "spool")
        print(f"{topic}: {delivered} delivered, {left} to go", file=sys.stderr)

    named = bootstrap or data
    servers = find_bootstrap(bootstrap=bootstrap, data=data).address if named else None
    with Meter(
        SERVICE, bootstrap_servers=servers, topic=topic, data=data, durability="spool", spool=root
    ) as meter:
        try:
            delivered = spools.send(meter, left, patience_seconds=timeout, told=told)
        except spools.Stuck as problem:
            raise CommandError(str(problem)) from problem
    print(f"{topic}: the log has {counted(delivered, 'event')} of {counted(len(left), 'spool')}")


def _look(root: Path) -> list[Found]:
    from meterstream_services.spools import look  # noqa: PLC0415 - loaded by its command

    return look(root)


def _nothing(root: Path, what: str = "nothing waits") -> str:
    """With the whole path: one that is misspelt looks like one that no event ever needed."""
    there = "" if os.path.lexists(root) else ", which is not there (yet)"
    return f"{what} in {root.absolute()}{there}"


def _root(directory: Path | None, data: Path | None) -> Path:
    named = directory or os.environ.get("METERSTREAM_SPOOL")
    base = data or os.environ.get("METERSTREAM_DATA")
    if not named and not base:
        raise CommandError(
            "no spool is named; pass its directory, or set METERSTREAM_SPOOL or METERSTREAM_DATA",
            status=WRONG_ARGUMENTS,
        )
    return Path(named) if named else Path(base or "") / "spool"


def _row(each: Found) -> list[Any]:
    age = None if each.oldest is None else max(0, int(time.time() - each.oldest))
    return [
        each.producer, each.state, each.entries, each.bytes, each.files, age, each.topic,
        each.problem,
    ]  # fmt: skip
