"""`meterstream accounts import` and `export`: files of any length, in bounded memory.

A file of up to `ROWS_AT_ONCE` rows is imported whole or not at all. A longer one goes in pieces of
that many, each whole or not at all: where one is refused, those before it are in. Importing a file
twice changes nothing, so it is mended and imported again.
"""

from __future__ import annotations

import csv
import io
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer

from meterstream_services.cli import output
from meterstream_services.cli.addresses import DataOption, UrlOption, find_url
from meterstream_services.cli.failures import WRONG_ARGUMENTS, CommandError
from meterstream_services.cli.output import Format, FormatOption

ROWS_AT_ONCE: Final = 20_000
_SAY_SECONDS: Final = 2.0
_TYPES: Final = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".ndjson": "application/x-ndjson",
    ".jsonl": "application/x-ndjson",
}


class _Piece(NamedTuple):
    """Some rows of a file, as a body. ``first`` is how many rows come before."""

    content: bytes
    first: int
    rows: int


def import_accounts(
    *,
    file: Annotated[
        Path, typer.Argument(help="CSV, JSON or NDJSON; see docs/accounts.md for its columns.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check only, keep nothing.")] = False,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """Import accounts and tenants: all rows or none, of long files piece by piece.

    Importing a file twice changes nothing.
    """
    from meterstream_services.client import Api, ApiRefused  # noqa: PLC0415 - loaded by its command

    kind = _TYPES.get(file.suffix.lower())
    if kind is None:
        raise CommandError(
            f"{file}: name it .csv or .json, or .ndjson for an object a line",
            status=WRONG_ARGUMENTS,
        )
    total: Counter[str] = Counter()
    say_at = time.monotonic() + _SAY_SECONDS
    with Api(find_url(url=url, data=data).address) as api:
        for piece in _pieces(file, kind):
            try:
                answer = _send(api, piece.content, kind, dry_run=dry_run)
            except ApiRefused as problem:
                _tell_bad_rows(problem.errors, piece.first, output_format)
                before = f"; the {piece.first} rows before are imported" if piece.first else ""
                told = "" if dry_run else before
                raise CommandError(f"{file}: {problem}{told}") from problem
            total.update({name: n for name, n in answer.items() if type(n) is int})
            if time.monotonic() >= say_at:
                say_at = time.monotonic() + _SAY_SECONDS
                sys.stderr.write(f"{total['rows']} rows\n")
    _print({**total, "dry_run": dry_run}, output_format)


def export_accounts(
    *,
    file: Annotated[
        Path | None, typer.Argument(help="NDJSON file to write; default: standard output.")
    ] = None,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """Write all accounts, mappings, external ids and merges as rows of an import.

    Standard error tells the cursor from which `meterstream accounts changes` goes on.
    """
    from meterstream_services.client import Api  # noqa: PLC0415 - loaded by its command

    with Api(find_url(url=url, data=data).address) as api:
        response = api.send("GET", "/v1/accounts:export")
    if file is None:
        sys.stdout.write(response.text)
    else:
        file.write_bytes(response.content)
    cursor = response.headers.get("meterstream-cursor")
    if cursor is not None:
        sys.stderr.write(f"follow the changes from here: --after {cursor}\n")


def _send(api: Any, content: bytes, kind: str, *, dry_run: bool) -> dict[str, Any]:  # noqa: ANN401 - the API client of a lazy import
    answer: dict[str, Any] = api.send(
        "POST",
        "/v1/accounts:import",
        parameters=[("dry_run", "true")] if dry_run else [],
        content=content,
        headers={"content-type": kind},
    ).json()
    return answer


def _tell_bad_rows(errors: Sequence[Any], first: int, output_format: Format) -> None:
    if not errors or output_format is not Format.TABLE:
        return
    columns = ["row", "field", "value", "reason"]
    rows = [[error.get(name) for name in columns] for error in errors]
    for row in rows:
        if isinstance(row[0], int) and row[0]:
            row[0] += first
    output.print_table(columns, rows, numbers=["row"])


def _print(answer: dict[str, Any], output_format: Format) -> None:
    if output_format is Format.JSON:
        output.print_json(answer)
    elif output_format is Format.CSV:
        output.print_csv(list(answer), [list(answer.values())])
    else:
        output.print_table(list(answer), [list(answer.values())], numbers=list(answer))


def _pieces(file: Path, kind: str) -> Iterator[_Piece]:
    """The file in pieces. What is no CSV or UTF-8 goes as it is: the service says what is wrong."""
    if kind == "application/json":
        yield _Piece(file.read_bytes(), 0, 0)
        return
    yield from _lines_pieces(file) if kind != "text/csv" else _csv_pieces(file)


def _lines_pieces(file: Path) -> Iterator[_Piece]:
    with file.open("rb") as lines:
        first = 0
        for piece in _by(ROWS_AT_ONCE, (line for line in lines if line.strip())):
            if not first and len(piece) < ROWS_AT_ONCE:
                break
            yield _Piece(b"".join(piece), first, len(piece))
            first += len(piece)
    if not first:
        yield _Piece(file.read_bytes(), 0, 0)


def _csv_pieces(file: Path) -> Iterator[_Piece]:
    first = 0
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            header = next(reader, [])
            for rows in _by(ROWS_AT_ONCE, (cells for cells in reader if cells)):
                if not first and len(rows) < ROWS_AT_ONCE:
                    break
                body = io.StringIO(newline="")
                csv.writer(body, lineterminator="\n").writerows([header, *rows])
                yield _Piece(body.getvalue().encode(), first, len(rows))
                first += len(rows)
    except (csv.Error, UnicodeDecodeError) as problem:
        if first:
            raise CommandError(
                f"{file}: behind row {first}: {problem}; the rows before are imported"
            ) from problem
    if not first:
        yield _Piece(file.read_bytes(), 0, 0)


def _by(number: int, items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while piece := list(itertools.islice(iterator, number)):
        yield piece
