"""Where a spool's entries go: ``route.json`` beside its segments, with topic and partitions."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from meterstream.durability import SpoolPolicy

_ROUTE: Final = "route.json"


def write_route(directory: Path, policy: SpoolPolicy, partitions: int | None) -> None:
    """Say where a spool's entries go. Raises OSError."""
    path = directory / _ROUTE
    draft = directory / f"{_ROUTE}.new"
    data = json.dumps({"topic": policy.topic, "partitions": partitions}).encode()
    try:
        _write(draft, os.O_CREAT | os.O_TRUNC, data, fsync=policy.fsync)
        draft.replace(path)
    except OSError:
        if not path.exists():
            raise
        # On a full disk, over what is there, which is as long: sending is what makes room.
        _write(path, 0, data.ljust(path.stat().st_size), fsync=policy.fsync)
    if policy.fsync:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write(path: Path, flags: int, data: bytes, *, fsync: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
    try:
        if os.pwrite(descriptor, data, 0) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if fsync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_route(directory: Path) -> tuple[str | None, int | None]:
    """Topic and partitions of a spool; None for what is not known."""
    try:
        told = json.loads((directory / _ROUTE).read_bytes())
        topic, partitions = told["topic"], told["partitions"]
    except (OSError, ValueError, KeyError, TypeError):
        return None, None
    return (
        topic if isinstance(topic, str) else None,
        partitions if isinstance(partitions, int) and partitions > 0 else None,
    )
