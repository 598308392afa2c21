"""Turns itself into another program that ends when its parent does.

Run as a script, before the broker's JVM or the database: ``python -I -S launch.py
PARENT[:SIGNAL[:USER:GROUP]] PROGRAM ARGUMENT...``. It becomes the user of that number, asks the
kernel for a SIGNAL (by default SIGTERM) at the parent's death, which another user would undo, and
then becomes the program, keeping its process id. A trampoline, because code between fork and exec
in a parent with threads may deadlock.

Linux only: elsewhere the program starts without the tie, and outlives a parent killed by SIGKILL.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>


def main(arguments: list[str]) -> None:
    """Tie this process to its parent and become the program. Does not return."""
    parent, *told = [int(part) for part in arguments[0].split(":")]
    number, user, program = told[0] if told else signal.SIGTERM, told[1:], arguments[1:]
    if user:
        os.setgroups([])
        os.setgid(user[1])
        os.setuid(user[0])
    if sys.platform == "linux":
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        # The parent may have died before the call: then nobody would ever send the signal.
        if os.getppid() != parent:
            sys.exit(0)
    os.execv(program[0], program)  # noqa: S606 - becoming the program is the purpose


if __name__ == "__main__":
    main(sys.argv[1:])
