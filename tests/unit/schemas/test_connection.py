"""The file connection.toml: written in one step, read or named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_schemas.connection import Connection, read_connection, write_connection

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Both addresses come back, and nothing else is left in the directory."""
    connection = Connection("127.0.0.1:9092,[::1]:9092", "http://127.0.0.1:8000")

    path = write_connection(tmp_path, connection)

    assert read_connection(tmp_path) == connection
    assert list(tmp_path.iterdir()) == [path]


def test_no_file_is_no_connection(tmp_path: Path) -> None:
    """A directory where nothing runs says so without an error."""
    assert read_connection(tmp_path) is None
    assert read_connection(tmp_path / "missing") is None


@pytest.mark.parametrize("content", [b"= nonsense", b"\xff\xfe", b'bootstrap_servers = "x'])
def test_a_file_that_cannot_be_understood_is_named(tmp_path: Path, content: bytes) -> None:
    """The error leads to the file."""
    (tmp_path / "connection.toml").write_bytes(content)

    with pytest.raises(ValueError, match=r"connection\.toml: not a readable connection file"):
        read_connection(tmp_path)


def test_a_part_that_does_not_run_has_no_address(tmp_path: Path) -> None:
    """Missing entries read as empty text."""
    (tmp_path / "connection.toml").write_text('url = "http://127.0.0.1:1"\n')

    assert read_connection(tmp_path) == Connection("", "http://127.0.0.1:1")
