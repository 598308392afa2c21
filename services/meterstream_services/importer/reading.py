"""Rows of a file, one at a time: CSV and JSON lines, plain or gzip, in constant memory.

A fault inside one row is that row's (`RowRefused` in ``Row.problem``), a fault of the file ends the
reading with `FileUnreadable`. Row numbers count records from 1, the header is not one.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeGuard, cast

from meterstream_services.importer.errors import FileUnreadable, MappingError, RowRefused
from meterstream_services.importer.identity import content_of

if TYPE_CHECKING:
    from pathlib import Path

LINE_BYTES_MAX: Final = 1_048_576
"""Longest JSON line. A longer one is refused as one row."""
_GZIP_MAGIC: Final = b"\x1f\x8b"
_UTF8_MARK: Final = b"\xef\xbb\xbf"
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


class Layout(StrEnum):
    """How a file holds its rows."""

    CSV = "csv"
    JSONL = "jsonl"


Cells = Any
"""The cells of one row: a list for CSV, a mapping for JSON lines. Only a `Cell` reads them."""


class Row(NamedTuple):
    """One record. ``content`` is what its identity is made from; ``problem`` refuses it whole."""

    number: int
    line: int
    cells: Cells
    content: str
    problem: RowRefused | None = None


Cell = Callable[[Cells], str | None]
"""Reads one column from ``Row.cells``: None when it is empty or absent. Raises `RowRefused`."""


class RowFile:
    """An open file of rows. Iterate once; a context manager closes it. Not thread-safe."""

    def __init__(
        self, path: Path, *, layout: Layout | None = None, delimiter: str | None = None
    ) -> None:
        """Open ``path`` and read its header. Raises `FileUnreadable`."""
        self.path = path
        try:
            self._raw = path.open("rb")
            self.bytes_total = path.stat().st_size
            start = self._raw.peek(4)[:4]
        except OSError as problem:
            raise FileUnreadable(f"{path}: cannot be read: {problem.strerror}") from problem
        self._bytes = self._opened(start)
        self._columns: list[str] | None = None
        try:
            head = self._head()
            self.layout = layout or _guessed(path, head)
            if self.layout is Layout.CSV:
                self._text = io.TextIOWrapper(
                    self._bytes, "utf-8-sig", errors="surrogateescape", newline=""
                )
                self._reader = csv.reader(
                    self._text, delimiter=delimiter or _delimiter(path), strict=True
                )
                self._columns = self._header()
        except BaseException:
            self.close()
            raise

    @property
    def bytes_read(self) -> int:
        """How far the file on disk was read, for progress: compressed bytes of a ``.gz``."""
        return self._raw.tell()

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cell(self, column: str) -> Cell:
        """A reader of one column. Raises `MappingError` when a CSV header has not just one."""
        if self._columns is None:
            return _json_cell(column)
        occurrences = self._columns.count(column)
        if occurrences == 0:
            names = ", ".join(self._columns)
            raise MappingError(f"{self.path}: has no column {column!r}; its columns are: {names}")
        if occurrences > 1:
            raise MappingError(
                f"{self.path}: {occurrences} columns are called {column!r}; rename one of them"
            )
        index = self._columns.index(column)
        return lambda cells: cast("list[str]", cells)[index] or None

    def __iter__(self) -> Iterator[Row]:
        """The rows. Raises `FileUnreadable` where the file breaks off."""
        rows = self._json_rows() if self._columns is None else self._csv_rows(len(self._columns))
        try:
            yield from rows
        except (OSError, EOFError, zlib.error) as problem:
            raise FileUnreadable(f"{self.path}: cannot be read further: {problem}") from problem

    def _opened(self, start: bytes) -> IO[bytes]:
        if start[:2] == _GZIP_MAGIC:
            return cast("IO[bytes]", gzip.GzipFile(fileobj=self._raw, mode="rb"))
        return self._raw

    def _head(self) -> bytes:
        try:
            head = cast("io.BufferedReader", self._bytes).peek(64)[:64]
        except (OSError, EOFError, zlib.error) as problem:
            raise FileUnreadable(
                f"{self.path}: is not a readable gzip file: {problem}"
            ) from problem
        if not head:
            raise FileUnreadable(f"{self.path}: is empty; it needs at least a header or one record")
        if head[:2] in _UTF16_MARKS:
            raise FileUnreadable(f"{self.path}: is UTF-16 text; save it as UTF-8")
        return head

    def _header(self) -> list[str]:
        try:
            columns = next((row for row in self._reader if row), [])
        except (csv.Error, OSError, EOFError, zlib.error) as problem:
            raise FileUnreadable(f"{self.path}: its header cannot be read: {problem}") from problem
        if not columns:
            raise FileUnreadable(f"{self.path}: holds no header; its first line names the columns")
        return [column.strip() for column in columns]

    def _csv_rows(self, width: int) -> Iterator[Row]:
        number = 0
        while True:
            line = self._reader.line_num + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as problem:
                number += 1
                yield Row(number, line, [], "", RowRefused("", "", f"is not CSV: {problem}"))
                continue
            if not cells:
                continue
            number += 1
            content = content_of(cells)
            fault = None
            if len(cells) != width:
                reason = f"has {len(cells)} cells where the header has {width}"
                fault = RowRefused("", "", reason)
            elif not content.isascii():
                fault = _not_utf8(cells)
            yield Row(number, line, cells, content, fault)

    def _json_rows(self) -> Iterator[Row]:
        number = line = 0
        if self._bytes.read(3) != _UTF8_MARK:
            self._bytes.seek(0)
        while chunk := self._bytes.readline(LINE_BYTES_MAX + 1):
            line += 1
            too_long = len(chunk) > LINE_BYTES_MAX
            rest = chunk
            while too_long and rest and not rest.endswith(b"\n"):
                rest = self._bytes.readline(LINE_BYTES_MAX)
            if not (content := chunk.strip()):
                continue
            number += 1
            if too_long:
                problem = RowRefused("", "", f"is longer than {LINE_BYTES_MAX} bytes")
                yield Row(number, line, {}, "", problem)
            else:
                yield _json_row(number, line, content)


def _guessed(path: Path, head: bytes) -> Layout:
    suffixes = {suffix.lower() for suffix in path.suffixes[-2:]}
    if suffixes & {".jsonl", ".ndjson", ".json"}:
        return Layout.JSONL
    if suffixes & {".csv", ".tsv"}:
        return Layout.CSV
    return Layout.JSONL if head.removeprefix(_UTF8_MARK).lstrip()[:1] == b"{" else Layout.CSV


def _delimiter(path: Path) -> str:
    return "\t" if ".tsv" in {suffix.lower() for suffix in path.suffixes[-2:]} else ","


def _not_utf8(cells: list[str]) -> RowRefused | None:
    for cell in cells:
        if any("\udc80" <= character <= "\udcff" for character in cell):
            shown = cell.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            return RowRefused(
                "", shown[:80], "holds bytes that are not UTF-8; save the file as UTF-8"
            )
    return None


def _json_row(number: int, line: int, content: bytes) -> Row:
    try:
        # Numbers stay the text they are: a float would lose digits of a quantity.
        text = content.decode("utf-8")
        record = json.loads(text, parse_int=str, parse_float=str, parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        shown = content[:80].decode("utf-8", "replace")
        return Row(number, line, {}, "", RowRefused("", shown, f"is not JSON: {problem}"))
    if not isinstance(record, dict):
        return Row(number, line, {}, "", RowRefused("", text[:80], "is not a JSON object"))
    return Row(number, line, record, text)


def _no_constant(name: str) -> str:
    raise ValueError(f"{name} is not a number that can be kept exactly")


def _json_cell(column: str) -> Cell:
    path = column.split(".")

    def cell(record: Mapping[str, object]) -> str | None:
        value: object = record
        if column in record:
            value = record[column]
        else:
            for name in path:
                value = value.get(name) if _is_object(value) else None
        if value is None or value == "":
            return None
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            return "true" if value else "false"
        raise RowRefused(
            column, str(value)[:80], "is a list or an object; name a plain value in it"
        )

    return cell


def _is_object(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, dict)
