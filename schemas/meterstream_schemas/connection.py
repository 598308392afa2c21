"""``connection.toml``: how processes on one machine find each other's addresses.

``meterstream up --data DIR`` writes ``DIR/connection.toml`` when everything is ready; the SDK and
the command line read it when nothing else names a broker or a URL.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final, NamedTuple

FILE_NAME: Final = "connection.toml"


class Connection(NamedTuple):
    """Addresses of a running meterstream. Empty text where a part does not run."""

    bootstrap_servers: str
    url: str


def read_connection(directory: Path) -> Connection | None:
    """The connection that ``up`` left in ``directory``, or None where there is no such file.

    Raises `ValueError` with the file's name when the file is there and is not understood.
    """
    path = directory / FILE_NAME
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ValueError(f"{path}: not a readable connection file: {problem}") from problem
    return Connection(
        bootstrap_servers=str(content.get("bootstrap_servers", "")), url=str(content.get("url", ""))
    )


def write_connection(directory: Path, connection: Connection) -> Path:
    """Write the file in one step: a reader sees the old one or the new one, never half of it."""
    path = directory / FILE_NAME
    partial = path.with_suffix(".partial")
    partial.write_text(
        f'bootstrap_servers = "{connection.bootstrap_servers}"\nurl = "{connection.url}"\n', "utf-8"
    )
    partial.replace(path)
    return path
