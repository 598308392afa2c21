"""`meterstream catalogue`: the ready catalogues, listed, printed and joined."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from meterstream_services.cli.failures import WRONG_ARGUMENTS, CommandError

if TYPE_CHECKING:
    from meterstream_services.catalogues.joining import Document

_UNIMETER: Final = "unimeter"


def catalogue(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Which to print; several become one."),
    ] = None,
    *,
    metering_since: Annotated[
        str | None,
        typer.Option(help="When metering begins, such as 2026-11-01T00:00:00Z."),
    ] = None,
    definitions: Annotated[
        Path | None,
        typer.Option(
            help="File in which clients keep what they define (compat/definitions.json in "
            "METERSTREAM_DATA): adds a meter for each of Unimeter's metrics, and its thresholds."
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Hour from which the meters of --definitions apply; for a store that has counted.",
        ),
    ] = None,
) -> None:
    """List ready catalogues, or print some as one for `--catalogue`."""
    from meterstream_services.catalogues import ready  # noqa: PLC0415 - loaded by its command

    found = ready()
    if not names:
        print("\n".join(found))
        return
    for name in names:
        if name not in found:
            raise CommandError(
                f"no ready catalogue is called {name!r}; there are: {', '.join(found)}",
                status=WRONG_ARGUMENTS,
            )
    if definitions is not None and _UNIMETER not in names:
        raise CommandError(
            "--definitions are of the catalogue unimeter; name it", status=WRONG_ARGUMENTS
        )
    if since is not None and definitions is None:
        raise CommandError(
            "--from dates the meters of --definitions; name that file", status=WRONG_ARGUMENTS
        )
    texts = {name: found[name].read_text("utf-8") for name in dict.fromkeys(names)}
    if len(texts) == 1 and metering_since is None and definitions is None:
        print(*texts.values(), sep="", end="")
        return
    from meterstream_services.catalogues import joining  # noqa: PLC0415 - loaded by its command

    document = joining.joined(texts)
    if definitions is not None:
        begin = None if since is None else _instant(since, "--from")
        joining.add(_of_definitions(definitions, begin), _UNIMETER, document, {})
    if metering_since is not None:
        document["metering_since"] = _instant(metering_since, "--metering-since")
    _print(document, f"meterstream catalogue {' '.join(texts)}")


def _of_definitions(path: Path, since: datetime | None) -> Document:
    """The meters and thresholds of what was defined; those that cannot be are told on stderr."""
    from meterstream.compat.unimeter_catalogue import KIND, entries  # noqa: PLC0415 - as above

    try:
        content = json.loads(path.read_text("utf-8"))
        defined = content.get(KIND, {})
        meters, thresholds, untold = entries(defined, since=since)
    except OSError as problem:
        raise CommandError(f"{path}: cannot be read: {problem.strerror}") from problem
    except (ValueError, AttributeError, TypeError, KeyError) as problem:
        raise CommandError(
            f"{path}: is not a file of definitions; name compat/definitions.json in the directory "
            "that METERSTREAM_DATA names"
        ) from problem
    for sentence in untold:
        typer.echo(f"not watched: {sentence}", err=True)
    return {"meters": meters, "thresholds": thresholds}


def _instant(text: str, option: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise CommandError(
            f"{option} {text}: is not an instant with a zone; write one such as "
            "2026-11-01T00:00:00Z",
            status=WRONG_ARGUMENTS,
        )
    return found


def _print(document: Document, command: str) -> None:
    """A document as YAML, once it is seen to be a catalogue."""
    from meterstream_aggregator.catalogue_file import (  # noqa: PLC0415 - loaded by its command
        parse_catalogue,
    )
    from meterstream_services.catalogues.joining import text_of  # noqa: PLC0415 - as above

    text = text_of(document)
    parse_catalogue(text, source="the printed catalogue")
    print(f"# Printed by `{command}`.\n{text}", end="")
