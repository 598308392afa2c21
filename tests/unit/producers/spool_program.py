"""What the tests of the spool run in processes of their own.

``append ROOT PRODUCER [fsync]`` appends payloads until it is killed and prints the number of each
that is in the spool. ``hold ROOT PRODUCER`` makes a spool, appends one payload, says so, and waits
for the end of its input. ``adopt DIRECTORY`` prints what it finds, or that the spool is held.
"""

from __future__ import annotations

import sys
from pathlib import Path

from meterstream.spool import Spool

_BYTES_MAX = 2**26


def main() -> None:
    """Do what the arguments say."""
    command, where, *rest = sys.argv[1:]
    if command == "append":
        _append(Path(where), rest[0], fsync="fsync" in rest)
    elif command == "hold":
        spool = Spool.create(Path(where), rest[0], bytes_max=_BYTES_MAX)
        spool.append([b"held"])
        _say("held")
        sys.stdin.read()
    else:
        spool_or_none = Spool.adopt(Path(where))
        found = spool_or_none.read(0, 10) if spool_or_none else "held"
        _say(found)


def _append(root: Path, producer: str, *, fsync: bool) -> None:
    spool = Spool.create(root, producer, bytes_max=_BYTES_MAX, segment_bytes=20_000, fsync=fsync)
    number = 0
    while True:
        group = [b"payload %d" % (number + more) for more in range(1 + number % 5)]
        spool.append(group)
        number += len(group)
        _say(number)


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
