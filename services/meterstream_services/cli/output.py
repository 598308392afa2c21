"""Answers on stdout: tables for people, JSON and CSV for programs.

Three rules about hostile text, since tenants choose their own names:

1. In a table a character that is not printable is shown as an escape, so that no name can move the
   cursor or recolour the terminal.
2. In CSV a text that a spreadsheet would run as a formula (it begins with ``=``, ``+``, ``-``,
   ``@``, tab or carriage return) gets an apostrophe in front, as spreadsheets themselves write
   "this is text". Numbers are never touched.
3. JSON is exact. A program that must have every byte of a name reads JSON.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class Format(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


FormatOption = Annotated[
    Format, typer.Option("--format", help="table for people, json or csv for programs.")
]


def print_json(document: object) -> None:
    """A document of ours, one line, keys in their order."""
    print(json.dumps(document, ensure_ascii=False))


def print_json_bytes(answer: bytes) -> None:
    """An answer of the API, byte for byte, and a line end."""
    sys.stdout.flush()
    sys.stdout.buffer.write(answer.rstrip(b"\n") + b"\n")
    sys.stdout.buffer.flush()


def parsed(answer: bytes) -> Any:  # noqa: ANN401 - the caller says what it expects
    """The JSON document in an answer."""
    return json.loads(answer)


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows as CSV with a header; see the rules above for texts."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([_inert(column) for column in columns])
    for row in rows:
        writer.writerow([_inert(cell) if isinstance(cell, str) else cell for cell in row])


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Iterable[str] = (),
    title: str = "",
) -> None:
    """Rows as a table; the columns in ``numbers`` are set to the right."""
    # Imported here: only people's answers need it, and it takes its time.
    from rich import box  # noqa: PLC0415 - loaded by its command
    from rich.console import Console  # noqa: PLC0415 - loaded by its command
    from rich.table import Table  # noqa: PLC0415 - loaded by its command
    from rich.text import Text  # noqa: PLC0415 - loaded by its command

    table = Table(box=box.SIMPLE_HEAD, title=Text(shown(title)) if title else None)
    right = set(numbers)
    for column in columns:
        table.add_column(
            Text(shown(column)), justify="right" if column in right else "left", overflow="fold"
        )
    for row in rows:
        # Text, not str: rich would read [brackets] in a tenant's name as markup.
        table.add_row(*(Text(shown(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 200)  # a pipe has no width that lines must fit
    console.print(table)


def shown(value: object) -> str:
    """A value as a cell of a table: nothing for None, escapes for what is not printable."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def grouped(value: object) -> str:
    """Decimal text with thin groups of three before the point: ``18,059,974.5``."""
    text = str(value)
    sign = "-" if text.startswith("-") else ""
    whole, point, fraction = text.removeprefix("-").partition(".")
    return f"{sign}{int(whole):,}{point}{fraction}" if whole.isdigit() else text


def number(text: str) -> Numeric:
    """Decimal text for `print_csv`: it is a number and must not be taken for a formula."""
    return Numeric(text)


class Numeric:
    """Decimal text that prints as it is, in CSV too."""

    def __init__(self, text: Any) -> None:  # noqa: ANN401 - whatever the API answered
        self._text = str(text)

    def __str__(self) -> str:
        return self._text


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
