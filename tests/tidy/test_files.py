"""What may stand in this repository's files, whatever their kind."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Final

from tests.tidy.sources import ROOT, files

FILE_BYTES_MAX: Final = 500_000

# Registries are named (PyPI, Maven Central), their hosts are configuration of whoever installs.
_REGISTRY_HOST: Final = re.compile(
    r"https?://[\w.-]*(?:pypi|pythonhosted|maven|npmjs|crates|rubygems|proxy\.golang)[\w.-]*\.\w+"
)
_SHARED_PLACES: Final = {"/", "/home", "/root", "/Users", "/tmp", tempfile.gettempdir()}


def test_no_file_knows_this_machine() -> None:
    """No path of the machine where it was written: not of the tree, not of a home."""
    places = {str(ROOT), str(ROOT.parent), str(Path.home())} - _SHARED_PLACES
    path_here = re.compile(rf"(?<![\w.])(?:{'|'.join(map(re.escape, sorted(places)))})/[a-zA-Z.]")

    found = _lines_with(path_here)
    assert not found, "\n".join(found)


def test_no_file_names_a_registry_host() -> None:
    """Nobody's mirror, proxy or registry is written down."""
    found = _lines_with(_REGISTRY_HOST)
    assert not found, "\n".join(found)


def test_files_are_small() -> None:
    """Nothing large is kept in the tree: data are fetched or made."""
    large = [path.name for path in files() if path.stat().st_size > FILE_BYTES_MAX]

    assert not large, "\n".join(large)


def test_text_files_end_with_one_newline() -> None:
    """A text file ends with a line end, and has no trailing blank lines."""
    unclean = [
        path.relative_to(ROOT).as_posix()
        for path in files()
        if (text := _text(path)) and (not text.endswith("\n") or text.endswith("\n\n"))
    ]

    assert not unclean, "\n".join(unclean)


def _lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in files()
        for number, line in enumerate(_text(path).splitlines(), start=1)
        if pattern.search(line)
    ]


def _text(path: Path) -> str:
    """The file's text, empty for one that holds none."""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        return ""
