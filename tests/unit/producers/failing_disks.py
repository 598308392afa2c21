"""What tests of failing disks share: spools that were left behind, damage and errors."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING, Any, Final

from meterstream.memory import MemoryTransport
from tests.unit.producers.calling import record_many
from tests.unit.producers.reading import arrived, numbers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from meterstream import Meter
    from tests.unit.producers.conftest import MakeMeter

MANY: Final = 2_000


def count_of(transport: MemoryTransport, producer: str) -> int:
    """How many different numbers of a producer are in the log, without a hole below the highest."""
    count = 0
    for (found, _), sequences in numbers(arrived(transport)).items():
        if found == producer:
            assert sorted(set(sequences)) == list(range(1, len(set(sequences)) + 1))
            count += len(set(sequences))
    return count


def left(make_meter: MakeMeter, root: Path, count: int = MANY, **settings: Any) -> Meter:  # noqa: ANN401 - as MakeMeter
    """A meter that is closed, with everything on disk."""
    gone = MemoryTransport()
    gone.available = False
    meter = make_meter(durability="spool", spool=root, transport=gone, **settings)
    record_many(meter, count)
    assert meter.flush(30, to="disk")
    meter.close(0)
    assert meter.status().spooled == count
    return meter


def remove(path: Path) -> None:
    """Delete a directory that somebody writes to."""
    while path.exists():
        shutil.rmtree(path, ignore_errors=True)


def damage(path: Path) -> None:
    """Turn some bits in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)


def failing(number: int = errno.EIO) -> Callable[..., Any]:
    """A call that always answers with an error of the system."""

    def fail(*_arguments: object, **_named: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail
