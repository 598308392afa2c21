"""Rows of CSV and JSON lines files, whole and broken."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from meterstream_services.importer.errors import FileUnreadable, MappingError, RowRefused
from meterstream_services.importer.reading import LINE_BYTES_MAX, Layout, Row, RowFile

if TYPE_CHECKING:
    from pathlib import Path


def rows_of(path: Path, column: str) -> list[tuple[int, int, str | None]]:
    """Number, line and one cell of every row; a refused row shows its reason."""
    with RowFile(path) as rows:
        cell = rows.cell(column)
        return [(row.number, row.line, _shown(row, cell)) for row in rows]


def _shown(row: Row, cell: object) -> str | None:
    if row.problem:
        return f"! {row.problem.reason}"
    assert callable(cell)
    try:
        text = cell(row.cells)
    except RowRefused as problem:
        return f"! {problem.reason}"
    assert text is None or isinstance(text, str)
    return text


def write(directory: Path, name: str, content: bytes | str) -> Path:
    """A file with this content."""
    path = directory / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_csv_rows_are_numbered_after_the_header(tmp_path: Path) -> None:
    """Quoted cells may hold delimiters and line breaks; the line is where the row begins."""
    path = write(tmp_path, "a.csv", 'x,y\n1,"a,b"\n2,"c\nd"\n\n3,\n')

    assert rows_of(path, "y") == [(1, 2, "a,b"), (2, 3, "c\nd"), (3, 6, None)]


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv"])
def test_gzip_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    """A gzip file is read whatever it is called."""
    path = write(tmp_path, name, gzip.compress(b"x,y\n1,2\n"))

    assert rows_of(path, "y") == [(1, 2, "2")]


def test_bad_rows_do_not_stop_good_ones(tmp_path: Path) -> None:
    """Rows with too few cells, wild quotes or bytes that are no UTF-8 are refused one by one."""
    path = write(tmp_path, "a.csv", b'x,y\n1\n2,3,4\n"a"b,5\n\xff,6\n7,8\n')

    assert rows_of(path, "y") == [
        (1, 2, "! has 1 cells where the header has 2"),
        (2, 3, "! has 3 cells where the header has 2"),
        (3, 4, "! is not CSV: ',' expected after '\"'"),
        (4, 5, "! holds bytes that are not UTF-8; save the file as UTF-8"),
        (5, 6, "8"),
    ]


def test_json_lines_keep_every_digit(tmp_path: Path) -> None:
    """Numbers come out as the text they were; nested values are reached by a dotted name."""
    path = write(
        tmp_path,
        "a.jsonl",
        '{"n": 12345678901234567890.123456789, "u": {"t": 1}, "a.b": 2}\n'
        '\n{"n": true}\r\n{"n": null}\n',
    )

    assert rows_of(path, "n") == [
        (1, 1, "12345678901234567890.123456789"),
        (2, 3, "true"),
        (3, 4, None),
    ]
    assert [cell for _, _, cell in rows_of(path, "u.t")] == ["1", None, None]
    assert [cell for _, _, cell in rows_of(path, "a.b")] == ["2", None, None]


def test_broken_json_lines_are_refused_one_by_one(tmp_path: Path) -> None:
    """Half objects, lists, NaN, deep nesting and endless lines cost their own row only."""
    long = b'{"n": "' + b"x" * LINE_BYTES_MAX + b'"}'
    deep = b'{"n": ' + b"[" * 100_000 + b"}"
    content = [b'{"n": ', b"[1]", b'{"n": NaN}', deep, long, b'{"n": [1]}', b"\xff", b'{"n": 1}']
    path = write(tmp_path, "a.jsonl", b"\n".join(content))

    cells = [cell for _, _, cell in rows_of(path, "n")]

    assert [str(cell)[:12] for cell in cells[:7]] == [
        "! is not JSO", "! is not a J", "! is not JSO", "! is not JSO", "! is longer ",
        "! is a list ", "! is not JSO",
    ]  # fmt: skip
    assert cells[7] == "1"


def test_the_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    """UTF-8 files from spreadsheets begin with a mark that is skipped."""
    mark = b"\xef\xbb\xbf"

    assert rows_of(write(tmp_path, "a.csv", mark + b"x\n1\n"), "x") == [(1, 2, "1")]
    assert rows_of(write(tmp_path, "b", mark + b'{"x": 1}\n'), "x") == [(1, 1, "1")]


@pytest.mark.parametrize(
    ("name", "content", "layout"),
    [
        ("a.ndjson", b"{}\n", Layout.JSONL),
        ("a.json.gz", gzip.compress(b"{}\n", mtime=0), Layout.JSONL),
        ("export", b'{"x": 1}\n', Layout.JSONL),
        ("export", b"x,y\n", Layout.CSV),
        ("a.tsv", b"x\ty\n", Layout.CSV),
    ],
)
def test_the_layout_is_guessed(tmp_path: Path, name: str, content: bytes, layout: Layout) -> None:
    """The name decides; where it says nothing, the first character does."""
    with RowFile(write(tmp_path, name, content)) as rows:
        assert rows.layout is layout


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"\n\n", "holds no header"),
        ("x,y\n".encode("utf-16"), "UTF-16"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (b"\x1f\x8bgarbage", "gzip"),
    ],
)
def test_files_that_hold_no_rows(tmp_path: Path, content: bytes, sentence: str) -> None:
    """A file without a header or in another encoding is refused with its name."""
    with pytest.raises(FileUnreadable, match=sentence):
        RowFile(write(tmp_path, "a.csv", content))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    """A missing file and a directory are refused with their names."""
    with pytest.raises(FileUnreadable, match=r"missing\.csv"):
        RowFile(tmp_path / "missing.csv")
    with pytest.raises(FileUnreadable, match="directory"):
        RowFile(tmp_path)


def test_a_gzip_file_cut_short_gives_its_rows_and_then_the_fault(tmp_path: Path) -> None:
    """What could be read is handed out before the error."""
    whole = gzip.compress(b"x,y\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(100_000)))
    path = write(tmp_path, "a.csv.gz", whole[: len(whole) // 2])

    numbers: list[int] = []
    with RowFile(path) as rows, pytest.raises(FileUnreadable, match="cannot be read further"):
        numbers.extend(row.number for row in rows)

    assert len(numbers) > 1000


def test_a_column_must_be_there_once(tmp_path: Path) -> None:
    """A missing or doubled column is refused before any row is read."""
    with RowFile(write(tmp_path, "a.csv", "x,y,y\n1,2,3\n")) as rows:
        with pytest.raises(MappingError, match="no column 'z'; its columns are: x, y, y"):
            rows.cell("z")
        with pytest.raises(MappingError, match="2 columns are called 'y'"):
            rows.cell("y")
