"""Bulk import: a CSV or JSON file to changes of the directory. Pure; one bad row spoils the import.

A row names an account, a tenant, or both, in these columns (CSV) or keys (JSON, a list of objects):

=================  ==============================================================================
``account``        the account's id; made if it is not there. Empty beside a tenant: mapped to none
``name`` ``zone``  of the account, as ``billing_anchor``, ``status``; empty or absent leaves what
                   is stored
``label.NAME``     a label (JSON: ``labels``, an object); the labels given replace all that were
``external.NAME``  the account's id in the system of that name (JSON: ``external_ids``, an object
                   of a text or a list of texts each)
``merged_into``    the account that takes its place from ``from`` on, for its tenants then
``tenant``         belongs to the account
``from``           from this instant on, ISO 8601 with offset (a date: midnight UTC); empty: from
                   the beginning, where nothing else is known of the tenant
=================  ==============================================================================

Rows count from 1, a CSV's header not among them. Importing a file twice changes nothing. Merges
come after everything else in a file, wherever they stand in it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Any, Final

import yaml

from meterstream_services.accounts.import_rows import (
    BAD_ROWS_MAX,
    FIELDS,
    ROWS_MAX,
    BadRow,
    Flawed,
    Import,
    InvalidImport,
    read_rows,
    whole_file,
)

__all__ = [
    "BAD_ROWS_MAX",
    "ROWS_MAX",
    "BadRow",
    "Import",
    "InvalidImport",
    "read_csv",
    "read_json",
    "read_json_lines",
    "read_yaml",
]

_LABEL: Final = "label."
_EXTERNAL: Final = "external."


def read_csv(content: bytes) -> Import:
    """The changes in a CSV file (UTF-8, with a header). Raises `InvalidImport`."""
    reader = csv.reader(io.StringIO(_text(content), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(header)
        return read_rows(_csv_rows(reader, header))
    except csv.Error as problem:
        raise whole_file(f"line {reader.line_num}", f"is not CSV: {problem}") from None


def read_json(content: bytes) -> Import:
    """The changes in a JSON list of objects. Raises `InvalidImport`."""
    try:
        rows: Any = json.loads(_text(content))
    except (ValueError, RecursionError) as problem:
        raise whole_file("the body", f"is not JSON: {problem}") from None
    if not isinstance(rows, list):
        raise whole_file(type(rows).__name__, "is not a list of rows; send [{...}, ...]")
    return read_rows(enumerate(rows, 1))


def read_json_lines(content: bytes) -> Import:
    """The changes in a file of one JSON object a line. Raises `InvalidImport`."""
    return read_rows(enumerate(_lines(_text(content)), 1))


def read_yaml(content: bytes) -> Import:
    """The changes in a YAML list of objects. Raises `InvalidImport`."""
    try:
        rows: Any = yaml.safe_load(_text(content))
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        raise whole_file("the file", f"is not YAML: {' '.join(str(problem).split())}") from None
    if not isinstance(rows, list):
        raise whole_file(type(rows).__name__, "is not a list of rows; write - {account: ...}")
    return read_rows(enumerate(map(_plain, rows), 1))


def _lines(text: str) -> Iterator[object]:
    for line in text.split("\n"):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                yield line


def _plain(row: object) -> object:
    """A row of YAML, whose dates are no texts."""
    if not isinstance(row, dict):
        return row
    return {
        name: value.isoformat() if isinstance(value, date | datetime) else value
        for name, value in row.items()
    }


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise whole_file(f"byte {problem.start}", "is not UTF-8; save the file as UTF-8") from None


def _check_header(header: Sequence[str]) -> None:
    if not header:
        raise whole_file("the file", f"has no header; begin with {', '.join(FIELDS)}")
    for name in header:
        free = name.startswith((_LABEL, _EXTERNAL)) and name not in {_LABEL, _EXTERNAL}
        if name not in FIELDS and not free:
            known = ", ".join((*FIELDS, "label.NAME", "external.NAME"))
            raise whole_file(name, f"is no column here; there are {known}")
        if header.count(name) > 1:
            raise whole_file(name, "is there twice in the header; name each column once")


def _csv_rows(reader: Iterator[list[str]], header: list[str]) -> Iterator[tuple[int, Any]]:
    fields = [(at, name) for at, name in enumerate(header) if name in FIELDS]
    labels, externals = (
        [
            (at, name.removeprefix(prefix))
            for at, name in enumerate(header)
            if name.startswith(prefix)
        ]
        for prefix in (_LABEL, _EXTERNAL)
    )
    row = 0
    for cells in reader:
        if not cells:
            continue
        row += 1
        if len(cells) != len(header):
            yield row, Flawed("", str(len(cells)), f"cells, the header has {len(header)}")
            continue
        given: dict[str, object] = {name: cells[at] for at, name in fields}
        if found := {name: cells[at] for at, name in labels if cells[at]}:
            given["labels"] = found
        if found := {name: cells[at] for at, name in externals if cells[at]}:
            given["external_ids"] = found
        yield row, given
